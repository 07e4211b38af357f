"""
From the mesh to the file of one service's sidecars. *Cold, pure.*

Enters: a `mesh.Mesh` and the name of a service. Leaves: YAML text that `sidecar check` takes, its hash, and the place
in the mesh's files of each value in it. Comes in: `mesh`, the control plane and `cli`; `service.py` is the door.
"""
