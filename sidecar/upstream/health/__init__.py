"""
Which endpoints are well: by checks of our own (`checks`), and by what became of real requests (`outlier`).

Enters: the loop's time and results. Leaves: `Endpoint.health` and ejections, which `balance.usable` reads. `checks` is
cold and holds the checks' sockets; `outlier` is told of every attempt and holds none. Who may come in: `cluster` and
`registry`, and `compile` for the specs.
"""
