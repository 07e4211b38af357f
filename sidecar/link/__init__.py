"""
The sidecar's side of the mesh: it hears from a control plane what to do, and tells it what it does. *Cold.*

Enters: where the control plane is and who this is. Leaves: files and endpoints that were pushed, for `loader` and
`upstream.discovery`; reports, for the control plane. No request ever waits for anything here. Who may come in:
`runtime`, `workers` and `cli`; `control` for the messages (`messages`), which both sides speak.
"""
