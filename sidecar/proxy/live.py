"""
What all connections of one event loop share: the plan in force, the clocks, who is connected. *Hot path: reads only.*

A reload assigns `Live.plan`; an exchange reads it once, when it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sidecar.exchange import Direction
from sidecar.net.flow import Outbox
from sidecar.net.timers import Timers
from sidecar.proxy.dialer import Dialer
from sidecar.proxy.downstream import DownstreamConnection
from sidecar.proxy.halves import Dialling, Recording
from sidecar.proxy.plan import Listener, Plan


class ListenerState:
    """
    A listener as its connections see it.

    Attributes:
        listener: Replaced by a reload that changed what the listener stands for but not its address.
        is_draining: Its connections close after the exchange they are in.
    """

    __slots__ = ("is_draining", "listener")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.is_draining = False


class Live:
    """
    Args:
        plan: The first plan.
        telemetry: Records exchanges.
        timers: Started by the caller.
        loop: The loop that everything here runs on.
    """

    def __init__(self, plan: Plan, telemetry: Recording, timers: Timers, loop: asyncio.AbstractEventLoop) -> None:
        self.plan = plan
        self.telemetry = telemetry
        self.timers = timers
        self.loop = loop
        self.outbox = Outbox(loop)
        self.dialer: Dialling = Dialer(loop, timers, self.outbox, telemetry.connected)
        self.connections: tuple[set[DownstreamConnection], set[DownstreamConnection]] = (set(), set())
        """Downstream connections, indexed by `Direction`."""

    def protocol_factory(self, state: ListenerState) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols for a listener's server."""
        return lambda: cast("asyncio.Protocol", DownstreamConnection(self, state))

    def connection_counts(self) -> dict[Direction, int]:
        """Open downstream connections by direction."""
        return {direction: len(self.connections[direction]) for direction in Direction}
