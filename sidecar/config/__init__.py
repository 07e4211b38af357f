"""
The YAML file, read, understood and judged. *Cold.*

Enters: bytes of a file and the environment. Leaves: a frozen `model.root.Config`, or a `problems.ConfigError` with
every problem of the file, each at its line and column. Comes in: `compile` and `loader` (which make of the models what
the data path reads) and `cli`; no module on the data path may import this room. `load.py` is the door.
"""
