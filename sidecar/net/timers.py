"""
Deadlines without timers: one coarse sweep for all connections. *Hot path: `arm`.*

A request must not cost a timer, so a deadline is a float on the thing that has it. Things wait in buckets by the tick
of their deadline. Moving a deadline later, which is what traffic does all the time, is one assignment: the bucket is
visited at the old time, finds the new deadline, and moves the thing on. Only a deadline that moves earlier changes
buckets at once. A deadline fires at most two ticks late and never early.

But for a loop that was held itself: what has arrived meanwhile has not been read, and its sender shall not be the one
to blame. Whatever fell due in such a time fires one tick after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

log = logging.getLogger("sidecar.net")

TICK_S: Final = 0.05
# So many expirations a tick, at some 5 us each, keep a sweep of thousands of connections under a millisecond.
_MAX_PER_TICK: Final = 200
_MAX_LAG_S: Final = 5.0
_LAG_FADES: Final = 0.8
NOT_ARMED: Final = 1 << 60
# By name, so that mypy allows what is assigned to a `Timed`: the slots are those of who inherits.
_NO_SLOTS: Final = ()


class Timed(Protocol):
    """
    Something with a deadline. It starts with `deadline = inf` and `bucket = NOT_ARMED`.

    Who inherits from it has its attributes read without a look-up by name (docs/compiled.md).
    """

    __slots__ = _NO_SLOTS

    deadline: float
    """Loop time in seconds; `inf` for none. May be moved later by assignment; earlier only through `Timers.arm`."""
    bucket: int
    """Owned by `Timers`."""

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; it is disarmed. May arm again."""


class Timers:
    """
    The coarse timer of one event loop.

    Args:
        loop: Used for `time` and, while started, for one `call_later` a tick.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time: Callable[[], float] = loop.time
        self._buckets: dict[int, set[Timed]] = {}
        self._next = 0
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag_s = 0.0
        """
        How late the loop is: of the latest ticks the worst, fading within a second. 0 is in time.

        Of two in a row the better one: a process that was paused once, by its machine, say, has no more to do than
        before, and one that has too much is late again and again.
        """
        self._late_before_s = 0.0
        self._every: list[tuple[float, Callable[[], None], list[float]]] = []

    def __repr__(self) -> str:
        return f"<Timers {sum(map(len, self._buckets.values()))} armed>"

    def start(self) -> None:
        """Begin to sweep."""
        self._next = int(self.time() / TICK_S)
        self._due = self.time() + TICK_S
        self._handle = self._loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """Sweep no more; what is armed stays so and never fires."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def every(self, period_s: float, action: Callable[[], None]) -> None:
        """Call `action` about every `period_s` seconds as long as the timer runs; it must be quick."""
        self._every.append((period_s, action, [self.time() + period_s]))

    def arm(self, item: Timed, deadline: float) -> None:
        """Set the deadline, which may be earlier or later than the one before."""
        is_put_off = item.deadline <= deadline and item.bucket != NOT_ARMED
        item.deadline = deadline
        if not is_put_off:
            bucket = int(deadline / TICK_S) + 1
            if bucket < item.bucket:
                self._move(item, bucket)

    def forget(self, item: Timed) -> None:
        """Disarm for good, so that nothing here refers to the item."""
        item.deadline = inf
        if item.bucket != NOT_ARMED:
            self._remove(item)
            item.bucket = NOT_ARMED

    def _move(self, item: Timed, bucket: int) -> None:
        if item.bucket != NOT_ARMED:
            self._remove(item)
        # What is already due goes into the bucket that the next tick visits.
        bucket = max(bucket, self._next)
        item.bucket = bucket
        members = self._buckets.get(bucket)
        if members is None:
            self._buckets[bucket] = {item}
        else:
            members.add(item)

    def _remove(self, item: Timed) -> None:
        members = self._buckets.get(item.bucket)
        if members is not None:
            members.discard(item)
            if not members:
                del self._buckets[item.bucket]

    def _tick(self) -> None:
        now = self.time()
        late_s = now - self._due
        # A process that was stopped for minutes is not overloaded for long.
        self.lag_s = max(min(late_s, self._late_before_s, _MAX_LAG_S), self.lag_s * _LAG_FADES)
        self._late_before_s = late_s
        self._due = now + TICK_S
        self._handle = self._loop.call_later(TICK_S, self._tick)
        self.sweep(now if late_s <= TICK_S else now - late_s)

    def sweep(self, now: float) -> None:
        """Fire what is due at `now`; called by the tick, and by tests that hold the clock."""
        current = int(now / TICK_S)
        budget = _MAX_PER_TICK
        while self._next <= current and budget:
            # Asked for anew each time: what fires may empty the bucket, which removes it, and fill it again.
            while budget and (members := self._buckets.get(self._next)):
                budget -= 1
                item = members.pop()
                item.bucket = NOT_ARMED
                if item.deadline > now:
                    if item.deadline < inf:
                        self._move_later(item)
                    continue
                item.deadline = inf
                _run(item.on_deadline, now)
            if not self._buckets.get(self._next):
                self._buckets.pop(self._next, None)
                self._next += 1
        for period, action, due in self._every:
            if now >= due[0]:
                due[0] = now + period
                _run(action)

    def _move_later(self, item: Timed) -> None:
        bucket = max(int(item.deadline / TICK_S) + 1, self._next + 1)
        item.bucket = bucket
        self._buckets.setdefault(bucket, set()).add(item)


def _run(action: Callable[..., None], *args: float) -> None:
    # One thing's mistake must not stop everybody's clock.
    try:
        action(*args)
    except Exception:
        log.exception("timer_failed action=%r", action)
