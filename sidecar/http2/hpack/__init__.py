"""
HPACK (RFC 7541): lists of fields become blocks of octets and back, by what both ends remember of earlier ones.

Enters: blocks of a connection, in order, or lists of `message.Field`. Leaves: the other. Fields are the shared ones
that HTTP/1.1 hands out, too. Who may come in: `http2`.
"""
