"""
`sidecar check`: whether configuration files can be used, and all that is wrong or surprising with them if not. *Cold.*

Enters: files, directories, standard input, and options. Leaves: a report for people, for programs or for code review,
and an exit code. Who may come in: the table of commands, by name.
"""
