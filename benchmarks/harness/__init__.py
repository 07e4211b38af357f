"""What compare.py stands on: processes and their cost, the subjects, the load, the report.

Scripts that run as processes of their own (relay.py, sink.py, load.lua) lie beside compare.py. Nothing of the
product imports this, and this imports nothing of the product: the sidecar is a subject like the others,
run by its command.
"""
