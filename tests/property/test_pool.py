"""The pool's two invariants, whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar import errors
from sidecar.errors import Reason
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection


class Connection:
    """A connection that is open until it is closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_open = True

    def is_usable(self) -> bool:
        return self.is_open

    def close_idle(self, reason: str) -> None:
        assert self.is_open
        self.is_open = False


class Request:
    """A request that waits, and what became of it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_failed = False
        self.is_left = False
        self.ticket: pool.Ticket | None = None

    @property
    def is_waiting(self) -> bool:
        return self.ticket is not None and self.connection is None and not self.is_failed and not self.is_left

    def on_connection(self, connection: IdleConnection) -> None:
        assert self.is_waiting, "told twice, or after it left"
        assert isinstance(connection, Connection)
        assert connection.is_usable()
        self.connection = connection

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        assert self.is_waiting, "told twice, or after it left"
        self.is_failed = True


class Pool(RuleBasedStateMachine):
    """Requests come and go, dials end either way, connections are given back, time out, and die."""

    @initialize()
    def begin(self) -> None:
        self.cluster = Cluster(ClusterSpec("web", (("10.0.0.1:80", 1.0),)))
        self.endpoint = self.cluster.endpoints[0]
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.dials = 0

    def dial(self, endpoint: Endpoint) -> None:
        assert endpoint is self.endpoint
        self.dials += 1

    def waiting(self) -> list[Request]:
        return [request for request in self.requests if request.is_waiting]

    def serving(self) -> list[Request]:
        return [request for request in self.requests if request.connection is not None]

    @rule()
    def request_comes(self) -> None:
        request = Request()
        before = list(self.endpoint.idle)
        taken = pool.take(self.endpoint)
        if taken is not None:
            assert isinstance(taken, Connection)
            assert taken.is_open
            assert taken is [each for each in before if each.is_usable()][-1], "the warmest"
            request.connection = taken
        else:
            assert not any(each.is_usable() for each in before)
            request.ticket = pool.wait(self.endpoint, request, self.dial)
        self.requests.append(request)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def request_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting()))
        request.is_left = True
        assert request.ticket is not None
        request.ticket.cancel()
        request.ticket.cancel()

    @precondition(lambda self: self.dials)
    @rule()
    def dial_succeeds(self) -> None:
        self.dials -= 1
        first = self.waiting()[:1]
        connection = Connection(self.endpoint)
        self.connections.append(connection)
        pool.connected(connection)
        assert [request.connection for request in first] == [connection] * len(first), "first come, first served"

    @precondition(lambda self: self.dials)
    @rule()
    def dial_fails(self) -> None:
        self.dials -= 1
        first = self.waiting()
        pool.failed(self.endpoint, errors.CONNECT_FAILED, "")
        assert sum(request.is_failed for request in first) <= 1
        assert not any(request.is_failed for request in first[1:]), "the one that waited longest is told"

    @precondition(lambda self: self.serving())
    @rule(data=st.data(), is_clean=st.booleans())
    def exchange_ends(self, data: st.DataObject, is_clean: bool) -> None:
        request = data.draw(st.sampled_from(self.serving()))
        connection = request.connection
        assert connection is not None
        self.requests.remove(request)
        if is_clean:
            pool.release(connection)
        else:
            connection.is_open = False

    @precondition(lambda self: self.endpoint.idle)
    @rule(data=st.data(), is_noticed=st.booleans())
    def idle_connection_dies(self, data: st.DataObject, is_noticed: bool) -> None:
        connection = data.draw(st.sampled_from(self.endpoint.idle))
        if is_noticed:
            pool.remove(connection)
            connection.close_idle("idle_timeout")

    @precondition(lambda self: not self.endpoint.is_removed)
    @rule()
    def endpoint_is_removed(self) -> None:
        self.endpoint.remove("endpoint_removed")

    @invariant()
    def idle_holds_only_open_connections_of_nobody(self) -> None:
        idle = self.endpoint.idle
        assert len(set(map(id, idle))) == len(idle)
        owned = {id(request.connection) for request in self.serving()}
        for connection in idle:
            assert connection.is_usable()
            assert id(connection) not in owned
        assert len(owned) == len(self.serving()), "one connection, one exchange"
        if self.endpoint.is_removed:
            assert not idle
        for each in self.connections:
            assert not each.is_open or id(each) in owned or each in idle, "an open connection that nobody knows"

    @invariant()
    def as_many_dials_are_under_way_as_requests_wait(self) -> None:
        assert self.endpoint.connecting == self.dials
        assert len(self.waiting()) <= self.dials
        assert self.cluster.stats.pending == len(self.waiting())

    @invariant()
    def nobody_waits_while_a_connection_is_idle(self) -> None:
        assert not (self.waiting() and self.endpoint.idle)


Pool.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestPool = Pool.TestCase
