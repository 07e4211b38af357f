"""Connections that requests share, one situation at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar import errors
from sidecar.message import Kind, RequestHead, Version
from sidecar.net.tls.settings import WorkloadTls
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection, Shares
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.shared import Shared, carries
from tests.unit.upstream.test_pool import Connection, Dials, Open, Request


class Carrier:
    """A connection that carries so many; notes why it was retired, and tells so as a real one."""

    def __init__(self, endpoint: Endpoint, shared: Shared, places: int) -> None:
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.load = 0
        self.retired: list[str] = []
        self._shared = shared
        self._places = places

    def room(self) -> int:
        return 0 if self.retired else self._places - self.load

    def reserve(self) -> Connection:
        self.load += 1
        return Connection(self.endpoint)

    def retire(self, reason: str) -> None:
        self.retired.append(reason)
        self._shared.gone(self)
        if not self.load:
            pool.closed(self.endpoint, reason)


@pytest.fixture
def endpoint() -> Endpoint:
    return Cluster(ClusterSpec("web", (("10.0.0.1:80", 1.0),))).endpoints[0]


def test_a_connection_for_one_request_goes_to_who_waited_for_a_shared_one(endpoint: Endpoint) -> None:
    """It is dialled once: the first that waits has it, and only the others have connections dialled for them."""
    shared_dials, dials = Dials(), Dials()
    shared = Shared(shared_dials)
    first, second = Request(), Request()
    shared.wait(endpoint, first)
    shared.wait(endpoint, second)
    assert (len(shared_dials), len(dials)) == (1, 0)
    connection = Connection(endpoint)
    shared.refused(endpoint, connection, dials)
    assert (first.told, second.told) == ([connection], [])
    assert (len(shared_dials), len(dials)) == (1, 1)
    assert (shared.is_refused, len(shared.pending), len(endpoint.pending)) == (True, 0, 1)


class Carrying:
    """A connection that carries so many already, and one more."""

    def __init__(self, endpoint: Endpoint, load: int) -> None:
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.load = load

    def room(self) -> int:
        """For one, until it is retired."""
        return 1

    def reserve(self) -> IdleConnection:
        """A place."""
        self.load += 1
        return Connection(self.endpoint)

    def retire(self, reason: str) -> None:
        """Nobody asks why."""


def test_connections_are_counted_with_what_they_carry_as_long_as_they_take_more(endpoint: Endpoint) -> None:
    """And those that are on their way."""
    shared = Shared(Dials())
    assert shared.counts() == (0, 0, 0)
    shared.wait(endpoint, Request())
    assert shared.counts() == (0, 0, 1)
    shared.connected(Carrying(endpoint, 0))
    assert shared.counts() == (1, 1, 0)
    shared.connecting += 1
    shared.connected(Carrying(endpoint, 40))
    shared.take(endpoint)
    assert shared.counts() == (2, 42, 0)
    shared.retire("endpoint_removed")
    assert shared.counts() == (0, 0, 0)


def test_a_connection_for_one_request_that_nobody_waits_for_idles(endpoint: Endpoint) -> None:
    """Who had it dialled has given up meanwhile."""
    dials = Dials()
    shared = Shared(dials)
    shared.wait(endpoint, Request()).cancel()
    connection = Connection(endpoint)
    shared.refused(endpoint, connection, dials)
    assert endpoint.idle == [connection]
    assert len(dials) == 1


def test_who_waits_in_another_queue_then_may_still_leave_it(endpoint: Endpoint) -> None:
    """No connection is spent on a request that is gone."""
    shared, dials = Shared(Dials()), Dials()
    shared.wait(endpoint, Request())
    second = shared.wait(endpoint, Request())
    shared.refused(endpoint, Connection(endpoint), dials)
    second.cancel()
    assert (len(endpoint.pending), endpoint.cluster.stats.pending) == (0, 0)


def test_another_is_dialled_where_one_carries_fewer_than_wait(endpoint: Endpoint) -> None:
    """How many a server allows is known when it is connected; who is left over must not wait for the others' ends."""
    dials = Dials()
    shared = Shared(dials)
    waiting = [Request() for _ in range(3)]
    for one in waiting:
        shared.wait(endpoint, one)
    for number in range(1, 4):
        assert len(dials) == number
        shared.connected(Carrier(endpoint, shared, 1))
        assert [len(one.told) for one in waiting] == [1] * number + [0] * (3 - number)
    assert len(dials) == 3


def test_who_waits_at_an_endpoint_that_is_gone_is_served_all_the_same(endpoint: Endpoint) -> None:
    """Or dials would follow one another for ever, each connection closed at once."""
    dials = Dials()
    shared = Shared(dials)
    endpoint.shared = shared
    waiting = [Request() for _ in range(2)]
    for one in waiting:
        shared.wait(endpoint, one)
    endpoint.remove("endpoint_removed")
    for number in (1, 2):
        carrier = Carrier(endpoint, shared, 1)
        shared.connected(carrier)
        assert carrier.retired == ["endpoint_removed"]
        assert [len(one.told) for one in waiting] == [1] * number + [0] * (2 - number)
    assert (len(dials), shared.connections) == (2, [])


