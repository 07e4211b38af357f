"""
Who we are, whom we believe, and who may do what.

Enters: certificates from files, an agent or the control plane, and rules of the plan. Leaves: contexts for `net.tls`,
and for each request whether it may pass and by which rule. No socket of the data path is touched here. Who may come in:
`proxy`, which asks for each request, and the rooms that make and follow what is asked.
"""
