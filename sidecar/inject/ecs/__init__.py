"""
The sidecar in task definitions of ECS: those of its API, and CloudFormation's. *Cold, pure.*

Enters: a document as plain values, and what is wanted. Leaves: edits, what there is to know, or problems with their
paths; no text. Who may come in: `inject`.
"""
