"""
What the authority keeps, in each engine: keys, hashes of tokens, what was issued.

Enters: octets under a name. Leaves: the same, with a version to swap them by. Who may come in: the engines, each for
its own.
"""
