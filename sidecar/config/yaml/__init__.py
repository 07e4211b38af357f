"""
YAML read with positions: text in, a tree in which every key and value knows its line and column. *Cold, pure.*

Enters: the text of a file and the environment, for `${NAME}`. Leaves: a tree (`document`), its plain words understood
by YAML 1.2's core schema (`scalars`), and where in it a value of the models was written (`places`). Knows no setting.
Who may come in: `config`, and `loader` for the lines.
"""
