"""
What is told about every request: metrics, one access-log line, one span, and the trace context that goes on.

Enters: an `Exchange`, twice, when its head is complete (`Telemetry.begin`) and when it is over (`Telemetry.record`).
Leaves: lines to a file, spans to a collector, an exposition to whoever scrapes; each from a thread or on demand, so
that neither a dead collector nor a full disk is ever felt by a request. What cannot be handed over is dropped and
counted.

Everything that does not depend on the single request (label sets, log fragments, span attributes) is bound once for
a `Scope` and the outcomes seen in it. `recorder` is the door; behind it are `metrics`, `traces` and `access_log`. Who
may come in: `proxy` with exchanges, `runtime` with settings, `admin` and `workers` for what is shown.
"""
