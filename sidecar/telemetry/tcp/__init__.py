"""
Connections that are no HTTP's: what is counted of them, and what is told of each when it is over. *Once a connection.*

Enters: exchanges with a `protocol`, when they begin and when they are over. Leaves: series of `sidecar_tcp_*`, a log
line, a span. Who may come in: `telemetry` alone.
"""
