"""
Connections waiting for requests, and requests waiting for connections, an endpoint at a time. *Hot path.*

Everything is O(1): idle connections are a stack, so that the warmest is used and the coldest time out; requests that
wait are a queue. A request that finds no idle connection starts a dial, and takes whichever comes first, its dial or a
connection that another request gives back.

Invariant: an endpoint's `idle` holds only open connections with no exchange and no byte unread.
Invariant: while a request waits, at least as many dials are under way as requests wait, or the upstream's circuit
breaker allows no more connections and none is idle, at any endpoint; then the request gets one that is given back, or
one in place of one that closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from sidecar.errors import Reason
from sidecar.upstream.endpoint import Endpoint, IdleConnection, Objection
from sidecar.upstream.limits.breaker import Breaker

# More idle connections than this to one endpoint are a burst's remains and would only be swept.
MAX_IDLE: Final = 1024


class Waiter(Protocol):
    """A request that waits."""

    def on_connection(self, connection: IdleConnection) -> None:
        """The connection is yours; `release` it or close it."""

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """No connection will come for you."""


class Ticket:
    """A place in the queue; `cancel` it when the request is gone."""

    __slots__ = ("dial", "endpoint", "queue", "waiter")

    def __init__(
        self, endpoint: Endpoint, waiter: Waiter, dial: Callable[[Endpoint], None], queue: deque[object]
    ) -> None:
        self.endpoint = endpoint
        self.queue = queue
        self.dial = dial
        self.waiter: Waiter | None = waiter

    def cancel(self) -> None:
        """
        Leave the queue. The dial goes on, and its connection serves somebody else or waits in the pool.

        O(pending), some 10 ns each and only when a client leaves: the queue holds only requests that wait, so that its
        length can be compared with the dials.
        """
        if self.waiter is not None:
            self.queue.remove(self)
            self.settle()

    def settle(self) -> Waiter:
        """The ticket has left the queue; returns whom to tell."""
        waiter, self.waiter = self.waiter, None
        assert waiter is not None
        self.endpoint.cluster.stats.pending -= 1
        return waiter


def take(endpoint: Endpoint) -> IdleConnection | None:
    """The most recently used idle connection that is still good, or None."""
    idle = endpoint.idle
    while idle:
        connection = idle.pop()
        if connection.is_usable():
            endpoint.cluster.stats.connections_reused += 1
            return connection
        connection.close_idle("stale")
    return None


def wait(endpoint: Endpoint, waiter: Waiter, dial: Callable[[Endpoint], None]) -> Ticket:
    """
    Queue for the endpoint's next connection.

    Args:
        waiter: Told once, unless the ticket is cancelled; never during this call.
        dial: Starts a connection, and reports with `connected` or `failed`; called if fewer are under way than
            requests wait and the circuit breaker allows another.
    """
    ticket = Ticket(endpoint, waiter, dial, endpoint.pending)
    endpoint.pending.append(ticket)
    endpoint.cluster.stats.pending += 1
    _dial_if_needed(endpoint)
    return ticket


def wait_with(ticket: Ticket, dial: Callable[[Endpoint], None]) -> None:
    """As `wait`, of a request that waited elsewhere for the endpoint: it keeps its ticket, and may cancel it."""
    endpoint = ticket.endpoint
    ticket.queue, ticket.dial = endpoint.pending, dial
    endpoint.pending.append(ticket)
    _dial_if_needed(endpoint)


def can_queue(endpoint: Endpoint, breaker: Breaker) -> bool:
    """
    Whether one more request may wait here: a connection would be made for it, if need be in place of an idle one, or
    the queue for those of others is not full. O(endpoints), and only where there is a circuit breaker.
    """
    endpoints = endpoint.cluster.endpoints
    if breaker.has_room(sum(other.connections - len(other.idle) for other in endpoints), endpoint.connections):
        return True
    waiting = endpoint.cluster.stats.pending - sum(other.connecting for other in endpoints)
    return breaker.may_wait(max(waiting, 0))


def claim(endpoint: Endpoint) -> bool:
    """
    Count a connection that is to be opened beside the pool, for a tunnel, which can use no other's; false if the
    circuit breaker allows none, not even in place of an idle one. `forgo` it if it is not opened.
    """
    breaker = endpoint.cluster.breaker
    if breaker is not None:
        endpoints = endpoint.cluster.endpoints
        while not breaker.has_room(sum(other.connections for other in endpoints), endpoint.connections):
            if not _make_room(endpoints):
                breaker.on_full()
                return False
    endpoint.connections += 1
    return True


def forgo(endpoint: Endpoint) -> None:
    """What was claimed is not opened: a request that waited for room may have it."""
    endpoint.connections -= 1
    if endpoint.cluster.stats.pending:
        _use_room(endpoint)


def _dial_if_needed(endpoint: Endpoint) -> None:
    if endpoint.connecting >= len(endpoint.pending):
        return
    breaker = endpoint.cluster.breaker
    if breaker is not None:
        endpoints = endpoint.cluster.endpoints
        while not breaker.has_room(sum(other.connections for other in endpoints), endpoint.connections):
            if not _make_room(endpoints):
                breaker.on_full()
                contest(endpoint)
                return
            if endpoint.connecting >= len(endpoint.pending):
                return  # `closed` has used the room already.
    endpoint.connecting += 1
    endpoint.connections += 1
    cast("Ticket", endpoint.pending[-1]).dial(endpoint)


def _make_room(endpoints: Iterable[Endpoint]) -> bool:
    """
    Close an idle connection, the coldest of the endpoint that has most, or one of those that are shared; False if there
    is none. O(endpoints).
    """
    richest = max(endpoints, key=_idle_of, default=None)
    if richest is not None and richest.idle:
        richest.idle.pop(0).close_idle("made_room")
        return True
    return any(endpoint.shared is not None and endpoint.shared.make_room() for endpoint in endpoints)


def _idle_of(endpoint: Endpoint) -> int:
    return len(endpoint.idle)


def connected(connection: IdleConnection) -> None:
    """A dial succeeded."""
    endpoint = connection.endpoint
    endpoint.connecting -= 1
    endpoint.cluster.stats.connections_opened += 1
    release(connection)


def failed(endpoint: Endpoint, reason: Reason, detail: str) -> None:
    """A dial failed: the request that has waited longest is told, unless enough other dials are under way."""
    endpoint.connecting -= 1
    endpoint.connections -= 1
    if len(endpoint.pending) > endpoint.connecting:
        _next_waiting(endpoint).on_connect_failed(reason, detail)
    if endpoint.cluster.stats.pending:
        _use_room(endpoint)


def release(connection: IdleConnection) -> None:
    """
    Give a connection back after an exchange that left it clean.

    It serves the request that has waited longest, or becomes idle, or is closed if its endpoint is gone.
    """
    endpoint = connection.endpoint
    if endpoint.pending:
        _next_waiting(endpoint).on_connection(connection)
    elif endpoint.objections and not _is_kept(connection):
        pass
    elif len(endpoint.idle) >= MAX_IDLE:
        connection.close_idle("too_many_idle")
    else:
        endpoint.idle.append(connection)


def _is_kept(connection: IdleConnection) -> bool:
    """Whether a connection that is given back may become idle though something may speak against it; else it closes."""
    endpoint = connection.endpoint
    cause = ""
    if endpoint.is_removed:
        cause = "endpoint_removed"
    elif connection.epoch != endpoint.epoch:
        cause = "endpoint_moved"
    elif endpoint.objections & Objection.CONTESTED and is_contested(endpoint):
        cause = "made_room"
    if cause:
        connection.close_idle(cause)
    return not cause


def contest(endpoint: Endpoint) -> None:
    """A request waits here for room: what is given back at any endpoint of the upstream makes it."""
    for other in endpoint.cluster.endpoints:
        other.objections |= Objection.CONTESTED


def is_contested(endpoint: Endpoint) -> bool:
    """Whether a request waits for the room that a connection takes; else nobody need ask again."""
    endpoints = endpoint.cluster.endpoints
    if any(len(other.pending) > other.connecting or _waits_for_shared(other) for other in endpoints):
        return True
    for other in endpoints:
        other.objections &= ~Objection.CONTESTED
    return False


def _waits_for_shared(endpoint: Endpoint) -> bool:
    return endpoint.shared is not None and endpoint.shared.is_short(endpoint)


def closed(endpoint: Endpoint, cause: str) -> None:
    """A connection that was open is closed; a request that waited for room may have a connection made now."""
    endpoint.connections -= 1
    stats = endpoint.cluster.stats
    stats.connections_closed += 1
    stats.connections_closed_by[cause] = stats.connections_closed_by.get(cause, 0) + 1
    if stats.pending:
        _use_room(endpoint)


def _use_room(endpoint: Endpoint) -> None:
    """There is one connection less: if a circuit breaker made requests wait for that, dial for one of them."""
    cluster = endpoint.cluster
    if len(endpoint.pending) > endpoint.connecting:
        _dial_if_needed(endpoint)
    elif cluster.breaker is not None:
        # The limit is the upstream's, so the room may be another endpoint's.
        for other in cluster.endpoints:
            if len(other.pending) > other.connecting:
                _dial_if_needed(other)
                return
            if other.shared is not None and other.shared.is_short(other):
                other.shared.dial_if_needed(other)


def remove(connection: IdleConnection) -> None:
    """Take an idle connection out of the pool, because it timed out or its peer closed it. O(idle); rare."""
    idle = connection.endpoint.idle
    if connection in idle:
        idle.remove(connection)


def _next_waiting(endpoint: Endpoint) -> Waiter:
    return cast("deque[Ticket]", endpoint.pending).popleft().settle()
