"""
The sidecar in Compose files: a service beside each app, whose network the app joins. *Cold, pure.*

Enters: a document as plain values, and what is wanted. Leaves: edits, what there is to know, or problems with their
paths; no text. Who may come in: `inject`.
"""
