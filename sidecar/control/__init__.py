"""
The control plane: which file each sidecar should run, and where its upstreams are. *Never in a sidecar's own process.*

`rollout` decides who gets which file when. Enters: the mesh's files and what sidecars report. Leaves: a file and
endpoints for each of them, and what people are shown. Who may come in: `cli`.
"""
