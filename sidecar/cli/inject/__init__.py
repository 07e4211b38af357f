"""
`sidecar inject`: a sidecar put into manifests, or taken out of them. *Cold.*

Enters: files and options. Leaves: the same files with a sidecar in them, lines for people, an exit code. Who may come
in: the table of commands, by name.
"""
