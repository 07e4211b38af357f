"""The pool's two invariants, whatever happens in whatever order, with and without a limit of connections."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar import errors
from sidecar.errors import Reason
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.limits.breaker import BreakerSpec
from tests.support.thoroughness import examples


class Connection:
    """A connection that is open until it is closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.is_open = True

    def is_usable(self) -> bool:
        return self.is_open

    def close_idle(self, reason: str) -> None:
        self.close()

    def close(self) -> None:
        assert self.is_open
        self.is_open = False
        pool.closed(self.endpoint, "test")


class Request:
    """A request that waits, and what became of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
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

    @initialize(limit=st.sampled_from([None, 1, 2, 3]))
    def begin(self, limit: int | None) -> None:
        breaker = None if limit is None else BreakerSpec(max_connections=limit)
        self.limit = limit
        self.cluster = Cluster(ClusterSpec("web", (("10.0.0.1:80", 1.0), ("10.0.0.2:80", 1.0)), breaker=breaker))
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.dials: list[Endpoint] = []

    def waiting(self, endpoint: Endpoint | None = None) -> list[Request]:
        return [request for request in self.requests if request.is_waiting and endpoint in (None, request.endpoint)]

    def serving(self) -> list[Request]:
        return [request for request in self.requests if request.connection is not None]

    def idle(self) -> list[IdleConnection]:
        return [connection for endpoint in self.cluster.endpoints for connection in endpoint.idle]

    @rule(which=st.integers(0, 1))
    def request_comes(self, which: int) -> None:
        endpoint = self.cluster.endpoints[which]
        request = Request(endpoint)
        before = list(endpoint.idle)
        taken = pool.take(endpoint)
        if taken is not None:
            assert isinstance(taken, Connection)
            assert taken.is_open
            assert taken is [each for each in before if each.is_usable()][-1], "the warmest"
            request.connection = taken
        else:
            assert not any(each.is_usable() for each in before)
            request.ticket = pool.wait(endpoint, request, self.dials.append)
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
    @rule(data=st.data())
    def dial_succeeds(self, data: st.DataObject) -> None:
        endpoint = self.dials.pop(data.draw(st.integers(0, len(self.dials) - 1)))
        first = self.waiting(endpoint)[:1]
        connection = Connection(endpoint)
        self.connections.append(connection)
        pool.connected(connection)
        assert [request.connection for request in first] == [connection] * len(first), "first come, first served"

    @precondition(lambda self: self.dials)
    @rule(data=st.data())
    def dial_fails(self, data: st.DataObject) -> None:
        endpoint = self.dials.pop(data.draw(st.integers(0, len(self.dials) - 1)))
        first = self.waiting(endpoint)
        pool.failed(endpoint, errors.CONNECT_FAILED, "")
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
            connection.close()

    @precondition(lambda self: self.idle())
    @rule(data=st.data())
    def idle_connection_dies(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.idle()))
        pool.remove(connection)
        connection.close_idle("idle_timeout")

    @rule(which=st.integers(0, 1))
    def endpoint_is_removed(self, which: int) -> None:
        self.cluster.endpoints[which].remove("endpoint_removed")

    @invariant()
    def idle_holds_only_open_connections_of_nobody(self) -> None:
        idle = self.idle()
        assert len(set(map(id, idle))) == len(idle)
        owned = {id(request.connection) for request in self.serving()}
        for connection in idle:
            assert connection.is_usable()
            assert id(connection) not in owned
            assert not connection.endpoint.is_removed
        assert len(owned) == len(self.serving()), "one connection, one exchange"
        for each in self.connections:
            assert not each.is_open or id(each) in owned or each in idle, "an open connection that nobody knows"

    @invariant()
    def as_many_dials_are_under_way_as_requests_wait_or_the_limit_allows(self) -> None:
        total = sum(endpoint.connections for endpoint in self.cluster.endpoints)
        for endpoint in self.cluster.endpoints:
            dials = sum(dialed is endpoint for dialed in self.dials)
            assert endpoint.connecting == dials
            assert endpoint.connections == dials + sum(
                each.is_open and each.endpoint is endpoint for each in self.connections
            )
            if len(self.waiting(endpoint)) > dials:
                assert self.limit is not None
                assert total >= self.limit, "there is room, and nobody uses it"
                assert endpoint.connections, "waits for a connection that never comes back"
                assert not self.idle(), "an idle connection, wherever, would have made room"
        if self.limit is not None:
            assert total <= self.limit + len(self.cluster.endpoints) - 1
        assert self.cluster.stats.pending == len(self.waiting())

    @invariant()
    def nobody_waits_while_a_connection_is_idle(self) -> None:
        assert not any(self.waiting(endpoint) and endpoint.idle for endpoint in self.cluster.endpoints)


Pool.TestCase.settings = settings(deadline=None, max_examples=examples(60), stateful_step_count=40)
TestPool = Pool.TestCase
