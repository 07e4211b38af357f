"""What exceeds a limit of the circuit breaker is refused at once or waits its turn; what is within is not touched."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sidecar import errors
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.retry import RetryPolicy
from tests.support.fakes import Client, Server, World

A, B = "10.0.0.1:80", "10.0.0.2:80"
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Make = Callable[..., World]


def asking(world: World, count: int) -> list[Client]:
    """So many clients, each of which has sent a request."""
    clients = [world.client() for _ in range(count)]
    for client in clients:
        client.get()
    return clients


def status_of(client: Client) -> int:
    """Of the last response that the client has."""
    return client.responses()[-1].status


def in_flight(world: World) -> int:
    """What the breaker counts."""
    assert world.cluster.breaker is not None
    return world.cluster.breaker.requests


class TestRequests:
    """`max_requests`."""

    def test_what_exceeds_it_is_refused_at_once_and_told_when_to_come_back(self, make_world: Make) -> None:
        """503 `UO` with `Retry-After`; nothing is dialed for it."""
        world = make_world(breaker=BreakerSpec(max_requests=2, pending_timeout_s=2.5))
        one, two, three = asking(world, 3)
        assert len(world.dials.under_way) == 2
        (response,) = three.responses()
        assert response.status == 503
        assert response.headers[b"retry-after"] == b"3"
        assert response.headers[b"proxy-status"] == (
            b'sidecar; error=connection_limit_reached; details="upstream_overloaded"'
        )
        said = json.loads(response.body)
        assert (said["error"], said["flag"], said["route"], said["upstream"]) == (
            "upstream_overloaded", "UO", "to-web", "web",
        )  # fmt: skip
        assert world.cluster.stats.overflow_requests == 1
        assert three.is_open
        server = world.accept()
        for client in (one, two):
            _ = server >> OK
            assert status_of(client) == 200
        three.get()
        _ = server >> OK
        assert status_of(three) == 200
        world.assert_at_rest()

    @pytest.mark.parametrize("end", ["answer", "reset", "refuse", "leave", "timeout", "garbage", "cut"])
    def test_every_end_gives_its_place_back(self, make_world: Make, end: str) -> None:
        """However an exchange ends."""
        world = make_world(breaker=BreakerSpec(max_requests=1), timeout_s=5.0)
        (client,) = asking(world, 1)
        assert in_flight(world) == 1
        if end == "refuse":
            world.refuse()
        else:
            server = world.accept()
            if end == "answer":
                _ = server >> OK
            elif end == "reset":
                server.reset()
            elif end == "leave":
                client.leave()
            elif end == "garbage":
                _ = server >> b"\x00\r\n\r\n"
            elif end == "cut":
                _ = server >> OK[:-1]
                server.reset()
            else:
                world.advance(5.2)
        assert in_flight(world) == 0
        world.assert_at_rest()

    def test_a_tunnel_holds_its_place_until_it_ends(self, make_world: Make) -> None:
        """It is in flight as long as it is open."""
        world = make_world(breaker=BreakerSpec(max_requests=1))
        client = world.client()
        _ = client >> b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        server = world.accept()
        _ = server >> b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        world.advance(10)
        (other,) = asking(world, 1)
        assert status_of(other) == 503
        server.eof()
        client.eof()
        assert in_flight(world) == 0
        world.assert_at_rest()

    def test_a_pipelining_client_is_refused_one_request_and_not_the_next(self, make_world: Make) -> None:
        """The connection goes on; each request is judged when it comes."""
        world = make_world(breaker=BreakerSpec(max_requests=1))
        (holder,) = asking(world, 1)
        client = world.client()
        _ = client >> GET + GET
        assert [response.status for response in client.responses()] == [503, 503]
        _ = world.accept() >> OK
        assert status_of(holder) == 200
        client.get()
        _ = world.servers[0] >> OK
        assert [response.status for response in client.responses()] == [503, 503, 200]
        world.assert_at_rest()


class TestTunnels:
    """CONNECT has connections of its own, which `max_connections` counts as any other."""

    CONNECT = b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n"

    def test_one_over_the_limit_is_refused_at_once(self, make_world: Make) -> None:
        """It would wait for what is opened for others; whoever ends makes room."""
        world = make_world(breaker=BreakerSpec(max_connections=1))
        first, second, third = world.client(), world.client(), world.client()
        _ = first >> self.CONNECT
        server = world.accept()
        _ = second >> self.CONNECT
        assert second.responses()[-1].status == 503
        assert not world.dials.under_way
        assert world.cluster.stats.overflow_connections == 1
        reason = world.recorded[0].reason
        assert reason is not None
        assert reason.name == "upstream_overloaded"
        server.eof()
        first.eof()
        _ = third >> self.CONNECT
        world.accept().eof()
        third.eof()
        world.assert_at_rest()

    def test_an_idle_connection_makes_room(self, make_world: Make) -> None:
        """As for a request at another endpoint."""
        world = make_world(breaker=BreakerSpec(max_connections=1))
        client = world.client()
        client.get()
        idle = world.accept()
        _ = idle >> OK
        _ = client >> self.CONNECT
        assert not idle.is_open
        world.accept().eof()
        client.eof()
        world.assert_at_rest()

    @pytest.mark.parametrize("is_dialled", [True, False])
    def test_a_request_that_waits_has_the_room_of_one_that_ends(self, make_world: Make, is_dialled: bool) -> None:
        """Whether it stood or could not be made."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        through, client = world.client(), world.client()
        _ = through >> self.CONNECT
        if is_dialled:
            tunnel = world.accept()
            client.get()
            tunnel.reset()
        else:
            client.get()
            world.refuse(errors.CONNECT_FAILED)
        _ = world.accept() >> OK
        assert status_of(client) == 200
        world.assert_at_rest()


