"""
Servers behind the proxy: which there are, which one gets a request, which connections to it are open.

Enter: `ClusterSpec`s from a new configuration and addresses from DNS, both on the cold path. Leave: `Cluster`s, which
the plan holds and whose `choose` names an `Endpoint` for one request, and the connections that `pool` keeps for it.

Whether an endpoint may be chosen is for `balance`, by what `health` found (own checks and real requests); how much may
be under way for `limits`; whether a request is sent again for `retry`. They decide by the time and the results that
they are given, and hold no socket but the checks'.

Endpoints, their connections and their counters outlive reloads: `registry` is the only place that makes or ends them.
Choosing is synchronous and touches no socket; only `pool` knows connections, and it knows them by a protocol. Who
may come in: `proxy` (choose, acquire, count), `compile` (specs), `runtime` (prepare, commit, stop); `telemetry` and
`admin` read by protocols of their own.
"""
