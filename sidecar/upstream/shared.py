"""
Connections that many requests share at once (HTTP/2), and requests waiting for them, an endpoint at a time. *Hot path:
`take`.*

Beside `pool`, whose connections serve one request at a time: an endpoint may have both. A request goes to the
connection with the fewest; if all carry as many as they may, it waits, and another is opened: one for as many requests
as one can carry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from sidecar import errors
from sidecar.errors import Reason
from sidecar.message import Kind, RequestHead, Version
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint, IdleConnection, SharedConnections, Shares
from sidecar.upstream.pool import Ticket, Waiter


class SharedConnection(Protocol):
    """A connection that carries many exchanges; `proxy` owns the class."""

    __slots__ = ()

    endpoint: Endpoint
    epoch: int
    """`Endpoint.epoch` when its dial began."""
    load: int
    """Exchanges that it carries, and those that are about to begin."""

    def room(self) -> int:
        """How many more it may carry now."""

    def reserve(self) -> IdleConnection:
        """A place for an exchange; only where there is room."""

    def retire(self, reason: str) -> None:
        """Carry no further exchange, and close when the last is over."""


class Shared(SharedConnections):
    """
    Those of one endpoint, which is given to each call: it knows them, and a circle of the two would outlive the reload
    that ends it.

    Args:
        dial: Opens one, and reports with `connected`, `refused` or `failed`.

    Attributes:
        connections: That take exchanges.
        pending: Requests that wait, oldest first.
        connecting: Connects under way.
        is_refused: The server has agreed to speak, and not this: its endpoint's other connections are used.
    """

    __slots__ = ("_dial", "connecting", "connections", "is_refused", "pending")

    def __init__(self, dial: Callable[[Endpoint], None]) -> None:
        self._dial = dial
        self.connections: list[SharedConnection] = []
        self.pending: deque[object] = deque()
        self.connecting = 0
        self.is_refused = False

    def __repr__(self) -> str:
        return (
            f"<Shared {len(self.connections)} connections, {self.connecting} connecting, {len(self.pending)} pending>"
        )

    def take(self, endpoint: Endpoint) -> IdleConnection | None:
        """A place on the connection that carries least, or None."""
        best: SharedConnection | None = None
        for connection in self.connections:
            if (best is None or connection.load < best.load) and connection.room() > 0:
                best = connection
        if best is None:
            return None
        endpoint.cluster.stats.connections_reused += 1
        return best.reserve()

    def wait(self, endpoint: Endpoint, waiter: Waiter) -> Ticket:
        """Queue for a place; the waiter is told once, unless the ticket is cancelled, and never during this call."""
        ticket = Ticket(endpoint, waiter, self._dial, self.pending)
        self.pending.append(ticket)
        endpoint.cluster.stats.pending += 1
        self.dial_if_needed(endpoint)
        return ticket

    def dial_if_needed(self, endpoint: Endpoint) -> None:
        """Open a connection if more requests wait than those under way can carry, and the circuit breaker allows it."""
        if self.is_short(endpoint):
            # Counted at once: if a connection is closed to make room, whoever waits is told, and would dial as well.
            self.connecting += 1
            if pool.claim(endpoint):
                self._dial(endpoint)
            else:
                self.connecting -= 1
                pool.contest(endpoint)

    def is_short(self, endpoint: Endpoint) -> bool:
        """Whether more requests wait than the dials under way can carry."""
        return len(self.pending) > self.connecting * endpoint.cluster.max_streams

    def make_room(self) -> bool:
        """Close a connection that carries nothing, so that there may be another elsewhere; False if there is none."""
        for connection in self.connections:
            if not connection.load:
                connection.retire("made_room")
                return True
        return False

    def connected(self, connection: SharedConnection) -> None:
        """A dial succeeded."""
        self.connecting -= 1
        self.is_refused = False
        endpoint = connection.endpoint
        endpoint.cluster.stats.connections_opened += 1
        cause = ""
        if endpoint.is_removed:
            cause = "endpoint_removed"
        elif connection.epoch != endpoint.epoch:
            cause = "endpoint_moved"  # while it was dialled; who waits could have been served there before, too
        else:
            self.connections.append(connection)
        self.freed(connection)
        if self.pending and not connection.load:
            # It takes none, or is about to end: the next would be no better, nor the one after that.
            self._tell_failed(endpoint, errors.CONNECT_FAILED, f"{endpoint.label}: takes no request")
        if cause:
            connection.retire(cause)
        else:
            self.dial_if_needed(endpoint)  # it may take fewer than it was dialled for

    def refused(self, endpoint: Endpoint, connection: IdleConnection, dial: Callable[[Endpoint], None]) -> None:
        """
        A dial brought a connection that carries one request at a time: who waits here waits for such ones.

        Args:
            dial: Opens them.
        """
        self.connecting -= 1
        self.is_refused = True
        endpoint.cluster.stats.connections_opened += 1
        if self.pending:
            # It is for whom it was dialled; put to the pool's queue first, he would have another dialled besides.
            cast("Ticket", self.pending.popleft()).settle().on_connection(connection)
        else:
            pool.release(connection)
        while self.pending:
            pool.wait_with(cast("Ticket", self.pending.popleft()), dial)

    def failed(self, endpoint: Endpoint, reason: Reason, detail: str) -> None:
        """A dial failed: the requests that it would have carried are told."""
        self.connecting -= 1
        waiters = self._take_waiters(endpoint)
        pool.forgo(endpoint)
        for waiter in waiters:
            waiter.on_connect_failed(reason, detail)

    def _tell_failed(self, endpoint: Endpoint, reason: Reason, detail: str) -> None:
        for waiter in self._take_waiters(endpoint):
            waiter.on_connect_failed(reason, detail)

    def _take_waiters(self, endpoint: Endpoint) -> list[Waiter]:
        """Those that wait and that no dial under way is for. Whoever is told may wait here again, at once."""
        spared = self.connecting * endpoint.cluster.max_streams
        taken = [cast("Ticket", self.pending.popleft()) for _ in range(len(self.pending) - spared)]
        return [ticket.settle() for ticket in taken]

    def freed(self, connection: SharedConnection) -> None:
        """A connection has room again: requests that wait have it."""
        while self.pending and connection.room() > 0:
            cast("Ticket", self.pending.popleft()).settle().on_connection(connection.reserve())

    def gone(self, connection: SharedConnection) -> None:
        """A connection takes no further exchange."""
        if connection in self.connections:
            self.connections.remove(connection)
        self.dial_if_needed(connection.endpoint)

    def retire(self, reason: str) -> None:
        """The endpoint ends, or its name leads elsewhere: no connection that there is takes a further exchange."""
        connections, self.connections = self.connections, []
        for connection in connections:
            connection.retire(reason)

    def counts(self) -> tuple[int, int, int]:
        """Connections that take exchanges, exchanges that these carry, and connects under way; for people."""
        carried = sum([connection.load for connection in self.connections])
        return len(self.connections), carried, self.connecting


def carries(endpoint: Endpoint, head: RequestHead, upgrade: bytes) -> bool:
    """
    Whether a request shares a connection with others, where the like of it do.

    Args:
        upgrade: The protocol that it asks to switch to, if that is passed on, else empty.
    """
    cluster = endpoint.cluster
    if upgrade and not cluster.is_http2:
        return False
    shares = cluster.shares
    if not head.kinds & Kind.GRPC and (
        (shares == Shares.TO_SIDECARS and not endpoint.is_tls)
        or (shares == Shares.AS_CAME and head.version != Version.HTTP2)
    ):
        return False
    among = endpoint.shared
    # Who has refused may be another by now, and is asked with the next connection that would be the only one.
    return among is None or not cast("Shared", among).is_refused or not endpoint.connections


def of(endpoint: Endpoint, dial: Callable[[Endpoint], None]) -> Shared:
    """
    Those of an endpoint.

    Args:
        dial: Opens one, and reports with `connected`, `refused` or `failed`.
    """
    shared = endpoint.shared
    if shared is None:
        shared = endpoint.shared = Shared(dial)
    return cast("Shared", shared)
