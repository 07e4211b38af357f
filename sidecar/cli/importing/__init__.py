"""
`sidecar import ...`: what people have of other meshes, as the files of ours. *Cold.*

Enters: files. Leaves: a directory of a mesh, a report, and an exit code. Who may come in: the table of commands, by
name.
"""
