"""Bodies that are kept for sending them again, up to a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.proxy.retrying import (
    AT_ONCE,
    OK,
    TWO,
    A,
    B,
    Make,
    answer,
    busy,
    put,
    requests_seen,
    status_of,
    unframed,
    warm_both,
)


class TestBodies:
    """A body is kept for the retry, up to `max_body`."""

    @pytest.mark.parametrize("size", [0, 1, 999, 1000])
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_one_within_the_limit_is_sent_again_whole(self, make_world: Make, size: int, is_chunked: bool) -> None:
        """Byte for byte; what counts is what is sent, chunk framing included."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, max_body_bytes=1000))
        if is_chunked and size:
            size -= 20
        body = b"x" * max(size, 0)
        request = put(body, is_chunked)
        client = world.client()
        _ = client >> request
        first = world.accept(A)
        sent = first.take()
        first.reset()
        second = world.accept(B)
        assert second.take() == sent
        assert sent.endswith(request.partition(b"\r\n\r\n")[2])
        _ = second >> OK
        _ = client << OK
        world.assert_at_rest()

    @pytest.mark.parametrize("is_chunked", [False, True])
    @pytest.mark.parametrize("is_whole", [False, True])
    def test_one_past_the_limit_is_not_and_that_is_said(
        self, make_world: Make, is_chunked: bool, is_whole: bool
    ) -> None:
        """`body_too_large`: in the record and the counter."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, max_body_bytes=1000))
        request = put(b"x" * 1001, is_chunked)
        client = world.client()
        if is_whole:
            _ = client >> request
            server = world.accept()
        else:
            _ = client >> request[:200]
            server = world.accept()
            _ = client >> request[200:]
        server.reset()
        assert status_of(client) == 503
        assert world.recorded[-1].retry_skipped == "body_too_large"
        assert world.cluster.stats.retry_skipped_body_too_large == 1
        assert requests_seen(world) == [b"PUT"]
        world.assert_at_rest()

    def test_one_past_the_limit_can_go_elsewhere_as_long_as_nothing_was_sent(self, make_world: Make) -> None:
        """What is held for a connection is still there when the connect fails."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, max_body_bytes=0))
        request = put(b"y" * 30_000, False)
        client = world.client()
        _ = client >> request
        world.refuse()
        server = world.accept(B)
        _ = server << request
        _ = server >> OK
        world.assert_at_rest()

    @pytest.mark.parametrize("is_chunked", [False, True])
    @pytest.mark.parametrize("at", [90, 200, 400])
    def test_a_try_that_fails_while_the_body_streams_is_repeated_and_the_rest_follows(
        self, make_world: Make, is_chunked: bool, at: int
    ) -> None:
        """The second upstream gets every byte once and in order."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        body = bytes(range(65, 91)) * 20
        request = put(body, is_chunked, pieces=5)
        client = world.client()
        _ = client >> request[:at]
        world.accept(A).reset()
        _ = client >> request[at : at + 50]
        second = world.accept(B)
        _ = client >> request[at + 50 :]
        received = second.take()
        assert unframed(received, is_chunked) == body
        _ = second >> OK
        _ = client << OK
        world.assert_at_rest()

    @pytest.mark.parametrize("way", ["idle", "dialed"])
    def test_a_client_that_was_paused_for_one_upstream_is_read_again_for_the_next(
        self, make_world: Make, way: str
    ) -> None:
        """Whether the next connection comes from the pool or has to be made."""
        policy = replace(AT_ONCE, max_body_bytes=1_000_000)
        world = make_world(endpoints=TWO, retry=policy)
        if way == "idle":
            warm_both(world)
        client = world.client()
        body = b"z" * 900_000
        request = put(body, False)
        _ = client >> request[:100]
        first = world.accept() if way == "dialed" else busy(world)
        first.stop_reading()
        _ = client >> request[100:500_000]
        assert client.is_paused
        _ = first >> b"HTTP/1.1 "  # so that it was no race, and the pool is trusted
        first.reset()
        second = busy(world) if way == "idle" else world.accept()
        assert second is not first
        _ = client >> request[500_000:]
        assert not client.transport.has_undelivered
        assert unframed(second.received[second.received.index(b"PUT ") :], False) == body
        _ = second >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_client_that_was_paused_during_a_back_off_is_read_again(self, make_world: Make) -> None:
        """What it sends meanwhile is held up to a bound; then it waits, and goes on with the next try."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0))
        warm_both(world)
        client = world.client()
        request = put(b"z" * 200_000, False)
        _ = client >> request[:1000]
        first = busy(world)
        _ = first >> b"HTTP/1.1 "
        first.reset()
        _ = client >> request[1000:]
        assert client.is_paused
        world.advance(1.0)
        assert not client.is_paused
        assert not client.transport.has_undelivered
        _ = busy(world) >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_an_upstream_that_refuses_before_the_body_is_whole_is_left_for_another(self, make_world: Make) -> None:
        """The answer came early; the second try gets what was kept and then the rest."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        request = put(b"abcdefghij" * 10, False)
        client = world.client()
        _ = client >> request[:-50]
        first = world.accept(A)
        _ = first >> answer(503)
        assert not first.is_open  # it would read the rest of a request that it does not get
        second = world.accept(B)
        _ = client >> request[-50:]
        assert unframed(second.take(), False) == b"abcdefghij" * 10
        _ = second >> OK
        _ = client << OK
        world.assert_at_rest()
