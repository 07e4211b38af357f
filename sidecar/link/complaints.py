"""Telling what goes wrong again and again once in a while. *Cold.*"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from sidecar.process_log import event

logger = logging.getLogger("sidecar.link")

REPEAT_S: Final = 300.0
_MAX_KNOWN: Final = 64


class Complaints:
    """
    What was logged, and when.

    Args:
        now: The loop's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: dict[tuple[str, str], float] = {}

    def tell(self, name: str, why: str, **values: object) -> None:
        """Log a warning, unless the same was logged in the last five minutes."""
        now = self._now()
        known = (name, why)
        if now - self._told.get(known, -REPEAT_S) < REPEAT_S:
            return
        if len(self._told) >= _MAX_KNOWN:
            self._told.clear()
        self._told[known] = now
        logger.warning(event(name, **values, reason=why))

    def settle(self, name: str) -> None:
        """It goes well again: what comes next is news."""
        for known in [known for known in self._told if known[0] == name]:
            del self._told[known]
