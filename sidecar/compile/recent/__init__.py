"""
What is kept of recent requests, decided when a plan is compiled. *Cold.*

Enters: the routes and rules of a side, and what the file wants kept besides. Leaves: a `proxy.recent.Kept`. Who may
come in: `compile.plan`.
"""
