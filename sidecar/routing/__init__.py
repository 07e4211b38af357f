"""
Which route a request takes, and what the route does to it. Pure: no clock, no socket, no log.

Enter: a `message.RequestHead`, normalised, and the client's address. Leave: a `Route` with its action (forward to one
of its targets, redirect, respond), header edits, and rewritten paths. The same code serves live traffic, the tests in
a configuration, and `/routes`, so that none of them can disagree with another.

Everything is compiled from text by functions that raise `ValueError` with a sentence for the operator:
`value_matcher`, `path_matcher`, `make_match`, `header_edits`, `make_rewrite`, `make_redirect`, `make_respond`,
`make_split`. Who may come in: `proxy` (find, choose, apply) and `compile` (the functions above).
"""
