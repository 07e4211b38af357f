"""
What all connections of one event loop share: the plan in force, the clocks, who is connected. *Hot path: reads only.*

A reload assigns `Live.plan`; an exchange reads it once, when it begins.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from math import inf
from typing import Final, Protocol

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.net.descriptors import Descriptors
from sidecar.net.flow import Outbox, Splicer
from sidecar.net.names import Names
from sidecar.net.timers import Timers
from sidecar.net.tls.handshakes import Handshakes
from sidecar.net.tls.sides import ServerSide
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.exchange.interfaces import Dialling, Recording
from sidecar.proxy.plan import Listener, Plan
from sidecar.proxy.server.dialer import Dialer

# Of connections with some 300 octets each: more are hardly busy at once in one process.
MAX_WARM: Final = 256
# Destinations of servers that speak first: of a few hundred octets each.
MAX_SILENT: Final = 1024
# One more than come in, so that a crowd that was busy at once becomes small again.
_LOOKS: Final = 2


class Full:
    """
    A limit that lets no further client in.

    Attributes:
        has_answer: There is room enough to say so.
    """

    __slots__ = ("detail", "has_answer", "reason")

    def __init__(self, reason: Reason, detail: str, has_answer: bool) -> None:
        self.reason = reason
        self.detail = detail
        self.has_answer = has_answer


class ListenerState:
    """
    A listener as its connections see it.

    Attributes:
        listener: Replaced by a reload that changed what the listener stands for but not its address.
        is_draining: Its connections close after the exchange they are in.
        tls: How clients are spoken to by TLS, or None: in clear.
    """

    __slots__ = ("is_draining", "listener", "tls")

    @property
    def identity(self) -> str:
        """Our own SPIFFE ID, as far as clients see it here, or empty."""
        return self.tls.identity if self.tls is not None else ""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.is_draining = False
        self.tls: ServerSide | None = None


class ClientConnection(Protocol):
    """A client's connection as whoever ends it sees it."""

    listener_state: ListenerState

    def announce_close(self) -> None:
        """Let the next response that begins be the last one."""

    def drain(self) -> None:
        """Close when idle, or after the exchange that is running."""

    def abort(self) -> None:
        """Close now, whatever is running."""


class Warm(Protocol):
    """A client's connection that has had a request."""

    def cool_down(self) -> bool:
        """Give up what is ready for the next request, unless one is under way; returns whether none is."""


class WarmConnections:
    """
    The clients' connections that keep ready what an exchange needs: as many as are busy at once, and not all that are
    idle. It costs a request nothing, unless its connection has nothing ready.
    """

    __slots__ = ("_connections",)

    def __init__(self) -> None:
        self._connections: dict[Warm, None] = {}

    def __repr__(self) -> str:
        return f"<WarmConnections {len(self._connections)}>"

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Warm) -> None:
        """It has made ready what it needs; if these are too many, the first of them are to give it up."""
        connections = self._connections
        connections[connection] = None
        for _ in range(_LOOKS):
            if len(connections) <= MAX_WARM:
                return
            first = next(iter(connections))
            del connections[first]
            if not first.cool_down():
                connections[first] = None

    def remove(self, connection: Warm) -> None:
        """It is gone."""
        self._connections.pop(connection, None)


_DIRECTIONS: Final = tuple(Direction)
"""To iterate over an enumeration costs more than all else that is done for a connection that has gone."""


