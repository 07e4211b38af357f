"""
Who is who in a mesh, and who may call whom: what services and rules say of it, put into one word. *Cold, pure.*

Enters: models of services. Leaves: SPIFFE IDs, whom a service admits, whom its rules name, and which TLS it takes.
Comes in: all of `mesh`.
"""
