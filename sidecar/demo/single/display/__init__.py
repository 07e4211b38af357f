"""
What the demonstration shows: a screen drawn with rich on a terminal, plain lines elsewhere.

Enters: what `observer` gathered and what runs on the `stage`. Leaves: text. Nothing here decides or measures. Who may
come in: `show`, which imports `screen` only where there is a terminal.
"""
