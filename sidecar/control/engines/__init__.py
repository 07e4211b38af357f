"""
Where a control plane keeps what outlives it, and shares it with its replicas: one engine at a time (`interface`).

Enters: what a replica knows at first hand (registrations of the sidecars that talk to it, its part of the rollout).
Leaves: the mesh's files, and what the other replicas know, as streams of changes. Who may come in: `control.start`,
which chooses one; everything else knows only the interface.
"""
