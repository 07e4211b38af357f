"""
What lies under protocols: addresses, sockets, names, deadlines, writes of one turn together. Knows nothing of HTTP.

Enters: addresses as the file writes them, names to resolve, the time, octets to write. Leaves: sockets that listen,
answers of name servers, deadlines that are over, writes. `flow`, `timers` and, for large bodies, `splice` and
`splicing_reader` are on the hot path, `listen` and `resolve` are cold. Who may come in: every room above.
"""
