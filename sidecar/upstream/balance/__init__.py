"""
Which endpoint gets a request.

Enters: a cluster's endpoints and the time (`usable`: who may be chosen, and with what share); a request's head and its
client (`algorithms`); latencies (`ewma`). Leaves: an endpoint, or None. Synchronous and O(1) for a request. Who may
come in: `upstream.cluster`, and `compile` for the specs.
"""
