"""A crowd of handshakes before a test's own: nobody's step is done before the test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sidecar.net.tls.handshakes import Handshakes


class _Nobody:
    is_server = True

    def step(self) -> None:
        """Take the place of somebody's step."""


class Crowd:
    """
    Real `Handshakes` whose turns come when the test says so, and whose steps before are always taken.

    Attributes:
        gate: Given to what is tested.
    """

    def __init__(self) -> None:
        self._held: list[Callable[[], None]] = []
        self.gate = Handshakes(cast("asyncio.AbstractEventLoop", self))
        self._fill()

    def call_soon(self, action: Callable[[], None]) -> None:
        """In the loop's place."""
        self._held.append(action)

    @property
    def waiting(self) -> int:
        """How many wait for a step."""
        return len(self.gate._for_clients) + len(self.gate._for_servers)

    async def wait_for(self, count: int) -> None:
        """Until so many wait."""
        async with asyncio.timeout(30):
            while self.waiting < count:
                await asyncio.sleep(0)

    def turn(self) -> None:
        """All that wait do their steps."""
        while self.waiting:
            held, self._held = self._held, []
            for action in held:
                action()
        self._fill()

    def _fill(self) -> None:
        while self.gate._left:
            self.gate.ask(_Nobody())
