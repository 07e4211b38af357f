"""
Telling sidecars that the authority changed, so that a rotation is a matter of minutes and not of days. *On the loop.*

Each asks for another certificate at a moment of its own within the time that is said, which is such that a replica
signs a few in a second. Who is not connected meanwhile is told when it comes with a certificate from before.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from sidecar.control.authority.certificates import BACKDATED_S
from sidecar.control.push.hub import Hub
from sidecar.control.push.stream import Stream
from sidecar.control.server.callers import tls_of
from sidecar.link.messages import Renew

LOOK_S: Final = 1.0
PER_SECOND: Final = 10.0
LEAST_S: Final = 2.0


class Renewals:
    """
    Args:
        hub: All streams.
        changed_s: Since the Unix epoch, when trust changed last; 0: never.
    """

    def __init__(self, hub: Hub, changed_s: Callable[[], float]) -> None:
        self._hub = hub
        self._changed_s = changed_s
        self._told_s: float | None = None

    def opened(self, stream: Stream, request: web.Request) -> None:
        """A stream begins; its certificate may be from before the last change."""
        begins_s = _begins_s(tls_of(request))
        if begins_s is not None and begins_s + BACKDATED_S < self._changed_s():
            stream.say(self._line())

    def look(self) -> None:
        """Tell everyone if trust changed since the last look."""
        changed_s = self._changed_s()
        if self._told_s is not None and changed_s > self._told_s:
            for stream in self._hub:
                stream.say(self._line())
        self._told_s = changed_s

    async def run(self) -> None:
        """Look every second; ends only by being cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def _line(self) -> Renew:
        return Renew(max(LEAST_S, len(self._hub) / PER_SECOND))


def _begins_s(secured: ssl.SSLObject | None) -> float | None:
    """When the client's certificate begins; None without one."""
    shown = secured.getpeercert() if secured is not None else None
    return float(ssl.cert_time_to_seconds(str(shown["notBefore"]))) if shown else None
