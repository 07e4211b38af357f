"""
How octets get to a control plane and back: which of its servers, when, and by which connection. *Cold.*

Enters: where the servers are, requests. Leaves: answers, whose body may go on for as long as the server wants, lines
of it, and errors in one sentence. Who may come in: `link`.
"""
