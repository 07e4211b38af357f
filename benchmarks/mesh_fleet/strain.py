"""What the measuring process itself adds: how late its loop is, how much of a core it uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from .figures import spread_of

TICK_S = 0.01
SAMPLE_S = 5.0


class Strain:
    """
    Of this process and its loop, from `begin` on.

    A loop that is late by so much tells of a message so much after it has come; its p99 is to be read beside every
    time that is taken here.
    """

    def __init__(self) -> None:
        self._late_s: list[float] = []
        self._began = self._cpu_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Measure from now on."""
        self._late_s.clear()
        self._began, self._cpu_s = time.monotonic(), time.process_time()
        if self._task is None:
            self._task = asyncio.create_task(self._tick())

    def figures(self) -> dict[str, float]:
        """Of the time since the beginning."""
        share = (time.process_time() - self._cpu_s) / max(1e-9, time.monotonic() - self._began)
        late = {f"loop_late_{name}": value for name, value in spread_of(self._late_s).items()}
        return {"core_share": round(share, 3), **late}

    async def end(self) -> None:
        """Measure no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late_s.append(max(0.0, time.monotonic() - due))


class Peak:
    """The most of a figure, asked for in a thread every few seconds until `end`."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.value = 0.0
        self._read = read
        self._task = asyncio.create_task(self._sample())

    async def end(self) -> float:
        """Look once more; the most."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.value = max(self.value, await asyncio.to_thread(self._read))
        return self.value

    async def _sample(self) -> None:
        while True:
            self.value = max(self.value, await asyncio.to_thread(self._read))
            await asyncio.sleep(SAMPLE_S)
