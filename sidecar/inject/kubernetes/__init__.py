"""
The sidecar in Kubernetes' workloads: what is added to a pod, and why not. *Cold, pure.*

Enters: a document as plain values, and what is wanted. Leaves: edits, what there is to know, or problems with their
paths; no text. Who may come in: `inject`.
"""
