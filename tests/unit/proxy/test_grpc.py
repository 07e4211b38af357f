"""Calls of gRPC: what our own failures are to them, how they ended by the record, and who is judged by that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from sidecar import errors, grpc
from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.proxy.exchange.policies import Fault, RateLimit, RateLimiter
from sidecar.routing.actions import Respond
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.retry import RetryPolicy
from tests.support.fakes import Client, Response, World
from tests.unit.proxy.retrying import TWO

Make = Callable[..., World]
CALL = (
    b"POST /shop.Quotes/Get HTTP/1.1\r\nHost: web\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
    b"Content-Length: 5\r\n\r\n\0\0\0\0\0"
)
RETRIED = RetryPolicy(attempts=2, grpc_statuses=frozenset((grpc.UNAVAILABLE,)), backoff_base_s=0, backoff_max_s=0)


def alone(status: int) -> bytes:
    """A response that is all head, as servers answer calls that fail before they say anything."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: %d\r\nContent-Length: 0\r\n\r\n"
    return head % status


def head(status: int = 200) -> bytes:
    """The head of a response that says how it went when it ends."""
    return b"HTTP/1.1 %d x\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n" % status


def end(status: int | None) -> bytes:
    """The end of it."""
    return b"0\r\n\r\n" if status is None else b"0\r\nGrpc-Status: %d\r\n\r\n" % status


def answered(client: Client) -> Response:
    """The last response that a client has."""
    return client.responses(b"POST")[-1]


def how_it_ended(world: World) -> tuple[int, str]:
    """Of the last exchange, the status of HTTP and of gRPC."""
    exchange = world.recorded[-1]
    return exchange.status, grpc.NAMES[exchange.grpc_status] if exchange.grpc_status >= 0 else "-"


