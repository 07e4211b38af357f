"""
HTTP/2 as an intermediary needs it: octets become frames, frames become heads and payloads, and the way back.

Enters: bytes of one direction of one connection. Leaves: `message` heads, payloads, and the bytes to send. A field is
the same shared object, whether it came in a line of HTTP/1.1 or in a block of HPACK. Who may come in: `proxy`.

The codec of HPACK (RFC 7541) is our own: `hpack`, which `h2` uses, needs 15 times as long to read a request's block and
40 times to write one, copies every field, and knows nothing of what a field means. Tests hold ours against it;
`benchmarks/micro/hpack.py` measures both.
"""
