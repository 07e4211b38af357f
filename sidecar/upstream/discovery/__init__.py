"""
Endpoints that come while the sidecar runs: from a file that is followed, or by whoever else is told them. *Cold.*

A source enters, by a path or a name, with what it says from time to time; sets of endpoints leave, for the registry,
which changes clusters in place, as it does with the answers of DNS: no plan is made anew, and what stays keeps its
connections. `upstream.registry`, the compiler of plans, and whoever hears of endpoints may come in.
"""
