"""
The kernel's nftables by its netlink, in pure Python. *Cold, blocks briefly.*

Enters: rules. Leaves: they, in a table of ours in the kernel, as a whole or not at all; or why not. Who may come in:
the room around it.
"""
