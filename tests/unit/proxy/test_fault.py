"""Faults injected on purpose: late, refused, both, and only where they are meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.proxy.exchange.policies import Fault
from sidecar.upstream.limits.breaker import BreakerSpec
from tests.support.fakes import Client, World

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SLOW = Fault(delay_percent=100, delay_s=2.0)
BROKEN = Fault(abort_percent=100, abort_status=418)

Make = Callable[..., World]


def status_of(client: Client) -> int:
    """Of the last response that the client has."""
    return client.responses()[-1].status


class TestAbort:
    """Answered instead of sent."""

    def test_the_answer_says_that_it_was_on_purpose(self, make_world: Make) -> None:
        """The status of the file, flag `FI`, and nothing goes to the upstream."""
        world = make_world(fault=BROKEN)
        client = world.client()
        client.get()
        (response,) = client.responses()
        assert response.status == 418
        assert response.headers[b"proxy-status"] == (
            b'sidecar; error=proxy_internal_response; details="fault_injected"'
        )
        said = json.loads(response.body)
        assert (said["error"], said["status"], said["flag"], said["route"]) == ("fault_injected", 418, "FI", "to-web")
        assert "endpoint" not in said
        assert world.outcome() == (418, "fault_injected")
        assert not world.dials.count
        assert client.is_open
        world.assert_at_rest()

    @pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 429, 503, 599])
    def test_every_status_is_a_message_that_ends(self, make_world: Make, status: int) -> None:
        """Whether it has a body or must not; the next request is served on the same connection."""
        world = make_world(fault=replace(BROKEN, abort_status=status))
        client = world.client()
        _ = client >> GET + GET
        assert [response.status for response in client.responses()] == [status, status]
        assert all(response.is_complete for response in client.responses())
        assert world.recorded[0].status == status
        world.assert_at_rest()

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_request_body_that_comes_behind_is_no_next_request(self, make_world: Make, is_chunked: bool) -> None:
        """It is swallowed, or the connection is closed; it is never taken for a head."""
        world = make_world(fault=BROKEN)
        client = world.client()
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(GET)
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\n%b\r\n\r\n" % framing
        _ = client >> (b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET) if is_chunked else GET)
        assert [response.status for response in client.responses()] == [418]
        assert len(world.recorded) == 1

    @pytest.mark.parametrize(("draw", "status"), [(0.099, 418), (0.1, 200)])
    def test_a_share_is_hit(self, make_world: Make, monkeypatch: pytest.MonkeyPatch, draw: float, status: int) -> None:
        """By chance."""
        monkeypatch.setattr("sidecar.proxy.exchange.course.random", lambda: draw)
        world = make_world(fault=replace(BROKEN, abort_percent=10))
        client = world.client()
        client.get()
        if status == 200:
            _ = world.accept() >> OK
        assert status_of(client) == status
        world.assert_at_rest()

    def test_only_requests_with_the_header_are_hit(self, make_world: Make) -> None:
        """Everybody else is served."""
        world = make_world(fault=replace(BROKEN, header=lambda head: head.first(b"x-fault") == b"yes"))
        client, _ = world.warm()
        client.get(b"/", b"web", b"x-fault: yes")
        assert status_of(client) == 418
        client.get(b"/", b"web", b"x-fault: no")
        _ = world.servers[0] >> OK
        assert status_of(client) == 200
        world.assert_at_rest()


class TestDelay:
    """Sent later."""

    def test_nothing_is_sent_before_its_time_and_the_answer_is_the_upstream_s(self, make_world: Make) -> None:
        """The request waits here, holding neither a connection nor a place."""
        world = make_world(fault=SLOW, breaker=BreakerSpec())
        client = world.client()
        client.get()
        world.advance(1.99)
        assert not world.dials.count
        assert world.cluster.stats.requests_active == 0
        world.advance(0.02)
        server = world.accept()
        _ = server << GET
        _ = server >> OK
        _ = client << OK
        assert world.outcome() == (200, "")
        world.assert_at_rest()

    def test_both_wait_and_then_refuse(self, make_world: Make) -> None:
        """The abort comes after the delay, as Envoy does it."""
        world = make_world(fault=Fault(100, 2.0, 100, 503))
        client = world.client()
        client.get()
        world.advance(1.9)
        assert not client.received
        world.advance(0.2)
        assert status_of(client) == 503
        assert world.outcome() == (503, "fault_injected")
        assert not world.dials.count
        world.assert_at_rest()

    @pytest.mark.parametrize("is_warm", [False, True])
    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_body_that_streams_meanwhile_is_held_to_a_bound_and_goes_on_afterwards(
        self, make_world: Make, is_warm: bool, size: int
    ) -> None:
        """Every byte arrives once, whether a connection waits or has to be made."""
        world = make_world(fault=SLOW)
        if is_warm:
            client = world.client()
            client.get()
            world.advance(2.0)
            server = world.accept()
            _ = server >> OK
        body = bytes(range(65, 75)) * (size // 10)
        client = world.client()
        _ = client >> b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body)
        _ = client >> body[: size // 2]
        _ = client >> body[size // 2 :]
        assert client.is_paused == (size > 64 * 1024)
        world.advance(2.0)
        server = world.servers[0] if is_warm else world.accept()
        assert server.received.endswith(body)
        assert not client.is_paused
        _ = server >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    @pytest.mark.parametrize("end", ["leave", "reset", "abort"])
    def test_whoever_goes_during_it_leaves_nothing(self, make_world: Make, end: str) -> None:
        """Nothing is sent for them; the timer is gone."""
        world = make_world(fault=SLOW)
        client = world.client()
        client.get()
        if end == "abort":
            client.connection.abort()
            world.loop.run()
        else:
            getattr(client, end)()
        assert len(world.loop.timed) == 1
        world.advance(5)
        assert not world.dials.count
        assert world.outcome()[1] == ("draining" if end == "abort" else "client_left")
        world.assert_at_rest()

    @pytest.mark.parametrize("fault", [SLOW, Fault(100, 2.0, 100, 503)])
    def test_the_route_s_timeout_counts_it(self, make_world: Make, fault: Fault) -> None:
        """504 `UT`: that is what the fault is there to show."""
        world = make_world(fault=fault, timeout_s=1.0)
        client = world.client()
        client.get()
        world.advance(1.2)
        assert world.outcome() == (504, "response_timeout")
        world.advance(5)
        assert not world.dials.count
        assert len(client.responses()) == 1
        world.assert_at_rest()

    def test_an_upstream_without_endpoints_is_told_after_it(self, make_world: Make) -> None:
        """The choice is made when it is sent."""
        world = make_world(fault=SLOW, endpoints=())
        client = world.client()
        client.get()
        world.advance(2.1)
        assert world.outcome() == (503, "no_endpoint")
        assert status_of(client) == 503
        world.assert_at_rest()

    def test_a_breaker_that_is_full_by_then_refuses(self, make_world: Make) -> None:
        """With `Retry-After`, as at once."""
        world = make_world(fault=SLOW, breaker=BreakerSpec(max_requests=1))
        one, two = world.client(), world.client()
        one.get()
        two.get()
        world.advance(2.1)
        assert status_of(two) == 503
        assert two.responses()[-1].headers[b"retry-after"] == b"1"
        _ = world.accept() >> OK
        assert status_of(one) == 200
        world.assert_at_rest()

    def test_drain_lets_it_come_to_its_end(self, make_world: Make) -> None:
        """An exchange that is running is finished."""
        world = make_world(fault=SLOW)
        client = world.client()
        client.get()
        client.connection.drain()
        world.advance(2.1)
        _ = world.accept() >> OK
        assert status_of(client) == 200
        assert not client.is_open or client.transport.is_eof_written
        world.assert_at_rest()
