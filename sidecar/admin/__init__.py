"""
The desk for operators: metrics, health, what is configured, and the few switches.

Two listeners lead here: metrics, open to the network and read-only, and admin, loopback only, with everything. Enters:
a small HTTP request off the data path. Leaves: text or JSON. The room knows the process only through the protocol
`endpoints.Process`. Who may come in: `runtime` and `workers`, which have the process.
"""
