"""
Routes of Kubernetes' Gateway API for a mesh (GAMMA), with the Services that they are for. *Cold, pure.*

Enters: HTTPRoute, GRPCRoute, Service, ReferenceGrant. Leaves: drafts of services (`importing.draft`) and marks in the
account of each object. Order follows the specification's precedence (`precedence`), which a file here writes out. Who
may come in: `importing`.
"""
