"""
HTTP/1.1 as an intermediary needs it: bytes become heads, bodies are framed, heads become bytes again.

Enters: bytes of one direction of one connection. Leaves: `message` heads, body payload, and the bytes to forward.
Whichever code here frames a message is the one whose reading goes on: nothing is passed to a peer that was not
understood, and nothing that was refused is passed at all. Who may come in: `proxy`, and `routing` for `make_field`.

The head parser is our own and not llhttp: it must refuse what llhttp tolerates (folded lines, white space, repeated
lengths), stop between pipelined requests, and keep each line's bytes for forwarding. It remembers the lines that it has
seen; what that costs beside a callback a header, which leaves checking, framing and rebuilding still to be done, is in
`benchmarks/micro/head.py`. Tests hold it against llhttp and h11.
"""
