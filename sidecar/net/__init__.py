"""
What lies under protocols: addresses, sockets, names, deadlines. Knows nothing of HTTP.

Who may come in: every room above; `timers` and `address` are on the data path, `listen` and `resolve` are cold.
"""
