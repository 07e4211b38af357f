"""
A bounded queue of octets from the event loop to one thread. *Hot path: `put`.*

No lock: the loop appends, the thread comes by a few times a second and takes what is there. When much waits it is
woken, once for hundreds of items: what waits long fills the queue, and has left the processor's caches when it is
taken. Each counter has one writer, so that none is ever lost to a race; the bound is therefore exact up to what the
thread is taking at that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Outbox:
    """
    Items on their way out.

    Args:
        max_bytes: Of all items that wait; more are refused.
        wake_bytes: `wake` is called whenever so many have come since it was called last.
        wake: Tells the thread; called on the event loop.
    """

    __slots__ = ("_items", "_max_bytes", "_put_bytes", "_taken_bytes", "_wake", "_wake_at", "_wake_bytes", "refused")

    def __init__(self, max_bytes: int, wake_bytes: int, wake: Callable[[], None]) -> None:
        self._wake_bytes = wake_bytes
        self._wake_at = wake_bytes
        self._wake = wake
        self._items: deque[bytes] = deque()
        self._max_bytes = max_bytes
        self._put_bytes = 0
        self._taken_bytes = 0
        self.refused = 0
        """Items for which there was no room."""

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Outbox {len(self._items)} items, {self.waiting_bytes} bytes, {self.refused} refused>"

    @property
    def waiting_bytes(self) -> int:
        """Octets that wait."""
        return self._put_bytes - self._taken_bytes

    def put(self, item: bytes) -> None:
        """Hand over an item, or count it as refused. Called by the event loop's thread only."""
        total = self._put_bytes + len(item)
        if total - self._taken_bytes > self._max_bytes:
            self.refused += 1
            return
        self._put_bytes = total
        self._items.append(item)
        if total >= self._wake_at:
            self._wake_at = total + self._wake_bytes
            self._wake()

    def take(self, max_items: int, max_bytes: int) -> list[bytes]:
        """
        Remove items from the front, at most so many of at most so many octets, but one at least if there is one.

        Called by the other thread only.
        """
        items: list[bytes] = []
        size = 0
        while self._items and len(items) < max_items:
            size += len(self._items[0])
            if items and size > max_bytes:
                size -= len(self._items[0])
                break
            items.append(self._items.popleft())
        self._taken_bytes += size
        return items
