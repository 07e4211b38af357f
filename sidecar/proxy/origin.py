"""
Who a client is, as its connection tells it. *Pure.*
"""

from __future__ import annotations

from sidecar.exchange import Direction


def peer_of(peername: object) -> tuple[str, int]:
    """Address and port of what the socket says, `(address, port, ...)`; `("unix", 0)` on a Unix socket."""
    return (peername[0], peername[1]) if isinstance(peername, tuple) and peername else ("unix", 0)


def forwarded_lines(peer: tuple[str, int], direction: Direction, *, is_tls: bool = False) -> bytes:
    """
    Lines that say who the client is, for requests that do not say so themselves. Of the app, which is the client of an
    outbound listener, they do not tell the address.
    """
    lines = b"x-forwarded-proto: https\r\n" if is_tls else b"x-forwarded-proto: http\r\n"
    if direction is Direction.INBOUND and peer[1]:
        lines = b"x-forwarded-for: %b\r\n%b" % (peer[0].encode("latin-1"), lines)
    return lines
