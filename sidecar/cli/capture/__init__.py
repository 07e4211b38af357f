"""
`sidecar capture ...`: the rules that lead an app's connections to its sidecar. *Cold.*

Enters: options. Leaves: lines for people, and an exit code. Who may come in: the table of commands, by name.
"""