class TestOwnErrors:
    """ "Trailers-Only is permitted for calls that produce an immediate error"."""

    def test_nobody_there(self, world: World) -> None:
        """200, the status, and for people what failed, where, and by which id it is found in the log."""
        client = world.client()
        _ = client >> CALL
        world.refuse()
        response = answered(client)
        assert (response.status, response.body) == (200, b"")
        assert response.headers[b"content-type"] == b"application/grpc"
        assert response.headers[b"grpc-status"] == b"14"
        assert response.headers[b"proxy-status"] == b'sidecar; error=connection_refused; details="connect_failed"'
        request_id = world.recorded[0].request_id.decode()
        assert unquote(response.headers[b"grpc-message"].decode()) == (
            "sidecar: connecting to the upstream failed (connect_failed; route to-web; upstream web; endpoint"
            f" 10.0.0.1:80; request id {request_id})"
        )
        assert world.outcome() == (200, "connect_failed")
        assert how_it_ended(world) == (200, "UNAVAILABLE")
        world.assert_at_rest()

    def test_no_route(self, make_world: Make) -> None:
        """UNIMPLEMENTED."""
        world = make_world()
        client = world.client()
        _ = client >> CALL.replace(b"Host: web", b"Host: nobody")
        assert answered(client).headers[b"grpc-status"] == b"12"
        assert how_it_ended(world) == (200, "UNIMPLEMENTED")
        assert world.recorded[0].reason is errors.NO_ROUTE

    def test_too_often(self, make_world: Make) -> None:
        """RESOURCE_EXHAUSTED, and when to come again."""
        world = make_world(rate_limit=RateLimiter(RateLimit(1, 60.0, 1)))
        client, _ = world.warm()
        _ = client >> CALL
        assert answered(client).headers[b"grpc-status"] == b"8"
        assert answered(client).headers[b"retry-after"] == b"60"

    def test_too_late(self, make_world: Make) -> None:
        """DEADLINE_EXCEEDED."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        _ = client >> CALL
        world.accept()
        world.advance(2.5)
        assert answered(client).headers[b"grpc-status"] == b"4"
        assert how_it_ended(world) == (200, "DEADLINE_EXCEEDED")

    def test_a_client_that_leaves(self, world: World) -> None:
        """CANCELLED; it hears nothing."""
        client = world.client()
        _ = client >> CALL
        world.accept()
        client.leave()
        assert how_it_ended(world) == (499, "CANCELLED")

    def test_a_response_that_is_cut(self, world: World) -> None:
        """Its head went out; how the call ended is ours to say."""
        client = world.client()
        _ = client >> CALL
        server = world.accept()
        _ = server >> head()
        server.reset()
        assert how_it_ended(world) == (200, "UNAVAILABLE")
        assert world.recorded[0].reason is errors.RESPONSE_CUT

    def test_everybody_else_has_json(self, world: World) -> None:
        """What is no gRPC, and what is not all of it."""
        client = world.client()
        _ = client >> CALL.replace(b"application/grpc", b"application/grpc-web")
        world.refuse()
        assert answered(client).status == 503
        assert answered(client).headers[b"content-type"] == b"application/json"
        assert how_it_ended(world) == (503, "-")


class TestFaults:
    """Of a route, on purpose."""

    @pytest.mark.parametrize("delay_s", [0.0, 1.0])
    @pytest.mark.parametrize(
        ("status", "grpc_status", "name"),
        [(503, None, "UNAVAILABLE"), (404, None, "UNIMPLEMENTED"), (503, 7, "PERMISSION_DENIED"), (503, 0, "OK")],
    )
    def test_abort(self, make_world: Make, status: int, grpc_status: int | None, name: str, delay_s: float) -> None:
        """With its own status for gRPC, or what the other stands for."""
        delay = 100 if delay_s else 0
        world = make_world(fault=Fault(delay, delay_s, 100, status, grpc_status))
        client = world.client()
        _ = client >> CALL
        world.advance(delay_s)
        assert grpc.NAMES[int(answered(client).headers[b"grpc-status"])] == name
        assert how_it_ended(world) == (200, name)
        assert world.recorded[0].reason is errors.FAULT_INJECTED

    def test_others_have_the_status_of_http(self, make_world: Make) -> None:
        """As ever."""
        world = make_world(fault=Fault(abort_percent=100, abort_status=418, abort_grpc_status=7))
        client = world.client()
        client.get()
        assert client.responses()[-1].status == 418
        assert how_it_ended(world) == (418, "-")


def test_what_the_file_says_to_respond_stays_as_it_is(make_world: Make) -> None:
    """It is no failure; to a client of gRPC it stands for what its status does."""
    world = make_world(action=Respond(403, (), b"no\n"))
    client = world.client()
    _ = client >> CALL
    assert (answered(client).status, answered(client).body) == (403, b"no\n")
    assert how_it_ended(world) == (403, "PERMISSION_DENIED")


class TestRecord:
    """How a call ended."""

    @pytest.mark.parametrize(
        ("response", "name"),
        [
            (alone(0), "OK"), (alone(5), "NOT_FOUND"),
            (head() + end(14), "UNAVAILABLE"), (head() + b"1\r\nx\r\n" + end(0), "OK"),
            (head() + end(None), "UNKNOWN"), (head() + end(77), "UNKNOWN"),
            (b"HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\nno", "UNAVAILABLE"),
            (head(404) + end(0), "UNIMPLEMENTED"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("at_once", [True, False])
    def test_by_the_head_the_trailers_or_http(self, world: World, response: bytes, name: str, at_once: bool) -> None:
        """Whichever says it first, however it comes; trailers go on."""
        client = world.client()
        _ = client >> CALL
        server = world.accept()
        for piece in (response,) if at_once else [response[at : at + 1] for at in range(len(response))]:
            _ = server >> piece
        assert answered(client).is_complete
        assert how_it_ended(world)[1] == name
        assert (b"\r\nGrpc-Status: 14\r\n" in client.received) is (name == "UNAVAILABLE" and response[9:12] == b"200")
        assert world.recorded[0].reason is None
        world.assert_at_rest()

    def test_a_response_with_grpc_status_to_anything_else_means_nothing(self, world: World) -> None:
        """Only a request that is gRPC is a call."""
        client = world.client()
        client.get()
        _ = world.accept() >> alone(14)
        assert how_it_ended(world) == (200, "-")


class TestJudged:
    """What detectors are told of a server."""

    @pytest.fixture
    def told(self) -> list[tuple[int, Reason | None, float]]:
        return []

    def world(self, make_world: Make, told: list[Any], observes_from: int = 0) -> tuple[World, Client]:
        def observe(endpoint: Endpoint, status: int, failure: Reason | None, latency_s: float, now: float) -> None:
            told.append((status, failure, latency_s))

        world = make_world()
        world.cluster.observer, world.cluster.observes_from = observe, observes_from
        client = world.client()
        _ = client >> CALL
        return world, client

    @pytest.mark.parametrize(
        ("response", "status"),
        [(alone(0), 200), (alone(14), 503), (alone(3), 400), (head() + end(4), 504), (head() + end(0), 200),
         (head() + end(None), 500), (head(502) + end(0), 502)],
    )  # fmt: skip
    @pytest.mark.parametrize("observes_from", [0, 429])
    def test_by_the_call_s_status(
        self, make_world: Make, told: list[Any], response: bytes, status: int, observes_from: int
    ) -> None:
        """As the status of HTTP that stands for it, once, when it is known; a good one to who wants those."""
        world, _ = self.world(make_world, told, observes_from)
        server = world.accept()
        for at in range(len(response)):
            _ = server >> response[at : at + 1]
        assert [(one, failure) for one, failure, _ in told] == ([(status, None)] if status >= observes_from else [])

    def test_a_stream_that_ends_late_is_as_quick_as_its_head(
        self, make_world: Make, told: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is judged at its end, with the latency of its beginning."""
        world, _ = self.world(make_world, told)
        server = world.accept()
        _ = server >> head()
        exchange = world.telemetry.begun[0]
        first_byte_ns = exchange.first_byte_ns = (exchange.awaited_ns or exchange.sent_ns) + 3_000_000
        assert first_byte_ns
        assert not told
        _ = server >> end(0)
        assert told == [(200, None, 0.003)]

    def test_a_stream_that_its_client_ends_was_good_enough(self, make_world: Make, told: list[Any]) -> None:
        """Its head is what is known."""
        world, client = self.world(make_world, told)
        _ = world.accept() >> head()
        client.leave()
        assert [(status, failure) for status, failure, _ in told] == [(200, None)]

    def test_a_stream_that_breaks_is_told_as_any_answer_that_does(self, make_world: Make, told: list[Any]) -> None:
        """Its head first, then that it broke."""
        world, _ = self.world(make_world, told)
        server = world.accept()
        _ = server >> head()
        server.reset()
        assert [(status, failure) for status, failure, _ in told] == [(200, None), (0, errors.RESPONSE_CUT)]

    def test_a_server_whose_calls_fail_is_ejected(self, make_world: Make) -> None:
        """Though all it says is 200."""
        world = make_world(endpoints=TWO, outlier=OutlierSpec(consecutive_5xx=3), direction=Direction.OUTBOUND)
        for _ in range(6):
            client = world.client()
            _ = client >> CALL
            if world.dials.under_way:
                world.accept()
            server = next(one for one in world.servers if one.take())
            at_fault = server.transport.peername[0] == "10.0.0.1"
            _ = server >> (head() + end(14) if at_fault else alone(0))
        assert [endpoint.label for endpoint in world.cluster.endpoints if endpoint.ejected_until] == ["10.0.0.1:80"]


