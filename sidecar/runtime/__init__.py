"""
The life of a process that serves: starts, listens, reloads, hands over, drains, ends. *Cold.* Where rooms meet.

Enters: whoever has the configuration (`loader.plan_source`), the environment and signals. Leaves: a running data path
and an exit code. `server` is where it all begins and ends, `process` what every such life has, `reload` where a plan
takes the place of another, `listeners` where sockets are opened and given up, `takeover` where a successor gets them.
Who may come in: `workers`, `demo` and `cli`.
"""
