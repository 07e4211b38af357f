"""
`sidecar mesh`: the commands about a mesh, a file each. *Cold.*

Enters: arguments of the command line. Leaves: what `mesh` says of a directory, for people or as JSON. Comes in: `cli`'s
table alone; `commands.py` has the table of these.
"""
