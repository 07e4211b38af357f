"""
What a sidecar's process does to follow a control plane; nothing of it is on a request's way. *Cold.*

`follower` decides what is run: last good, what is pushed, a bootstrap file; `state_directory` keeps what was good over
a restart, and `crashes` remembers what was not; `app_watch` is what others are told of the app. The stream itself is
`link`'s. Enters: what is pushed, what the disk or a predecessor has kept. Leaves: loads, which the process's
`ConfigLoader` does, and reports. Who may come in: the processes, `server.Sidecar` and a supervisor, each with one
follower.
"""
