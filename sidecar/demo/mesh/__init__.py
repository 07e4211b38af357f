"""
The demonstration of a mesh: a control plane, services with a sidecar beside each instance, one outside of the mesh.

No sidecar has a routing file of its own: each is started with the control plane's address, its service's name, and the
ports of this machine. What they do stands in a directory of the mesh, which is there to be edited. Enters: how long
and how fast. Leaves: lines of what happens, or a verdict on each claim. Who may come in: `cli.demo`, by `show`.
"""
