"""
The desk for operators: metrics, health, what is configured, and the few switches.

Two doors lead here: the metrics listener, open to the network and read-only, and the admin listener, loopback only,
with everything. What enters is a small HTTP request off the data path; what leaves is text or JSON. The room knows
the process only through the protocol `endpoints.Process`; `runtime` is the one that walks in.
"""
