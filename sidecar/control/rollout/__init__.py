"""
From one revision of the mesh to the next, without losing a request or the way back. *Pure: no clock, no I/O.*

`proposal` makes a revision wanted, `split` cuts each service's change into what widens, what changes and what narrows,
`mover` takes the steps (its essay is the place to begin), `gate` and `statistics` say when, `record` is all that there
is to know, `status` is what people see. Enters: compiled files as trees, what instances report (`view`), the rules of
`mesh.yaml` (`rules`), and the time. Leaves: a new record, to be written by compare-and-swap, the file of each instance,
and events for the log. Who may come in: the control plane's server, which reads, writes and sends.
"""
