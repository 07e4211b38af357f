"""
Who a client is, as its connection tells it. *Pure.*
"""

from __future__ import annotations

from typing import Final

from sidecar.exchange import Direction


class Origin:
    """
    Args:
        peername: What the socket says: `(address, port, ...)`, or a path or nothing on a Unix socket.
        direction: Of the listener by which it came.

    Attributes:
        peer: Address and port; `("unix", 0)` on a Unix socket.
        forwarded: Lines that say who the client is, for requests that do not say so themselves. Of the app, which is
            the client of an outbound listener, they do not tell the address.
    """

    __slots__ = ("forwarded", "peer")

    def __init__(self, peername: object, direction: Direction) -> None:
        self.peer: tuple[str, int] = (peername[0], peername[1]) if isinstance(peername, tuple) and peername else _UNIX
        self.forwarded = b"x-forwarded-proto: http\r\n"
        if direction is Direction.INBOUND and self.peer[1]:
            self.forwarded = b"x-forwarded-for: %b\r\n%b" % (self.peer[0].encode("latin-1"), self.forwarded)

    def __repr__(self) -> str:
        return f"<Origin {self.peer}>"


_UNIX: Final = ("unix", 0)
NOBODY: Final = Origin(None, Direction.OUTBOUND)
"""Before a connection is made."""
