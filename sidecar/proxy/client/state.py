"""
What the next byte of a client's connection would be. *Hot path.*

    HEAD     part of a request head; no exchange is running
    BODY     part of a request body
    WAIT     part of a later request: this one is read, its response is not complete
    DISCARD  the rest of a request that was answered early
    TUNNEL   anything: bytes of another protocol
    CLOSED   nothing that matters: the connection is closed, or `lingering` until it is
"""

from __future__ import annotations

from typing import Final


class State:
    """Integers, as `message.Framing` says."""

    HEAD: Final = 0
    BODY: Final = 1
    WAIT: Final = 2
    DISCARD: Final = 3
    TUNNEL: Final = 4
    CLOSED: Final = 5
    NAMES: Final = ("HEAD", "BODY", "WAIT", "DISCARD", "TUNNEL", "CLOSED")
