"""
The mesh's own authority: who may have which certificate, and what was given out (mesh.md, section 7).

    names          SPIFFE IDs of the mesh
    certificates   what roots, intermediates and leaves look like; the only place that signs
    record         what is stored of the authority, and the steps by which it changes
    authority      the authority that a replica has in its hands, followed in the engine, its intermediate renewed
    backup         the same in a file, encrypted
    tokens         join tokens: made, counted, revoked; only their hashes are kept
    issued         what was issued to whom until when, and whose renewals are refused
    proofs         what a certificate proves that somebody shows
    joining        a proof and a signing request in, a certificate out
    own            the certificate of the control plane itself
    published      the roots in the namespaces of Kubernetes whose pods believe them

Enters: proofs and signing requests of sidecars, orders of operators, what the engine keeps (`Secrets`). Leaves:
certificates, the roots to trust, refusals with a code. Who may come in: `control.server`, `control.start`, and `cli`
for the orders. `cryptography` does all that is cryptography.
"""
