"""
The control plane: follows the mesh's source, says to every sidecar what to do, and shows what runs where.

What enters: the mesh's files, sidecars' registrations and reports, an operator's questions. What leaves:
configurations, endpoints, and the page with its JSON. Only `sidecar control` comes in here; a sidecar's own process
never does.
"""