class SilentDestinations:
    """
    Where servers have spoken first after a client was waited for, so that nobody waits again; the last of them. Of
    clients that were not led here it is the listener's address.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Destination | str, None] = {}

    def __repr__(self) -> str:
        return f"<SilentDestinations {len(self._seen)}>"

    def __contains__(self, destination: Destination | str) -> bool:
        return destination in self._seen

    def add(self, destination: Destination | str) -> None:
        """A server there has spoken first."""
        if len(self._seen) >= MAX_SILENT:
            del self._seen[next(iter(self._seen))]
        self._seen[destination] = None


class Live:
    """
    Args:
        plan: The first plan.
        telemetry: Records exchanges.
        timers: Started by the caller.
        loop: The loop that everything here runs on.
        names: Resolves endpoints that are names; default: some of its own.
        splicer: Lets large bodies go from socket to socket; default: they are read and written.
        handshakes: Lets those with clients and servers do their steps; default: one of its own.
    """

    def __init__(
        self,
        plan: Plan,
        telemetry: Recording,
        timers: Timers,
        loop: asyncio.AbstractEventLoop,
        names: Names | None = None,
        splicer: Splicer | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        self.plan = plan
        self.telemetry = telemetry
        self.timers = timers
        self.loop = loop
        self.outbox = Outbox(loop, splicer)
        self.warm = WarmConnections()
        self.descriptors = descriptors = Descriptors()
        self.handshakes = handshakes if handshakes is not None else Handshakes(loop)
        self.dialer: Dialling = Dialer(
            loop,
            timers,
            self.outbox,
            telemetry.connected,
            names,
            descriptors,
            self.handshakes,
            partial(telemetry.secured, is_client=False),
            partial(telemetry.not_secured, is_client=False),
        )
        self.connections: tuple[set[ClientConnection], set[ClientConnection]] = (set(), set())
        """Clients' connections, indexed by `Direction`."""
        self.silent = SilentDestinations()
        self.is_led_back = False
        """Connections of our own come back to us: the kernel's rules are for another user."""
        self.is_inbound_seen = False
        """One that was meant for the app has been led here."""
        self._ends_s: dict[ClientConnection, float] = {}
        """When the client's certificate ends, of those that have shown one: seconds since the Unix epoch."""

    def admit(
        self, connection: ClientConnection, direction: Direction, transport: asyncio.BaseTransport
    ) -> Full | None:
        """
        Count a client's connection in; or say which limit is reached.

        The descriptors come first: a connection that is refused for another reason takes one, too, until its end.
        """
        connected = transport.get_extra_info("socket")
        number = connected.fileno() if connected is not None else 0
        inbound, outbound = self.connections
        count = len(inbound) + len(outbound)
        limits, descriptors = self.plan.limits, self.descriptors
        reason, detail = errors.OVERLOADED, ""
        if number >= descriptors.ceiling or count >= descriptors.connections:
            reason, detail = errors.LOCAL_EXHAUSTION, "descriptors of the process"
        elif count >= limits.max_connections:
            detail = "limits.max_connections"
        elif self.timers.lag_s > limits.max_loop_lag_s:
            detail = "limits.max_loop_lag"
        if detail:
            return Full(reason, detail, descriptors.may_answer(number))
        self.connections[direction].add(connection)
        self.telemetry.connection_opened(direction)
        return None

    def replace(self, connection: ClientConnection, successor: ClientConnection, ends_s: float = inf) -> None:
        """A connection is another object from now on; one whose client's certificate ends then, in Unix time."""
        self._ends_s.pop(connection, None)
        if ends_s < inf:
            self._ends_s[successor] = ends_s
        for side in self.connections:
            if connection in side:
                side.remove(connection)
                side.add(successor)

    def forget(self, connection: ClientConnection, opened_ns: int) -> None:
        """A client's connection is gone; one that was not admitted, too."""
        self._ends_s.pop(connection, None)
        for direction in _DIRECTIONS:
            if connection in self.connections[direction]:
                self.connections[direction].remove(connection)
                self.telemetry.connection_closed(direction, clock.monotonic_ns() - opened_ns)
                return

    def expire(self, now_s: float | None = None) -> None:
        """
        Let no connection outlive its client's certificate: it takes no further request a while before, and is cut then.
        Call it every few seconds.
        """
        now_s = time.time() if now_s is None else now_s
        ahead_s = self.plan.drain_timeout_s
        for connection, ends_s in [pair for pair in self._ends_s.items() if pair[1] - ahead_s <= now_s]:
            if ends_s <= now_s:
                connection.abort()
            else:
                connection.drain()

    def connection_counts(self) -> dict[Direction, int]:
        """Open downstream connections by direction."""
        return {direction: len(self.connections[direction]) for direction in Direction}
