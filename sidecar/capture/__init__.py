"""
Traffic without the app's help: which connections the kernel leads to the sidecar, and the proof that it does. *Cold.*

Enters: what is to be captured and what is left alone. Leaves: rules in the kernel, read back, and the same as text for
people. `rules` says which, `netfilter/` speaks with the kernel, `shown` writes them down. Who may come in: the command
line, and the runtime for the proof. Nothing here is needed by a process that serves requests, but for that.
"""
