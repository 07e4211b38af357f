"""
The file as typed, frozen values, by the sections of the language; `root` has the whole and what is not long. *Cold.*

Enters: what `yaml` read. Leaves: a `root.Config`, from which the JSON Schema is made, too. Only what each value may be
by itself is said here; what they may be together is `config.check`'s. Who may come in: `config`; `compile` and `loader`
for the types; no module on the data path.
"""
