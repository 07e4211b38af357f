"""
Telling a control plane how this sidecar is, what it counted, and what it asked. *Cold.*

Enters: what a report says, by `interfaces.Subject`, questions, and where the stream is. Leaves: reports, each count
once, and answers. Who may come in: `link`.
"""
