"""
Plans that are no longer in force: kept until nobody else holds them, and then let go in slices. *Cold.*

A plan of 10,000 routes is a million objects. Whoever drops the last reference to it frees them all in one go, which
holds the loop for 30 ms; that may be the exchange that was the last to keep it. So the last reference is always here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence

from sidecar.compile.time_slices import Steps, in_slices
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward
from sidecar.upstream.cluster import Cluster

FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 5.0
"""Exchanges that keep a plan end within milliseconds, or, as WebSockets do, within hours."""

_OURS = 2  # references: the list's, and that of the argument


class OldPlans:
    """
    All plans that were in force, or were about to be.

    Args:
        loop: Of the data path.
        live: The clusters that are in force; those that no plan has any more go with the last one that had them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, live: Callable[[], Mapping[str, Cluster]]) -> None:
        self._loop = loop
        self._live = live
        self._plans: list[Plan] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._plans)

    def add(self, plan: Plan) -> None:
        """Let it go when everybody else has."""
        self._plans.append(plan)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._let_go(), name="old plans")

    def close(self) -> None:
        """The process ends; what is left goes with it."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _let_go(self) -> None:
        wait_s = FIRST_LOOK_S
        while self._plans:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_LOOK_S)
            kept: list[Plan] = []
            while self._plans:
                if sys.getrefcount(self._plans[-1]) <= _OURS:
                    await in_slices(self._dismantled(self._plans.pop(), kept))
                else:
                    kept.append(self._plans.pop())
            self._plans += kept

    def _dismantled(self, plan: Plan, kept: Sequence[Plan]) -> Steps[None]:
        for route in plan.awaiting:
            action = route.action
            if isinstance(action, Forward) and action.split is not None:
                action.split.settle()  # what chooses otherwise refers to the split, which refers to it
            yield
        for side in (*plan.sides, *plan.side_of.values()):
            yield from side.table.dismantle()
            if side.authorization is not None:
                yield from side.authorization.dismantle()
        for name, cluster in plan.clusters.items():
            holders = (self._live(), *(other.clusters for other in (*self._plans, *kept)))
            if not any(clusters.get(name) is cluster for clusters in holders):
                cluster.dissolve()
            yield