class TestPending:
    """`max_connections`, the queue before them, and its timeout."""

    def test_requests_wait_for_a_connection_and_are_served_in_their_order(self, make_world: Make) -> None:
        """One connection serves all of them, one after the other."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        clients = asking(world, 5)
        server = world.accept()
        for number, client in enumerate(clients):
            assert [bool(other.received) for other in clients] == [True] * number + [False] * (5 - number)
            _ = server << GET
            _ = server >> OK
            assert status_of(client) == 200
        assert world.dials.count == 1
        world.assert_at_rest()

    @pytest.mark.parametrize("end", ["eof", "reset", "close", "cut"])
    def test_a_connection_that_closes_is_replaced_for_those_who_wait(self, make_world: Make, end: str) -> None:
        """Not one of them is forgotten."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        clients = asking(world, 4)
        for client in clients:
            server = world.accept()
            assert not world.dials.under_way
            if end == "eof":
                server.eof()
            elif end == "reset":
                server.reset()
            elif end == "cut":
                _ = server >> OK[:-1]
                server.reset()
            else:
                _ = server >> OK.replace(b"Content", b"Connection: close\r\nContent")
            assert status_of(client) == {"eof": 503, "reset": 503, "close": 200, "cut": 200}[end]
        assert not world.dials.under_way
        world.assert_at_rest()

    @pytest.mark.parametrize("reason", [errors.CONNECT_FAILED, errors.CONNECT_TIMEOUT])
    def test_a_dial_that_fails_is_followed_by_one_for_those_who_still_wait(
        self, make_world: Make, reason: errors.Reason
    ) -> None:
        """The one who waited longest is told; the others do not wait for a connection that nobody makes."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        one, two, three = asking(world, 3)
        world.refuse(reason)
        assert status_of(one) == 503
        assert len(world.dials.under_way) == 1
        server = world.accept()
        for client in (two, three):
            _ = server >> OK
            assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_client_that_leaves_the_queue_is_not_served(self, make_world: Make) -> None:
        """The connection goes to the next."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        one, two, three = asking(world, 3)
        server = world.accept()
        two.leave()
        assert in_flight(world) == 2
        _ = server >> OK
        _ = server >> OK
        assert (status_of(one), status_of(three)) == (200, 200)
        assert not two.received
        world.assert_at_rest()

    def test_more_than_may_wait_are_refused_at_once(self, make_world: Make) -> None:
        """503 `UO`: the queue is as long as it may be."""
        world = make_world(breaker=BreakerSpec(max_connections=1, max_pending_requests=2, pending_timeout_s=60))
        (first,) = asking(world, 1)
        server = world.accept()
        two, three, four = asking(world, 3)
        assert status_of(four) == 503
        response = four.responses()[-1]
        assert response.headers[b"retry-after"] == b"60"
        assert json.loads(response.body)["error"] == "upstream_overloaded"
        assert world.cluster.stats.overflow_pending == 1
        for client in (first, two, three):
            _ = server >> OK
            assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_queue_of_none_still_lets_connections_be_made(self, make_world: Make) -> None:
        """`max_pending_requests: 0`: nobody waits for others, but the first must get its connection."""
        world = make_world(breaker=BreakerSpec(max_connections=2, max_pending_requests=0))
        one, two, three = asking(world, 3)
        assert status_of(three) == 503
        assert len(world.dials.under_way) == 2
        server = world.accept()
        for client in (one, two):
            _ = server >> OK
            assert status_of(client) == 200
        world.accept()
        world.assert_at_rest()

    def test_whoever_waits_too_long_is_told(self, make_world: Make) -> None:
        """503 `UO` after `pending_timeout`; whoever has a connection goes on."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=1.0))
        (one,) = asking(world, 1)
        server = world.accept()
        (two,) = asking(world, 1)
        world.advance(0.99)
        assert not two.received
        world.advance(0.15)
        response = two.responses()[-1]
        assert response.status == 503
        assert json.loads(response.body)["error"] == "pending_timeout"
        assert response.headers[b"retry-after"] == b"1"
        assert world.cluster.stats.pending_timeouts == 1
        world.advance(10)
        _ = server >> OK
        assert status_of(one) == 200
        world.assert_at_rest()

    def test_the_time_of_a_wait_is_not_that_of_the_try(self, make_world: Make) -> None:
        """A connection that came in time leaves the upstream all the time that it is given."""
        world = make_world(
            breaker=BreakerSpec(pending_timeout_s=1.0), retry=RetryPolicy(per_try_timeout_s=5.0, backoff_base_s=0)
        )
        one, two = asking(world, 2)
        server = world.accept()
        world.advance(4.0)
        _ = server >> OK
        assert status_of(one) == 200
        # The second was told at 1 s that no connection had come for it.
        assert status_of(two) == 503
        world.accept()
        (three,) = asking(world, 1)
        world.advance(4.8)
        assert not three.received
        world.advance(0.4)
        assert status_of(three) == 504
        world.assert_at_rest()

    def test_whoever_waits_too_long_at_one_endpoint_is_sent_to_another(self, make_world: Make) -> None:
        """Nothing was sent, so it may go, whatever it is."""
        world = make_world(endpoints=(A, B), breaker=BreakerSpec(max_connections=2, pending_timeout_s=1.0))
        one, two = asking(world, 2)
        first, second = world.accept(A), world.accept(B)
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi"
        world.advance(1.2)
        _ = second >> OK
        assert status_of(two) == 200
        _ = second >> OK
        assert status_of(client) == 200
        _ = first >> OK
        assert status_of(one) == 200
        assert [exchange.attempts for exchange in world.recorded] == [1, 2, 1]
        world.assert_at_rest()

    def test_connection_that_becomes_idle_at_one_endpoint_makes_room_at_another(self, make_world: Make) -> None:
        """It was kept there, and the request waited until its time was up."""
        world = make_world(endpoints=(A, B), breaker=BreakerSpec(max_connections=2, pending_timeout_s=60))
        one, two = asking(world, 2)
        first, second = world.accept(A), world.accept(B)
        (three,) = asking(world, 1)
        _ = second >> OK
        assert not second.is_open
        _ = world.accept(A) >> OK
        assert (status_of(two), status_of(three)) == (200, 200)
        _ = first >> OK
        assert status_of(one) == 200
        world.assert_at_rest()

    def test_room_that_one_endpoint_leaves_is_offered_to_those_who_wait_at_another(self, make_world: Make) -> None:
        """The limit is of the upstream, not of the endpoint."""
        world = make_world(endpoints=(A, B), breaker=BreakerSpec(max_connections=2, pending_timeout_s=60))
        one, two = asking(world, 2)
        first, second = world.accept(A), world.accept(B)
        (three,) = asking(world, 1)  # its turn is A's, where one is busy
        assert not world.dials.under_way
        second.reset()
        assert world.dialed == [A]
        _ = world.accept(A) >> OK
        assert (status_of(two), status_of(three)) == (503, 200)
        _ = first >> OK
        assert status_of(one) == 200
        world.assert_at_rest()

    def test_an_endpoint_without_a_connection_may_have_one_whatever_the_others_have(self, make_world: Make) -> None:
        """Or its requests would wait for what never comes."""
        world = make_world(endpoints=(A, B), breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        one, two = asking(world, 2)
        assert world.dialed == [A, B]
        for client in (one, two):
            _ = world.accept() >> OK
            assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_connection_from_the_pool_that_died_makes_room_for_its_successor(self, make_world: Make) -> None:
        """The race with a limit of one."""
        world = make_world(breaker=BreakerSpec(max_connections=1))
        client, server = world.warm()
        client.get()
        server.reset()
        _ = world.accept() >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_stale_connection_that_is_found_out_is_replaced(self, make_world: Make) -> None:
        """A POST that gets a connection at whose end the kernel knows better takes a new one, within the limit."""
        world = make_world(breaker=BreakerSpec(max_connections=1, pending_timeout_s=60))
        (one,) = asking(world, 1)
        server = world.accept()
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi"
        server.transport.is_kernel_full = True
        _ = server >> OK
        assert status_of(one) == 200
        fresh = world.accept()
        _ = fresh << b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi"
        _ = fresh >> OK
        assert status_of(client) == 200
        world.assert_at_rest()


def test_a_breaker_that_a_reload_takes_away_is_still_left(make_world: Make) -> None:
    """Whoever entered leaves the one that it entered."""
    world = make_world(breaker=BreakerSpec(max_requests=5))
    breaker = world.cluster.breaker
    assert breaker is not None
    (client,) = asking(world, 1)
    spec = world.cluster.spec
    world.cluster.apply(type(spec)(spec.name, spec.endpoints, policy=spec.policy), spec.static_addresses())
    server: Server = world.accept()
    _ = server >> OK
    assert status_of(client) == 200
    assert breaker.requests == 0
    world.assert_at_rest()
