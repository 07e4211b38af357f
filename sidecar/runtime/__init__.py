"""
The only place where rooms meet: starts the process, compiles the configuration, reloads, drains, ends.

What enters is the path of one YAML file, the environment and signals; what leaves is a running data path and an exit
code. `compile` is where models of the configuration become the data path's objects, `reload` where a plan takes
the place of another, `listeners` where sockets are opened and given up, `server` where it all begins and ends.
Only `cli` comes in.
"""
