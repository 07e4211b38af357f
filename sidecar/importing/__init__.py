"""
What people have of other meshes as the files of ours, with an account of every field. *Cold.*

Enters: App Mesh as CloudFormation, Terraform, Kubernetes or its own API writes it (`appmesh`), and the Gateway API's
routes of a mesh (`gateway_api`). Leaves: `mesh.yaml` and `services/*.yaml`, judged by the code that reads them, and of
each field of the input whether it was kept, changed or dropped (`account`). Who may come in: `cli`.
"""
