"""
The mesh's files as typed, frozen values: `root` for `mesh.yaml`, `service` for a service's file. *Cold, pure.*

Enters: what `config.yaml` read. Leaves: models made of the sidecar's own words (`config.model`), and the JSON Schemas.
Only what each value may be by itself is said here; what they may be together is `mesh.rules`'. Comes in: `mesh`.
"""
