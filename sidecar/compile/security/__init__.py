"""
What a file says about who may listen in and who may come in, as the data path and `security` read it. *Cold, pure.*

Enters: sections of the file. Leaves: parts of a plan. Who may come in: `compile`, which puts them into listeners,
upstreams and plans, and `loader`, which sends what is needed before there is a plan.
"""
