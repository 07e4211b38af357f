"""
Connections that are turned away: told one by one as long as they are few, and together when they are many. *Cold.*

Whoever is at a limit has no time to write a line for each, and whoever reads would find nothing else. Metrics count
every one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidecar import errors
from sidecar.exchange import Exchange
from sidecar.process_log import event

logger = logging.getLogger("sidecar.telemetry")

TOLD_PER_SECOND: Final = 10

_TURNED_AWAY: Final = (errors.OVERLOADED, errors.LOCAL_EXHAUSTION)

_SECOND_NS: Final = 1_000_000_000


def _later(delay_s: float, what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, what)


class Refusals:
    """
    Args:
        later: Calls something after so many seconds.

    Attributes:
        left_out: Exchanges without a line and a span, in all.
    """

    __slots__ = ("_later", "_left_out_before", "_reason", "_second", "_told", "left_out")

    def __init__(self, later: Callable[[float, Callable[[], None]], None] = _later) -> None:
        self.left_out = 0
        self._later = later
        self._reason = ""
        self._second = 0
        self._told = 0
        self._left_out_before = 0

    def leaves_out(self, exchange: Exchange) -> bool:
        """Whether this one, which has no request, is told with others: by a line a second in the process log."""
        if exchange.reason not in _TURNED_AWAY:
            return False  # the client's fault, which is told as any request is
        second = exchange.end_ns // _SECOND_NS
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= TOLD_PER_SECOND:
            return False
        if self.left_out == self._left_out_before:
            self._later(1.0, self.tell)
        self.left_out += 1
        self._reason = exchange.detail
        return True

    def tell(self) -> None:
        """Say how many there were since it was said last."""
        count, self._left_out_before = self.left_out - self._left_out_before, self.left_out
        if count:
            logger.warning(event("connections_refused", untold=count, reason=self._reason or None))
