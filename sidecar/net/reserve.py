"""
Descriptors that are kept so that a loop rests when the process has none left. *Cold: a `dup` four times a second.*

A client that cannot be accepted for want of a descriptor stays in the queue, and the loop is told of it again at once,
for ever. libuv keeps one descriptor for that moment: it is given up, who waits is accepted and closed, and it is taken
again. Where another thread opens a file meanwhile it cannot be taken again; then nobody is turned away any more, and
the loop spins on a whole core until some client leaves, which may be never. Whenever libuv makes a stream it tries to
take it again, so now and then it is given one of these, and reason to.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Final

from sidecar.net.descriptors import are_gone

SPARE: Final = 4
"""Descriptors. One is lost each time that a thread was quicker, and had again when there are some."""

PERIOD_S: Final = 0.25
"""Between two looks: for so long a loop spins at most."""

_NOBODY: Final = "/dev/null"
"""No socket: connecting to it makes a stream, and fails."""


class Reserve:
    """
    Args:
        loop: Of uvloop. Asked for one `call_later` a period.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: list[int] = []
        self._giving: asyncio.Task[None] | None = None
        self._next: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Reserve {len(self._spare)}>"

    def start(self) -> None:
        """Look now, and every period until `stop`."""
        self.look()
        self._next = self._loop.call_later(PERIOD_S, self.start)

    def stop(self) -> None:
        """Look no more, and give back what is kept."""
        for under_way in (self._next, self._giving):
            if under_way is not None:
                under_way.cancel()
        while self._spare:
            os.close(self._spare.pop())

    def look(self) -> None:
        """Keep some while there are any; when they are gone, give the loop one."""
        if not are_gone():
            self._fill()
        elif self._spare and (self._giving is None or self._giving.done()):
            self._giving = self._loop.create_task(self._give())

    async def _give(self) -> None:
        os.close(self._spare.pop())
        # Up to its first wait nothing runs in between, so no client can be accepted with it.
        with suppress(OSError):
            transport, _ = await self._loop.create_unix_connection(asyncio.Protocol, _NOBODY)
            transport.abort()
        self._fill()  # The loop had not lost its own.

    def _fill(self) -> None:
        with suppress(OSError):
            while len(self._spare) < SPARE:
                self._spare.append(os.dup(0))
