"""
AWS App Mesh as four sources write it, as the files of a mesh. *Cold, pure.*

Enters: documents of CloudFormation, Terraform, Kubernetes (the App Mesh controller's resources) and of `aws appmesh
describe-*`. Leaves: drafts of services (`importing.draft`) and marks in the account of each resource. `sources` finds
the resources, whose fields all have the API's own names from there on; all else is written once. Who may come in:
`importing`.
"""
