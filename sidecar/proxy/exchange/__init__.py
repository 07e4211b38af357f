"""
The course of an exchange, which knows no wire: route, policies, attempts, response, record.

Enters: a request's head and body, from a client's side. Leaves: calls to the two sides, by the protocols of
`interfaces`, and one record to `telemetry`. `course` is the walk, `forwarder` and `retries` are its attempts, `steps`
and `policies` decide.
Who may come in: `proxy.client`, which has courses; `proxy.server` knows the protocols and the request.
"""
