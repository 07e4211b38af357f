"""
What a file says that is right by the rules and hardly meant. *Cold, pure.*

Enters: the models of a file, or a part of them, and who takes reports. Leaves: reports with a rule of `rules`, and the
lines at which a file wants none. All of it is cheap, for it is said at every load; what needs the compiled plan is in
`insight.warnings`. Who may come in: `config`, the rules of `mesh`, `insight`, and `cli` for the table of rules.
"""
