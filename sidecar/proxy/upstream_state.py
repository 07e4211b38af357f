"""
What the next byte of a connection to an upstream would be. *Hot path.*

    IDLE     nothing: it waits in the pool, and any byte from the peer closes it
    HEAD     part of a response head, after a request was sent
    LENGTH   part of a body of known length
    CHUNKED  part of a chunked body
    CLOSE    part of a body that ends with the connection
    TUNNEL   anything: bytes of another protocol
    CLOSED   nothing any more
"""

from __future__ import annotations

from typing import Final


class State:
    """Integers, as `message.Framing` says."""

    IDLE: Final = 0
    HEAD: Final = 1
    LENGTH: Final = 2
    CHUNKED: Final = 3
    CLOSE: Final = 4
    TUNNEL: Final = 5
    CLOSED: Final = 6
    NAMES: Final = ("IDLE", "HEAD", "LENGTH", "CHUNKED", "CLOSE", "TUNNEL", "CLOSED")
