"""The pool, one situation at a time; `tests/property/test_pool.py` has all the others."""

from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.errors import Reason
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.limits.breaker import BreakerSpec


class Connection:
    """Notes why it was closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.closed: list[str] = []

    def is_usable(self) -> bool:
        return not self.closed

    def close_idle(self, reason: str) -> None:
        self.closed.append(reason)


class Open(Connection):
    """As above, and the pool is told, as of a real one."""

    def close_idle(self, reason: str) -> None:
        super().close_idle(reason)
        pool.closed(self.endpoint, reason)


class Request:
    """Notes what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def on_connection(self, connection: IdleConnection) -> None:
        self.told.append(connection)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        self.told.append(reason)


@pytest.fixture
def endpoint() -> Endpoint:
    return Cluster(ClusterSpec("web", (("10.0.0.1:80", 1.0),))).endpoints[0]


class Dials(list[Endpoint]):
    """Dials that were asked for."""

    def __call__(self, endpoint: Endpoint) -> None:
        self.append(endpoint)


def test_newest_idle_connection_is_taken_first(endpoint: Endpoint) -> None:
    """The warmest is used, and the coldest time out."""
    old, new = Connection(endpoint), Connection(endpoint)
    pool.release(old)
    pool.release(new)
    assert pool.take(endpoint) is new
    assert pool.take(endpoint) is old
    assert pool.take(endpoint) is None
    assert endpoint.cluster.stats.connections_reused == 2


def test_stale_connections_are_closed_and_passed_over(endpoint: Endpoint) -> None:
    """What died unnoticed is not given to a request."""
    good, bad = Connection(endpoint), Connection(endpoint)
    pool.release(good)
    pool.release(bad)
    bad.closed.append("by itself")
    assert pool.take(endpoint) is good
    assert bad.closed[-1] == "stale"


def test_release_serves_the_request_that_waited_longest(endpoint: Endpoint) -> None:
    """First come, first served; the dials that are under way serve the rest."""
    dials, requests = Dials(), [Request(), Request()]
    for request in requests:
        pool.wait(endpoint, request, dials)
    assert len(dials) == endpoint.connecting == 2
    connection = Connection(endpoint)
    pool.release(connection)
    assert [request.told for request in requests] == [[connection], []]
    assert endpoint.cluster.stats.pending == 1


def test_cancelled_ticket_is_passed_over(endpoint: Endpoint) -> None:
    """A client that left gets nothing, and its dial serves another."""
    dials, left, waits = Dials(), Request(), Request()
    ticket = pool.wait(endpoint, left, dials)
    pool.wait(endpoint, waits, dials)
    ticket.cancel()
    ticket.cancel()
    assert endpoint.cluster.stats.pending == 1
    connection = Connection(endpoint)
    pool.connected(connection)
    assert (left.told, waits.told) == ([], [connection])


def test_failed_dial_tells_one_request(endpoint: Endpoint) -> None:
    """As many fail as dials fail."""
    dials, requests = Dials(), [Request(), Request()]
    for request in requests:
        pool.wait(endpoint, request, dials)
    pool.failed(endpoint, errors.CONNECT_FAILED, "")
    assert [request.told for request in requests] == [[errors.CONNECT_FAILED], []]
    pool.failed(endpoint, errors.CONNECT_TIMEOUT, "")
    assert requests[1].told == [errors.CONNECT_TIMEOUT]
    assert (endpoint.connecting, endpoint.cluster.stats.pending) == (0, 0)


def test_failed_dial_tells_nobody_while_other_dials_suffice(endpoint: Endpoint) -> None:
    """The dial of a request that is served already may fail without harm."""
    dials, requests = Dials(), [Request(), Request()]
    for request in requests:
        pool.wait(endpoint, request, dials)
    pool.release(Connection(endpoint))
    pool.failed(endpoint, errors.CONNECT_FAILED, "")
    assert requests[1].told == []
    connection = Connection(endpoint)
    pool.connected(connection)
    assert requests[1].told == [connection]


def test_failed_dial_does_not_count_requests_that_left(endpoint: Endpoint) -> None:
    """Wherever in the queue they were."""
    dials, first, second = Dials(), Request(), Request()
    pool.wait(endpoint, first, dials)
    ticket = pool.wait(endpoint, second, dials)
    ticket.cancel()
    pool.failed(endpoint, errors.CONNECT_FAILED, "")
    assert first.told == []
    connection = Connection(endpoint)
    pool.connected(connection)
    assert first.told == [connection]


def test_removed_endpoint_keeps_no_connection_but_serves_who_waits(endpoint: Endpoint) -> None:
    """What is in flight ends in its own time."""
    dials, request = Dials(), Request()
    pool.wait(endpoint, request, dials)
    endpoint.remove("endpoint_removed")
    connection = Connection(endpoint)
    pool.connected(connection)
    assert request.told == [connection]
    assert connection.closed == []
    pool.release(connection)
    assert connection.closed == ["endpoint_removed"]
    assert endpoint.idle == []


