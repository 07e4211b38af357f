"""
Whether the kernel really leads here what a configuration expects: asked while the sidecar runs. *Cold.*

Enters: plans as they come into force. Leaves: findings for the metrics and the admin listener, and whether connections
of our own come back. Who may come in: `runtime`, `workers`.
"""
