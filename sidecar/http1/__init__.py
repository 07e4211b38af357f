"""
HTTP/1.1 as an intermediary needs it: bytes become heads, bodies are framed, heads become bytes again.

Enters: bytes of one direction of one connection. Leaves: `message` heads, body payload, and the bytes to forward.
Whichever code here frames a message is the one whose reading goes on: nothing is passed to a peer that was not
understood, and nothing that was refused is passed at all. Who may come in: `proxy`, and `routing` for `make_field`.

The head parser is our own and not llhttp: it must refuse what llhttp tolerates (folded lines, white space, repeated
lengths), stop between pipelined requests, and keep each line's bytes for forwarding. Remembering the lines that it
has seen, it also costs less than a callback a header (`benchmarks/micro/head.py`). Tests hold it against llhttp and
h11.
"""
