"""
Several data-path processes under a supervisor (`workers: N`); with `workers: 1` there is none of this.

The supervisor owns the listening sockets and the metrics and admin listeners, has the file compiled once, and hands
both to its workers; each worker is the sidecar of `runtime.server` without its own admin listeners. A worker that dies
is replaced and gets the same sockets, so that who waits in its backlog waits for its successor.

Enters: what `runtime.server` takes, and how many. Leaves: the same promises, kept by several processes. Who may come
in: `cli.run`, by `start`.
"""
