"""
`sidecar mesh install`: manifests for Kubernetes. *Cold.*

Enters: options. Leaves: YAML on standard output, an exit code. Who may come in: the table of commands, by name.
"""
