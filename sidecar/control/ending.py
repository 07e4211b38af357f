"""What ends a process that serves: a signal, or a part of it that is broken. *On the loop.*"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress


class Ending:
    """
    What ends the process: SIGTERM, SIGINT, or something that is broken.

    Attributes:
        is_hasty: By SIGINT, which waits for nobody.
    """

    def __init__(self) -> None:
        self.is_hasty = False
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._asked.set)
        loop.add_signal_handler(signal.SIGINT, self._hasten)

    async def wait(self, broken: asyncio.Event) -> None:
        """Until one of them is there."""
        waits = [asyncio.create_task(one.wait()) for one in (broken, self._asked)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def linger(self, limit_s: float) -> None:
        """For so long, or until SIGINT."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._hurried.wait()

    def _hasten(self) -> None:
        self.is_hasty = True
        self._hurried.set()
        self._asked.set()
