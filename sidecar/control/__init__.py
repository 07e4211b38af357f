"""
The control plane: it tells every sidecar of a mesh what to do, and shows what all of them do. *A process of its own.*

Enters: the mesh's files by an engine, what sidecars report, what else is known of endpoints. Leaves: to each sidecar
its file and its endpoints, as lines of a stream; to people, JSON and a page. No request of an app ever passes here,
and nothing that fails here ends, stalls or empties a data path: docs/mesh-control.md. Who may come in: `cli`. A
sidecar's process imports none of it.
"""
