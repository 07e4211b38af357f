"""
Certificates in the life of a process: what a reload asks for, and who follows the files.

Enters: what a plan's listeners and upstreams say of TLS. Leaves: the sides that `proxy` speaks by, and what cannot be
had, at its place in the file. Who may come in: `reload`, and what shows the process.
"""
