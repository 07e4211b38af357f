"""
Values as the file writes them: durations, sizes, addresses, names, and short forms of long ones. *Cold, pure.*

Enters: scalars and lists of the tree. Leaves: seconds, octets, checked strings, or the error that says what was
expected; and for each what an editor should accept. `base` has the models' base class, `unsupported` the one list of
keys that are not read yet. Knows no setting by name. Who may come in: `config.model` and what checks it.
"""
