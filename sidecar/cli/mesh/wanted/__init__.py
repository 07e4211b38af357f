"""
The commands that change what is wanted of a mesh, `push`, `rollback`, `hurry`, and `diff`, which says what a push would
change, and what its sidecars say of that; and how changes are told. *Cold.*

Enters: a directory, a revision, names of services. Leaves: what the control plane answered, for people or as JSON.
Comes in: the table of `sidecar mesh`.
"""
