"""
Telling a control plane how this sidecar is, and what it counted. *Cold.*

Enters: what a report says, by `interfaces.Subject`, and where the stream is. Leaves: reports, each count once. Who may
come in: `link`.
"""
