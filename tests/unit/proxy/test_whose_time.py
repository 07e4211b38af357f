"""Time is charged to whom was waited for: an upstream answers for what it takes once the request is complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar import clock
from sidecar.admin.live import event_of
from sidecar.proxy.exchange.policies import Mirror
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.retry import RetryPolicy
from tests.support.fakes import World

Make = Callable[..., World]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POLICY = RetryPolicy(1, frozenset(("timeout",)), per_try_timeout_s=1.0)
PUT = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "pieces"),
    [(PUT, [b"ab", b"cd", b"ef"]), (CHUNKED, [b"2\r\nab\r\n", b"2\r\ncd\r\n", b"2\r\nef\r\n0\r\n\r\n"])],
    ids=["length", "chunked"],
)
def test_a_slow_upload_is_not_the_upstreams_time(make_world: Make, head: bytes, pieces: list[bytes]) -> None:
    """Neither the time of an attempt nor the route's runs while the client sends; no detector is fed by it."""
    world = make_world(
        retry=POLICY, timeout_s=2.0, outlier=OutlierSpec(consecutive_5xx=1), breaker=BreakerSpec(adaptive=True)
    )
    client = world.client()
    _ = client >> head
    server = world.accept()
    for piece in pieces:
        world.advance(1.5)
        _ = client >> piece
    _ = server >> OK
    assert client.responses()[-1].status == 200
    assert world.outcome() == (200, "")
    assert world.recorded[0].attempts == 1
    assert not any(endpoint.ejected_until for endpoint in world.cluster.endpoints)
    world.assert_at_rest()


@pytest.mark.parametrize(("is_retried", "expected_ms"), [(False, 500.0), (True, 400.0)])
def test_what_the_log_says_of_the_upstream_leaves_the_upload_out(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, is_retried: bool, expected_ms: float
) -> None:
    """`upstream_service_time` runs from the whole request, as Envoy's does; of a retry, from its sending."""
    world = make_world(retry=POLICY)
    monkeypatch.setattr(clock, "monotonic_ns", lambda: round(world.loop.now * 1e9))
    client = world.client()
    _ = client >> PUT + b"abc"
    server = world.accept()
    world.advance(5.0)
    _ = client >> b"def"
    if is_retried:
        world.advance(1.2)
        world.advance(0.3)
        server = world.accept()
        world.advance(0.4)
    else:
        world.advance(0.5)
    _ = server >> OK
    assert event_of(world.recorded[0])["upstream_service_time"] == expected_ms


def test_the_log_has_an_answer_before_the_end_of_the_request_from_the_sending(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of the request behind the answer moves nothing."""
    world = make_world()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: round(world.loop.now * 1e9))
    client = world.client()
    _ = client >> PUT + b"abc"
    server = world.accept()
    world.advance(1.0)
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
    world.advance(1.0)
    _ = client >> b"def"
    _ = server >> b"ok"
    assert event_of(world.recorded[0])["upstream_service_time"] == 1000.0


def test_the_time_of_an_attempt_begins_with_the_end_of_the_request(make_world: Make) -> None:
    """An upstream that has all of it and says nothing is timed out, and tried again where the policy says so."""
    world = make_world(retry=POLICY)
    client = world.client()
    _ = client >> PUT + b"abc"
    first = world.accept()
    world.advance(5.0)
    assert first.is_open
    _ = client >> b"def"
    world.advance(0.9)
    assert first.is_open
    world.advance(0.3)
    assert not first.is_open
    world.advance(0.3)
    second = world.accept()
    world.advance(1.2)
    assert not second.is_open
    assert world.outcome() == (504, "try_timeout")


def test_the_routes_time_begins_with_the_end_of_the_request(make_world: Make) -> None:
    """From the last byte of the request, all attempts together."""
    world = make_world(timeout_s=1.0)
    client = world.client()
    _ = client >> PUT + b"abc"
    world.accept()
    world.advance(3.0)
    _ = client >> b"def"
    world.advance(0.9)
    assert not world.recorded
    world.advance(0.3)
    assert world.outcome() == (504, "response_timeout")
    assert client.responses()[-1].status == 504


def test_an_answer_before_the_end_of_the_request_is_no_sample(make_world: Make) -> None:
    """Whether the upstream or the client was slow is not known, so no latency learns from it."""
    world = make_world(policy="peak_ewma")
    client = world.client()
    _ = client >> PUT + b"abc"
    server = world.accept()
    world.advance(30.0)
    before = [endpoint.latency_s for endpoint in world.cluster.endpoints]
    _ = server >> OK
    assert [endpoint.latency_s for endpoint in world.cluster.endpoints] == before


def test_a_reader_that_is_slow_when_the_routes_time_is_up_is_said_to_be(make_world: Make) -> None:
    """The upstream has answered: it is not blamed for a response that the client does not take."""
    world = make_world(timeout_s=2.0)
    client = world.client()
    client.transport.is_peer_slow = True
    client.get()
    server = world.accept()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 400_000
    world.advance(3.0)
    (exchange,) = world.recorded
    assert exchange.reason is not None
    assert exchange.reason.name == "client_stalled"


def test_a_mirrors_copy_has_its_time_from_its_sending(make_world: Make) -> None:
    """It is sent whole, so nothing changes for it."""
    world = make_world(mirror=Mirror, timeout_s=2.0)
    client = world.client()
    _ = client >> PUT + b"abc"
    web = world.accept("10.0.0.1:80")
    world.advance(5.0)
    _ = client >> b"def"
    copy = world.accept("10.9.9.9:80")
    _ = web >> OK
    world.advance(1.0)
    assert copy.is_open
    world.advance(2.0)
    assert not copy.is_open


class TestExpectation:
    """RFC 9110, 10.1.1: a client that waits for 100 waits for the upstream."""

    EXPECTING = b"PUT / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"

    def test_an_upstream_that_sends_no_100_is_timed_out(self, make_world: Make) -> None:
        """Its time runs from the head."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        _ = client >> self.EXPECTING
        world.accept()
        world.advance(2.2)
        assert world.outcome() == (504, "response_timeout")
        assert client.responses()[-1].status == 504

    @pytest.mark.parametrize("is_asked", [True, False])
    def test_from_100_or_the_first_byte_on_it_is_the_clients_time(self, make_world: Make, is_asked: bool) -> None:
        """And from the last byte the upstream's again."""
        world = make_world(timeout_s=2.0, retry=POLICY)
        client = world.client()
        _ = client >> self.EXPECTING
        server = world.accept()
        if is_asked:
            _ = server >> b"HTTP/1.1 100 Continue\r\n\r\n"
        else:
            _ = client >> b"a"
        world.advance(5.0)
        _ = client >> (b"abcdef" if is_asked else b"bcdef")
        world.advance(0.5)
        _ = server >> OK
        assert world.outcome() == (200, "")
        world.assert_at_rest()
