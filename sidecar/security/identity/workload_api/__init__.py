"""
SPIFFE's Workload API, spoken by SPIRE's agent and others: an agent on this machine says who we are, again and again.

Enters: the agent's address. Leaves: messages as they came, for `holder`, which has them read and judged on a thread
(`svids`) as it has files; and why there is none. Nothing here is asked for a request, and the library that speaks
HTTP/2 is loaded where a configuration names an agent, and nowhere else. Who may come in: the rooms around.
"""
