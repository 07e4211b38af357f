"""
What the next byte of a connection to an upstream would be. *Hot path.*

    IDLE     nothing: it waits in the pool, and any byte from the peer closes it
    HEAD     part of a response head, after a request was sent
    BODY     part of a response body whose end is known, by its length or its chunks
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
    BODY: Final = 2
    CLOSE: Final = 3
    TUNNEL: Final = 4
    CLOSED: Final = 5
    NAMES: Final = ("IDLE", "HEAD", "BODY", "CLOSE", "TUNNEL", "CLOSED")
