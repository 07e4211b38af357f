"""
Commands about who is who in a mesh: its authority and join tokens. *Cold.*

Enters: arguments of the command line. Leaves: what the authority says, for people or as JSON. Comes in: the table of
`cli.mesh.commands` alone; `engine.py` is what `sidecar control` takes of it.
"""
