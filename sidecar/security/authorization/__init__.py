"""
Which requests to the app may pass: rules in order, the first that matches decides.

Enters: a client's identity and address, and the head of its request as routes see it. Leaves: a `Decision`, and in
words what differed for who was refused. Rules are matched by the matchers and the table of `routing`; only who asks is
matched here. Who may come in: `proxy`, for each request of a side that has rules, and `compile`, which makes them.
"""
