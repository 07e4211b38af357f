"""
The demonstration of captured traffic: services as hosts of their own, whose apps have never heard of a sidecar.

Enters: how long and how fast. Leaves: lines for people, and for each claim whether it held. Who may come in:
`cli.demo`, by `show`; `python -m` for what runs on the hosts (`app`, `bank`, `store`, `customers`).
"""
