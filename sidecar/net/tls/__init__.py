"""
TLS on connections (RFC 8446; RFC 5246 only where a file says so).

Enters: octets of sockets, and contexts that `security` makes of certificates. Leaves: octets in clear for the protocols
of `proxy`, and who the peer is (`sidecar.peer`). Nothing here knows what a name in a certificate may do. Who may come
in: every room above.
"""
