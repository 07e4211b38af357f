"""
Tokens in the life of a process: what a reload asks for, and nothing where no rule asks for a token.

Enters: the rules of a plan that is to come into force. Leaves: who verifies tokens for it. Who may come in: `reload`,
and what shows the process.
"""
