"""
What engines share that speak HTTP and JSON to something that lives elsewhere. *A shell: aiohttp's errors, tasks, time.*
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

AT_ONCE: Final = 8
"""Calls of one piece of work: what waits at the same time is put to disk together."""

_PIECEMEAL_BYTES: Final = 512 * 1024


def suspend_clock_s() -> float:
    """Seconds that go on while the machine sleeps, as others' do; `time.monotonic` stands still then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def each(acts: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, `AT_ONCE` at a time; the first error ends it."""
    waiting = iter(acts)

    async def work() -> None:
        for act in waiting:
            await act()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(acts))):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def body_of(values: Mapping[str, Any]) -> bytes | io.BytesIO:
    """A request's body."""
    raw = json.dumps(values, separators=(",", ":")).encode()
    # In pieces: aiohttp hands octets to the transport at once.
    return raw if len(raw) < _PIECEMEAL_BYTES else io.BytesIO(raw)


def why(error: BaseException) -> str:
    """One line for an error of a call."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:300].lower()


class LongLine(ValueError):  # noqa: N818
    """A message is longer than any that makes sense."""


class Lines:
    """
    The lines of a stream that comes in pieces of any size.

    Args:
        limit: Octets of one line.
    """

    __slots__ = ("_limit", "_pieces", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._waiting = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """
        Whole lines that end in this piece, without their ends; empty ones are none.

        Raises:
            LongLine: One is longer than the limit.
        """
        *whole, rest = piece.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._pieces, whole[0]))
            self._pieces.clear()
            self._waiting = 0
        if rest:
            self._pieces.append(rest)
            self._waiting += len(rest)
            if self._waiting > self._limit:
                raise LongLine(f"a message of more than {self._limit} octets")
        return [line for line in whole if line.strip()]
