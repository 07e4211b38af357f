"""Copies of requests: complete, marked, bounded, and nothing that happens to them reaches the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from sidecar.proxy.exchange.policies import Fault, Mirror
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.retry import CONDITIONS, RetryPolicy
from tests.support.fakes import Client, Server, World

WEB, SHADOW = "10.0.0.1:80", "10.9.9.9:80"
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
MARKED = b"GET / HTTP/1.1\r\nHost: web\r\nx-sidecar-mirror: true\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Make = Callable[..., World]


def post(body: bytes, *, is_chunked: bool = False) -> bytes:
    """A POST."""
    if is_chunked:
        head = b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def status_of(client: Client) -> int:
    """Of the last response that the client has."""
    return client.responses()[-1].status


def served(world: World, *, shadow: bytes | None = OK) -> tuple[Client, Server, Server]:
    """A client with a request to both, which `web` has answered."""
    client = world.client()
    client.get()
    web, copy = world.accept(WEB), world.accept(SHADOW)
    _ = web >> OK
    if shadow:
        _ = copy >> shadow
    return client, web, copy


class TestCopy:
    """What is sent."""

    def test_it_is_the_request_and_a_mark(self, make_world: Make) -> None:
        """The same head, of the same trace, and a field by which the other server knows it."""
        world = make_world(mirror=Mirror)
        client, web, copy = served(world, shadow=None)
        assert status_of(client) == 200
        assert copy.received.replace(b"x-sidecar-mirror: true\r\n", b"") == web.received
        _ = copy << MARKED
        _ = copy >> OK
        assert len(world.recorded) == 1
        world.assert_at_rest()

    @pytest.mark.parametrize("said", [b"true", b"false"])
    def test_a_client_that_sends_the_mark_is_treated_as_any(self, make_world: Make, said: bytes) -> None:
        """Its request is sent on with it, recorded and copied; the copy has one mark, ours."""
        world = make_world(mirror=Mirror)
        client = world.client()
        _ = client >> b"GET / HTTP/1.1\r\nHost: web\r\nX-Sidecar-Mirror: %b\r\n\r\n" % said
        web, copy = world.accept(WEB), world.accept(SHADOW)
        assert web.take().lower().count(b"x-sidecar-mirror: " + said) == 1
        _ = copy << MARKED
        _ = copy >> OK
        _ = web >> OK
        assert world.outcome() == (200, "")
        world.assert_at_rest()

    @pytest.mark.parametrize("is_chunked", [False, True])
    @pytest.mark.parametrize("pieces", [1, 3])
    def test_its_body_is_whole(self, make_world: Make, is_chunked: bool, pieces: int) -> None:
        """It is sent when the request is complete, not before."""
        world = make_world(mirror=Mirror)
        client = world.client()
        request = post(b"abc" * 100, is_chunked=is_chunked)
        step = -(-len(request) // pieces)
        for at in range(0, len(request), step):
            assert SHADOW not in world.dialed
            _ = client >> request[at : at + step]
        web, copy = world.accept(WEB), world.accept(SHADOW)
        assert copy.take().replace(b"x-sidecar-mirror: true\r\n", b"") == web.take()
        _ = copy >> OK
        _ = web >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_body_over_the_limit_is_not_copied(self, make_world: Make, is_chunked: bool) -> None:
        """The limit itself still is (framing counts); the request goes on either way."""
        for size, is_copied in ((1000 - 100 * is_chunked, True), (1001, False)):
            world = make_world(mirror=partial(Mirror, max_body_bytes=1000))
            client = world.client()
            request = post(b"x" * size, is_chunked=is_chunked)
            _ = client >> request[:500]
            _ = client >> request[500:]
            assert (SHADOW in world.dialed) == is_copied
            assert world.shadow.stats.mirror_skipped_body_too_large == (not is_copied)
            _ = world.accept(WEB) >> OK
            assert status_of(client) == 200
            if is_copied:
                _ = world.accept(SHADOW) >> OK
            world.assert_at_rest()

    def test_a_request_that_is_never_complete_is_not_copied(self, make_world: Make) -> None:
        """The client leaves in its body."""
        world = make_world(mirror=Mirror)
        client = world.client()
        _ = client >> post(b"x" * 100)[:-1]
        world.accept(WEB)
        client.leave()
        assert not world.dials.under_way
        world.assert_at_rest()

    def test_a_retry_is_not_copied_again(self, make_world: Make) -> None:
        """One request, one copy."""
        policy = RetryPolicy(3, CONDITIONS, backoff_base_s=0, backoff_max_s=0)  # type: ignore[arg-type]
        world = make_world(mirror=Mirror, retry=policy)
        client = world.client()
        client.get()
        _ = world.accept(SHADOW) >> OK
        world.accept(WEB).reset()
        _ = world.accept(WEB) >> OK
        assert status_of(client) == 200
        assert not world.dials.under_way
        assert world.shadow.stats.requests == 1
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n",
        ],
    )
    def test_tunnels_are_not_copied(self, make_world: Make, request_: bytes) -> None:
        """There is no request to copy, but a conversation."""
        world = make_world(mirror=Mirror)
        client = world.client()
        _ = client >> request_
        assert world.dialed == [WEB]
        client.leave()
        world.refuse()
        world.assert_at_rest()

    @pytest.mark.parametrize(("draw", "is_copied"), [(0.249, True), (0.25, False)])
    def test_a_share_is_copied(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch, draw: float, is_copied: bool
    ) -> None:
        """By chance."""
        monkeypatch.setattr("sidecar.proxy.exchange.course.random", lambda: draw)
        world = make_world(mirror=partial(Mirror, percent=25))
        client = world.client()
        client.get()
        assert (SHADOW in world.dialed) == is_copied
        client.leave()
        while world.dials.under_way:
            world.refuse()
        world.assert_at_rest()

    def test_a_request_that_is_refused_is_not_copied(self, make_world: Make) -> None:
        """Neither by a fault nor by the circuit breaker."""
        for settings in ({"fault": Fault(abort_percent=100)}, {"breaker": BreakerSpec(max_requests=1)}):
            world = make_world(mirror=Mirror, **settings)
            if "breaker" in settings:
                assert world.cluster.breaker is not None
                assert world.cluster.breaker.enter()
            client = world.client()
            client.get()
            assert status_of(client) == 503
            assert not world.dials.under_way


class TestHarmless:
    """What happens to the copy."""

    @pytest.mark.parametrize(
        "end", ["refuse", "reset", "eof", "garbage", "error", "cut", "switch", "early", "never", "no connection"]
    )
    def test_the_client_sees_nothing_of_it(self, make_world: Make, end: str) -> None:
        """Same answer, at the same time, on a connection that goes on."""
        world = make_world(mirror=Mirror)
        client = world.client()
        client.get()
        web = world.accept(WEB)
        if end == "refuse":
            world.refuse()
        elif end != "no connection":
            copy = world.accept(SHADOW)
            if end == "reset":
                copy.reset()
            elif end == "eof":
                copy.eof()
            elif end == "garbage":
                _ = copy >> b"\x00\x01\r\n\r\n"
            elif end == "error":
                _ = copy >> b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"
            elif end == "cut":
                _ = copy >> OK[:-1]
                copy.reset()
            elif end == "switch":
                _ = copy >> b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\nhello"
            elif end == "early":
                _ = copy >> b"HTTP/1.1 103 x\r\n\r\n" + OK
        assert client.received == b""
        _ = web >> OK
        _ = client << OK
        client.get()
        _ = web >> OK
        _ = client << OK
        assert [(exchange.status, exchange.reason, exchange.attempts) for exchange in world.recorded] == [
            (200, None, 1),
            (200, None, 1),
        ]
        while world.dials.under_way:
            world.refuse()
        world.advance(16)
        assert world.shadow.stats.requests == 2
        world.assert_at_rest()

    @pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"])
    def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(self, make_world: Make, said: bytes) -> None:
        """The copy has the route's timeout, its body included; then its connection is closed."""
        world = make_world(mirror=Mirror, timeout_s=3.0)
        _, _, copy = served(world, shadow=said)
        world.advance(2.9)
        assert copy.is_open
        world.advance(0.3)
        assert not copy.is_open
        world.advance(5)
        world.assert_at_rest()

    def test_an_answer_that_never_ends_is_cut_after_the_default_time(self, make_world: Make) -> None:
        """15 s, where the route has no timeout; bytes now and then do not put it off."""
        world = make_world(mirror=Mirror)
        _, _, copy = served(world, shadow=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(14):
            world.advance(1)
            _ = copy >> b"1\r\nx\r\n"
        assert copy.is_open
        world.advance(1.2)
        assert not copy.is_open
        world.advance(5)
        world.assert_at_rest()

    def test_a_copy_outlives_the_client(self, make_world: Make) -> None:
        """And its connection goes back to the pool."""
        world = make_world(mirror=Mirror)
        client, _, copy = served(world, shadow=None)
        client.leave()
        _ = copy >> OK
        assert copy.is_open
        assert len(world.shadow.endpoints[0].idle) == 1
        world.assert_at_rest()

    def test_connections_of_copies_are_reused(self, make_world: Make) -> None:
        """No connection is lost from sight."""
        world = make_world(mirror=Mirror)
        client, web, copy = served(world)
        for _ in range(5):
            client.get()
            _ = web >> OK
            _ = copy >> OK
        assert world.dials.count == 2
        assert world.shadow.stats.requests == 6
        world.assert_at_rest()

    def test_a_slow_mirror_holds_a_bounded_number_of_copies(self, make_world: Make) -> None:
        """256 under way; beyond that requests are not copied, and are served all the same."""
        world = make_world(mirror=Mirror)
        client, web, copy = served(world)
        world.advance(0.1)
        for _ in range(300):
            client.get()
            _ = web >> OK
        assert len(client.responses()) == 301
        assert world.shadow.stats.requests_active == 256
        assert world.shadow.stats.mirror_skipped_too_many == 44
        while world.dials.under_way:
            world.refuse()
        copy.leave()
        world.advance(16)
        world.assert_at_rest()

    def test_its_circuit_breaker_bounds_copies_and_not_requests(self, make_world: Make) -> None:
        """What exceeds it is not copied."""
        world = make_world(mirror=Mirror, shadow_breaker=BreakerSpec(max_requests=1))
        client = world.client()
        client.get()
        web = world.accept(WEB)
        _ = web >> OK
        client.get()
        _ = web >> OK
        assert world.dialed == [SHADOW]
        assert world.shadow.stats.mirror_skipped_overloaded == 1
        assert len(client.responses()) == 2
        _ = world.accept(SHADOW) >> OK
        world.assert_at_rest()

    @pytest.mark.parametrize("end", ["answered", "failed", "left"])
    def test_a_copy_whose_request_ends_before_its_body_is_counted_once(self, make_world: Make, end: str) -> None:
        """It is not made, and says why."""
        world = make_world(mirror=Mirror)
        client = world.client()
        _ = client >> post(b"x" * 100)[:-1]
        web = world.accept(WEB)
        if end == "answered":
            _ = web >> b"HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n"
        elif end == "failed":
            web.reset()
        client.leave()
        stats = world.shadow.stats
        assert (stats.mirror_skipped_answered_early, stats.mirror_skipped_client_left) == (end != "left", end == "left")
        assert not world.dials.under_way
        world.assert_at_rest()

    def test_an_upstream_without_endpoints_is_counted(self, make_world: Make) -> None:
        """The request goes where it should."""
        world = make_world(mirror=Mirror)
        world.shadow.set_addresses({})
        client = world.client()
        client.get()
        _ = world.accept(WEB) >> OK
        assert status_of(client) == 200
        assert world.shadow.stats.mirror_skipped_no_endpoint == 1
        world.assert_at_rest()

    def test_a_mirror_that_does_not_read_does_not_slow_the_request(self, make_world: Make) -> None:
        """Its copy waits in its own connection's buffer."""
        world = make_world(mirror=partial(Mirror, max_body_bytes=10_000_000))
        client = world.client()
        body = b"m" * 900_000
        _ = client >> post(body)[:100]
        web = world.accept(WEB)
        _ = client >> post(body)[100:]
        copy = world.accept(SHADOW, is_slow=True)
        assert not client.is_paused
        assert web.received.endswith(body)
        _ = web >> OK
        assert status_of(client) == 200
        world.advance(16)
        assert not copy.is_open
        world.advance(5)
        world.assert_at_rest()


THIRD = "10.9.9.8:80"


def two(shadow: Cluster, first: int = 64 * 1024, second: int = 64 * 1024) -> tuple[Mirror, Mirror]:
    """Mirrors of two upstreams with limits of the body, both of which take everything."""
    third = Cluster(ClusterSpec("third", ((THIRD, 1.0),)))
    return Mirror(shadow, max_body_bytes=first), Mirror(third, max_body_bytes=second)


class TestSeveral:
    """A route with several mirrors."""

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_each_gets_the_whole_request(self, make_world: Make, is_chunked: bool) -> None:
        """The same octets, and what one does with them is nothing to the other."""
        world = make_world(mirror=two)
        client = world.client()
        request = post(b"abc" * 100, is_chunked=is_chunked)
        _ = client >> request[:100]
        assert world.dialed == [WEB]
        _ = client >> request[100:]
        web, shadow = world.accept(WEB), world.accept(SHADOW)
        sent = shadow.take()
        assert sent.replace(b"x-sidecar-mirror: true\r\n", b"") == web.take()
        shadow.reset()
        third = world.accept(THIRD)
        assert third.take() == sent
        _ = third >> OK
        _ = web >> OK
        assert status_of(client) == 200
        assert len(world.recorded) == 1
        world.assert_at_rest()

    def test_each_draws_for_itself_and_one_that_takes_none_is_left_out(self, make_world: Make) -> None:
        """By its own share."""

        def made(shadow: Cluster) -> tuple[Mirror, Mirror]:
            first, second = two(shadow)
            return replace(first, percent=0.0), second

        world = make_world(mirror=made)
        client = world.client()
        client.get()
        assert sorted(world.dialed) == sorted([WEB, THIRD])
        _ = world.accept(WEB) >> OK
        _ = world.accept(THIRD) >> OK
        world.assert_at_rest()

    @pytest.mark.parametrize("step", [10_000, 7])
    def test_each_has_its_own_limit_of_the_body_and_its_own_count(self, make_world: Make, step: int) -> None:
        """The one whose limit the body exceeds is left out, and the other still gets all of it."""
        world = make_world(mirror=partial(two, first=50, second=100))
        client = world.client()
        request = post(b"x" * 100)
        for at in range(0, len(request), step):
            _ = client >> request[at : at + step]
        web, third = world.accept(WEB), world.accept(THIRD)
        assert third.take().endswith(b"\r\n\r\n" + b"x" * 100)
        assert SHADOW not in world.dialed
        assert [mirror.upstream.stats.mirror_skipped_body_too_large for mirror in world.mirrors] == [1, 0]
        _ = web >> OK
        _ = third >> OK
        world.assert_at_rest()

    def test_a_body_that_none_of_them_takes_is_not_kept(self, make_world: Make) -> None:
        """Nor is the request slowed for it; each counts it."""
        world = make_world(mirror=partial(two, first=10, second=20))
        client = world.client()
        _ = client >> post(b"x" * 21)
        assert world.dialed == [WEB]
        _ = world.accept(WEB) >> OK
        assert [mirror.upstream.stats.mirror_skipped_body_too_large for mirror in world.mirrors] == [1, 1]
        world.assert_at_rest()

    def test_a_request_that_is_never_complete_is_counted_by_each(self, make_world: Make) -> None:
        """The client leaves in its body."""
        world = make_world(mirror=two)
        client = world.client()
        _ = client >> post(b"x" * 100)[:-1]
        world.accept(WEB)
        client.leave()
        assert not world.dials.under_way
        assert [mirror.upstream.stats.mirror_skipped_client_left for mirror in world.mirrors] == [1, 1]
        world.assert_at_rest()
