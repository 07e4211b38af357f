"""
The data path: the only room that touches transports. It carries an exchange through the others.

`downstream` reads a client's connection, `relay` writes it, `steps` decides, `attempt` acquires a connection and sends,
`upstream_conn` reads the answer. Two half machines an exchange, each with its own small state enum; they meet in plain
method calls, so a warm request costs two reads, two writes, and no task, future or timer.

Enters: bytes of connections that `runtime` accepted, and the `Plan`. Leaves: bytes to peers, and one record of each
exchange to `telemetry`. Who may come in: `runtime`.
"""
