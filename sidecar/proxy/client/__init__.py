"""
Who connects to us: clients' connections, a file a wire.

A connection knows how its requests and responses are framed, and gives each request a course (`proxy.exchange`), which
it tells what the client does. Enters: bytes of connections that `runtime` accepted. Leaves: bytes to clients.
Who may come in: `runtime`, by `protocol_factory`.
"""
