"""
Why a request goes where it goes.

Enter: a `walk` of the request, the plan that it went through, and the plan's `Effective` settings. Leave: an account of
every decision, ready for JSON (`account`), and the same as a person reads it (`text`). Nothing that is secret is in it.
Who may come in: `runtime` for the admin listener, `mesh` and `cli`.
"""
