"""
One span a request and one an attempt, and the trace that they belong to.

Enters: fields of a request that name its parent (`propagation`, `tracecontext`), and what `telemetry.recorder` knows
when an exchange is over. Leaves: fields for the upstream, and encoded spans (`spans`) in the queue of a thread that
sends them to a collector (`export`); what it does not take is dropped and counted. Who may come in: `telemetry`, and
`proxy` for a further attempt's identity.
"""
