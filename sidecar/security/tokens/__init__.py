"""
Who a request says it is for, by a signed token (RFC 7519), and the keys by which such tokens are believed.

Enters: the head of a request, rules of the plan, and key sets from files and addresses. Leaves: for each request what
its token came to (`peer.Token`), of which nothing but its issuer is ever shown. Who may come in: `proxy` for each
request of a side that has such rules, `compile`, which makes the rules, and `runtime`, which has the keys followed.

What verifies signatures costs some 11 MiB and is imported when the first such rule is: by `library` alone.
"""
