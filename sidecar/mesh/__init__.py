"""
The language of a mesh: a directory of files becomes one configuration file for each service. *Cold, pure.*

Enters: the bytes of the mesh's files. Leaves: a `mesh.Mesh` (`read`), for each service the file that its sidecars get,
with the way back from a place in it to the mesh's files (`compile.service`), and every problem at its place
(`read`, `verify`). Comes in: the control plane and `cli`; no process that serves requests may import this room.
"""
