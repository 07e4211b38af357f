"""
Calls of gRPC that we make ourselves, of agents and of who is asked for its health; requests that are proxied do not
come here.

Enters: what is asked, octets of a socket. Leaves: octets to send, messages that are whole, why there are no more. The
library that speaks HTTP/2 is loaded with `call`, which is imported where a configuration wants it, and nowhere else.
Who may come in: every room above.
"""
