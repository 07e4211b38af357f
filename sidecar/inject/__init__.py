"""
A sidecar put into other people's manifests, and taken out again: Kubernetes, Compose, ECS. *Cold, pure.*

Enters: the text of a file and what is wanted. Leaves: the same text with the sidecar in it, or without it, every other
byte as it was, and what there is to know. In between stand edits (`edits`): a workload's values become a list of them,
which knows no text (`kubernetes`, `compose`, `ecs`), and `text` writes them into the author's own. A webhook sends the
same edits as a patch. Who may come in: `cli`.
"""