class TestRetries:
    """`on: [grpc_unavailable]`."""

    def test_a_call_that_was_refused_is_made_again(self, make_world: Make) -> None:
        """A POST, and without `methods`: the file vouches for it by naming the status."""
        world = make_world(endpoints=TWO, retry=RETRIED)
        client = world.client()
        _ = client >> CALL
        _ = world.accept() >> alone(14)
        _ = world.accept() >> alone(0)
        assert answered(client).headers[b"grpc-status"] == b"0"
        exchange = world.recorded[0]
        assert exchange.attempts == 2
        assert exchange.tries is not None
        assert [(one.status, one.grpc_status) for one in exchange.tries] == [(200, 14)]
        assert how_it_ended(world) == (200, "OK")
        assert world.cluster.stats.retries_successful == 1
        world.assert_at_rest()

    @pytest.mark.parametrize(("said", "helped"), [(0, True), (5, True), (14, False), (None, False)])
    def test_a_retry_has_helped_by_what_the_call_comes_to_in_the_end(
        self, make_world: Make, said: int | None, helped: bool
    ) -> None:
        """Which its head does not say."""
        world = make_world(endpoints=TWO, retry=RETRIED)
        client = world.client()
        _ = client >> CALL
        _ = world.accept() >> alone(14)
        server = world.accept()
        _ = server >> head()
        stats = world.cluster.stats
        assert (stats.retries_successful, stats.retries_exhausted) == (0, 0)
        _ = server >> end(said)
        assert answered(client).is_complete
        assert (stats.retries_successful, stats.retries_exhausted) == (helped, not helped)

    def test_a_call_that_was_made_again_for_a_status_of_http_ends_as_its_last_attempt(self, make_world: Make) -> None:
        """And not as the one that was discarded."""
        policy = RetryPolicy(
            attempts=2, on=frozenset(("5xx",)), methods=frozenset((b"POST",)), backoff_base_s=0, backoff_max_s=0
        )
        world = make_world(endpoints=TWO, retry=policy)
        client = world.client()
        _ = client >> CALL
        _ = world.accept() >> b"HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\nno"
        server = world.accept()
        _ = server >> head()
        _ = server >> end(0)
        assert answered(client).is_complete
        assert world.recorded[0].attempts == 2
        assert how_it_ended(world) == (200, "OK")

    def test_at_most_so_often(self, make_world: Make) -> None:
        """Then its answer is the client's."""
        world = make_world(endpoints=TWO, retry=RETRIED)
        client = world.client()
        _ = client >> CALL
        for _ in range(3):
            if world.dials.under_way:
                world.accept()
            server = next(one for one in world.servers if one.take())
            _ = server >> alone(14)
        assert answered(client).headers[b"grpc-status"] == b"14"
        assert world.recorded[0].attempts == 3
        assert world.recorded[0].retry_skipped == "attempts_used"
        assert world.cluster.stats.retries_exhausted == 1

    @pytest.mark.parametrize("response", [alone(13), head() + b"1\r\nx\r\n" + end(14), head() + end(14)])
    def test_others_are_not(self, make_world: Make, response: bytes) -> None:
        """Another status, or one that came behind a head: the client may have seen something of it."""
        world = make_world(endpoints=TWO, retry=RETRIED)
        client = world.client()
        _ = client >> CALL
        _ = world.accept() >> response
        assert world.recorded[0].attempts == 1
        assert not world.recorded[0].retry_skipped
