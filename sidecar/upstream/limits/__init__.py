"""
How much may be under way at an upstream: fixed limits and an adaptive one, and a budget for retries.

Enters: that something is about to begin, and how it ended. Leaves: whether it may (`breaker`, `adaptive`,
`retry_budget`). Synchronous, no socket, no clock of its own. Who may come in: `pool`, `retry` and `cluster`, `proxy` by
way of them, and `compile` for the specs.
"""