def test_burst_leaves_a_bounded_number_of_idle_connections(endpoint: Endpoint) -> None:
    """The rest is closed at once."""
    connections = [Connection(endpoint) for _ in range(pool.MAX_IDLE + 5)]
    for connection in connections:
        pool.release(connection)
    assert len(endpoint.idle) == pool.MAX_IDLE
    assert [connection.closed for connection in connections[-5:]] == [["too_many_idle"]] * 5


def test_remove_is_harmless_for_a_stranger(endpoint: Endpoint) -> None:
    """A connection that is not idle is not looked for twice."""
    connection = Connection(endpoint)
    pool.remove(connection)
    pool.release(connection)
    pool.remove(connection)
    assert endpoint.idle == []


def test_room_that_a_failed_dial_leaves_goes_where_no_dial_is_under_way() -> None:
    """Who waits at the endpoint of the failed dial has another under way; who waits elsewhere has none."""
    spec = ClusterSpec("web", (("10.0.0.1:80", 1.0), ("10.0.0.2:80", 1.0)), breaker=BreakerSpec(max_connections=3))
    here, there = Cluster(spec).endpoints
    dials, requests = Dials(), [Request() for _ in range(4)]
    for endpoint, request in zip((here, here, there, there), requests, strict=True):
        pool.wait(endpoint, request, dials)
    assert dials == [here, here, there]
    pool.failed(here, errors.CONNECT_FAILED, "refused")
    assert dials == [here, here, there, there]
    assert [request.told for request in requests] == [[errors.CONNECT_FAILED], [], [], []]


class TestRoom:
    """At `max_connections` of an upstream its idle connections make room, whichever endpoint they lead to."""

    @staticmethod
    def cluster_of(limit: int, size: int = 2, **settings: int) -> tuple[Endpoint, ...]:
        addresses = tuple((f"10.0.0.{i}:80", 1.0) for i in range(size))
        breaker = BreakerSpec(max_connections=limit, **settings)
        return Cluster(ClusterSpec("web", addresses, breaker=breaker)).endpoints

    @staticmethod
    def open_to(endpoint: Endpoint, count: int) -> list[Open]:
        connections = []
        for _ in range(count):
            endpoint.connections += 1
            connections.append(Open(endpoint))
        return connections

    def test_idle_connection_of_another_endpoint_is_closed_for_a_request_that_needs_one(self) -> None:
        """The coldest of the endpoint that has most, and no more than are needed."""
        here, there, third = self.cluster_of(7, 3)
        self.open_to(here, 1)
        idle, more = self.open_to(there, 4), self.open_to(third, 2)
        for connection in (*idle, *more):
            pool.release(connection)
        dials = Dials()
        pool.wait(here, Request(), dials)
        assert dials == [here]
        assert [connection.closed for connection in idle] == [["made_room"], [], [], []]
        assert (len(there.idle), len(third.idle), sum(one.connections for one in (here, there, third))) == (3, 2, 7)
        stats = here.cluster.stats
        assert (stats.overflow_connections, stats.connections_closed_by) == (0, {"made_room": 1})

    def test_idle_connections_leave_the_queue_free(self) -> None:
        """A request for which one can be closed does not count as one that waits for those of others."""
        here, there = self.cluster_of(3, max_pending_requests=0)
        self.open_to(here, 1)
        (idle, _) = self.open_to(there, 2)
        breaker = here.cluster.breaker
        assert breaker is not None
        assert not pool.can_queue(here, breaker)
        pool.release(idle)
        assert pool.can_queue(here, breaker)

    def test_connection_that_becomes_idle_makes_room_for_who_waits_elsewhere(self) -> None:
        """It is closed where it is given back; when nobody waits any more, connections become idle as ever."""
        here, there = self.cluster_of(4)
        self.open_to(here, 1)
        busy = self.open_to(there, 3)
        dials, request = Dials(), Request()
        pool.wait(here, request, dials)
        assert dials == []
        assert here.cluster.stats.overflow_connections == 1
        pool.release(busy[0])
        assert (busy[0].closed, dials) == (["made_room"], [here])
        pool.release(busy[1])
        assert busy[1].closed == []
        assert there.idle == [busy[1]]
        assert (here.objections, there.objections) == (0, 0)

    def test_limit_that_a_reload_lowered_is_reached_by_closing_what_is_idle(self) -> None:
        """As many as it takes, for the first request that needs a connection."""
        here, there = self.cluster_of(10)
        self.open_to(here, 1)
        for connection in self.open_to(there, 5):
            pool.release(connection)
        assert here.cluster.breaker is not None
        here.cluster.breaker.configure(BreakerSpec(max_connections=3))
        dials = Dials()
        pool.wait(here, Request(), dials)
        assert dials == [here]
        assert (here.connections, there.connections) == (2, 1)

    def test_removed_endpoint_makes_room_by_closing(self) -> None:
        """Its connections are closed anyway; who waits elsewhere has a connection made all the same."""
        here, there = self.cluster_of(3)
        self.open_to(here, 1)
        busy = self.open_to(there, 2)
        dials = Dials()
        pool.wait(here, Request(), dials)
        there.remove("endpoint_removed")
        pool.release(busy[0])
        assert (busy[0].closed, dials) == (["endpoint_removed"], [here])