def test_a_connection_to_where_a_name_led_before_is_not_kept(endpoint: Endpoint) -> None:
    """It would be, for as long as requests come; who waits for it is served."""
    dials = Dials()
    endpoint.shared = shared = Shared(dials)
    waiting = Request()
    shared.wait(endpoint, waiting)
    carrier = Carrier(endpoint, shared, 100)
    endpoint.move()
    shared.connected(carrier)
    assert (len(waiting.told), shared.take(endpoint), carrier.retired) == (1, None, ["endpoint_moved"])


def test_a_connection_that_takes_none_is_no_reason_to_dial_again(endpoint: Endpoint) -> None:
    """Nor for anybody to wait: a server that allows no stream, or has ended already, will do so again."""
    dials = Dials()
    shared = Shared(dials)
    waiting = Request()
    shared.wait(endpoint, waiting)
    carrier = Carrier(endpoint, shared, 0)
    shared.connected(carrier)
    assert waiting.told == [errors.CONNECT_FAILED]
    carrier.retire("peer_closed")
    assert (len(dials), len(shared.pending), shared.connecting) == (1, 0, 0)


class TestRoom:
    """Under a circuit breaker's `max_connections`, which is of all endpoints together, and here used up."""

    @pytest.fixture
    def endpoints(self) -> tuple[Endpoint, ...]:
        addresses = tuple((f"10.0.0.{number}:80", 1.0) for number in (1, 2))
        return Cluster(ClusterSpec("web", addresses, breaker=BreakerSpec(max_connections=3))).endpoints

    def test_a_connection_for_one_request_makes_room_for_a_shared_one(self, endpoints: tuple[Endpoint, ...]) -> None:
        """One of them, and one dial: not another for who is told that there is room now."""
        here, there = endpoints
        here.connections = 1
        for _ in range(2):
            there.connections += 1
            there.connecting += 1
            pool.connected(Open(there))
        dials = Dials()
        here.shared = shared = Shared(dials)
        shared.wait(here, Request())
        assert (len(there.idle), len(dials), shared.connecting, here.connections) == (1, 1, 1, 2)

    def test_a_shared_one_that_carries_nothing_makes_room_elsewhere(self, endpoints: tuple[Endpoint, ...]) -> None:
        """One that carries something does not."""
        here, there = endpoints
        here.connections = 1
        there.shared = theirs = Shared(Dials())
        for load in (1, 0):
            there.connections += 1
            theirs.connecting += 1
            carrier = Carrier(there, theirs, 1)
            carrier.load = load
            theirs.connected(carrier)
        busy, idle = theirs.connections
        dials = Dials()
        here.shared = shared = Shared(dials)
        shared.wait(here, Request())
        assert (theirs.connections, len(dials)) == ([busy], 1)
        assert isinstance(idle, Carrier)
        assert idle.retired == ["made_room"]
        assert there.connections == 1

    def test_what_becomes_idle_makes_room_for_who_waits_for_a_shared_one(self, endpoints: tuple[Endpoint, ...]) -> None:
        """All were in use when it came; what is given back is closed, and its own connection dialled."""
        here, there = endpoints
        here.connections, there.connections = 1, 2
        dials = Dials()
        here.shared = shared = Shared(dials)
        shared.wait(here, Request())
        assert len(dials) == 0
        first, second = Open(there), Open(there)
        pool.release(first)
        assert (first.closed, len(dials)) == (["made_room"], 1)
        pool.release(second)
        assert there.idle == [second]


WEB = ClusterSpec("web", (("10.0.0.1:80", 1.0),))


def head(version: int, kinds: int = 0) -> RequestHead:
    """Of a request that came so."""
    made = RequestHead(b"POST", b"/", None, version)
    made.kinds = kinds
    return made


ORDINARY, BY_HTTP2, CALL = head(Version.HTTP11), head(Version.HTTP2), head(Version.HTTP2, Kind.GRPC)


class TestWhichShare:
    """`auto` between sidecars: all that goes by TLS; in clear gRPC alone, for nobody has said what is spoken there."""

    def endpoint(self, *, is_tls: bool) -> Endpoint:
        """A sidecar's, as it is told of."""
        cluster = Cluster(replace(WEB, tls=WorkloadTls(("spiffe://shop/web",))))
        assert cluster.shares == Shares.TO_SIDECARS
        endpoint = cluster.endpoints[0]
        endpoint.is_tls = is_tls
        return endpoint

    def test_all_that_goes_by_tls(self) -> None:
        endpoint = self.endpoint(is_tls=True)
        assert all(carries(endpoint, one, b"") for one in (ORDINARY, BY_HTTP2, CALL))

    def test_in_clear_grpc_alone(self) -> None:
        endpoint = self.endpoint(is_tls=False)
        assert [carries(endpoint, one, b"") for one in (ORDINARY, BY_HTTP2, CALL)] == [False, False, True]

    def test_an_upgrade_has_its_own_connection(self) -> None:
        """Nobody knows whether the server takes an extended CONNECT, and every one of HTTP/1.1 knows upgrades."""
        assert not carries(self.endpoint(is_tls=True), ORDINARY, b"websocket")

    def test_who_has_refused_is_asked_again_with_the_first_connection_after_all_have_ended(self) -> None:
        """By then it may be a newer release behind the same address."""
        endpoint = self.endpoint(is_tls=True)
        shared = endpoint.shared = Shared(Dials())
        shared.wait(endpoint, Request())
        shared.refused(endpoint, Connection(endpoint), Dials())
        assert endpoint.connections == 1
        assert not carries(endpoint, ORDINARY, b"")
        endpoint.connections = 0
        assert carries(endpoint, ORDINARY, b"")
