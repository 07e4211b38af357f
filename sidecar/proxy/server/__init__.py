"""
Whom we connect to: servers' connections, a file a wire, and who opens them.

A connection serves one attempt at a time, writes its request, and tells it the response. Enters: requests of
`proxy.exchange`, bytes of servers. Leaves: bytes to servers; connections to `upstream.pool`.
Who may come in: `proxy.live`, which has the dialer; everybody else meets a connection in the pool.
"""
