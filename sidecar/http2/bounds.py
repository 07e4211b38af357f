"""
What a peer may make of HTTP/2 that costs it less than us, and how much of it (RFC 9113, 10.5). *Hot path; pure.*

A connection has two budgets. That of resets is for requests that were asked for and given up: RST_STREAM by a client
before its answer is complete (CVE-2023-44487), and rules broken so that we reset (CVE-2025-8671). That of patience is
for frames that carry nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty DATA, and what is unknown.
Streams and content earn patience, since who sends those needs some of the others, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PATIENCE: Final = 1000
"""Frames that carry nothing, at once; and a tenth of it a second."""
MOST_PATIENCE: Final = 4000
"""That can be earned."""
EARNED_BY_STREAM: Final = 4
EARNED_BY_DATA: Final = 4
LEAST_THAT_EARNS: Final = 256
"""Octets of a piece of content that waited for a window: who opens it one by one earns nothing (CVE-2019-9511)."""
MAX_RESETS: Final = 200
"""Resets at once and a second, unless the configuration says otherwise."""
MAX_AT_ONCE: Final = 16
"""Streams that are begun in one turn of the loop."""
MAX_TOLD_AT_ONCE: Final = 256
"""Calls of streams in one turn: a read of a quarter of a MiB may be 25,000 frames of an octet of content."""
MAX_REMEMBERED: Final = 1024
"""Streams that we have reset and for which frames may still be on their way."""
MAX_CONTINUATIONS: Final = 16
"""CONTINUATION frames of one field block."""
MAX_SETTINGS: Final = 32
"""In one SETTINGS frame, as nghttp2 has it: each may move the windows of all streams (CVE-2020-11080)."""
MAX_UNSENT_BYTES: Final = 1024 * 1024
"""
Of a client's connection, what is written to it and not read: acknowledgements, and heads of responses, which no window
holds. 64 KiB are written before content waits, and a few pieces of content beyond that.
"""
MAX_UNSENT_BYTES_UPSTREAM: Final = 16 * MAX_UNSENT_BYTES
"""The same to a server: the heads of as many requests as it lets us begin."""

_REFILL_PARTS: Final = 10


class Budget:
    """
    So much at once, and so much a second (a token bucket that looks at the clock only when it is empty).

    Args:
        size: At once.
        per_s: Comes back.
        now: Seconds, on a clock that never goes back.
    """

    __slots__ = ("_now", "_per_s", "_seen_at", "_size", "left")

    def __init__(self, size: int, per_s: int, now: Callable[[], float]) -> None:
        self.left = size
        self._size = size
        self._per_s = per_s
        self._now = now
        self._seen_at = now()

    def __repr__(self) -> str:
        return f"<Budget {self.left} of {self._size}>"

    def refill(self) -> bool:
        """It is used up: put in what has come back; whether there is something."""
        now = self._now()
        earned = int((now - self._seen_at) * self._per_s)
        if earned > 0:
            self._seen_at = now
            self.left = min(self.left + earned, self._size)
        return self.left >= 0


def patience(now: Callable[[], float]) -> Budget:
    """That of frames that carry nothing."""
    return Budget(PATIENCE, PATIENCE // _REFILL_PARTS, now)
