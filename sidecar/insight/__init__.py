"""
What a configuration does, asked before it does it to anybody, or after: tests, explanations, previews, warnings. Cold.

Enter: a plan, live or of a file, and requests as people write them or as a sidecar has kept them. Leave: what the plan
decides for each, why, and with which settings. All of it is decided by the functions that decide on live traffic
(`proxy.exchange.steps`, `routing`, `security`, `upstream`); nothing here matches anything by itself. Who may come in:
`loader`, `runtime` (for whoever asks the running sidecar), `mesh` and `cli`.
"""
