"""Says which sides of splits get no share, because their upstream has never had an endpoint. *Cold.*"""

from __future__ import annotations

import logging
from collections.abc import Generator

from sidecar.process_log import event
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward

logger = logging.getLogger(__name__)


class SplitSides:
    """What was said of the plan in force; a side that stays without through a reload is told once."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def look(self, plan: Plan) -> Generator[None, None, None]:
        """
        Write a line for each such side of a plan that has come in force, and let whole splits choose plainly; it rests
        wherever it yields.
        """
        missing: set[tuple[str, str]] = set()
        for route in plan.awaiting:
            action = route.action
            assert isinstance(action, Forward)
            assert action.split is not None
            positions = action.split.missing()
            if not positions:
                action.split.settle()
            missing.update((route.name, action.targets[position].name) for position in positions)
            yield
        for name, upstream in sorted(missing - self._told):
            logger.warning(event("split_side_without_endpoints", route=name, upstream=upstream))
            yield
        self._told = missing
