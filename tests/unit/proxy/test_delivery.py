"""RFC 9112, 9.6: a response arrives before its connection ends, and what did not arrive is not told to have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar import errors
from sidecar.http2 import frames
from sidecar.http2.codes import PREFACE, FrameType, Setting
from tests.support.fakes import LIMITS, Client, World
from tests.support.http2 import headers, of_kind, parse_all, window

Make = Callable[..., World]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000


class TestStagedClose:
    """Our side ends, the client's is read until it ends too, or for two seconds."""

    @pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /next HTTP/1.1\r\nHost: web\r\n\r\n", b"x" * 1000])
    def test_what_the_client_sends_behind_its_last_request_resets_nothing(self, world: World, sent: bytes) -> None:
        """It is read and dropped."""
        client = world.client()
        client.get(b"/", b"web", b"Connection: close")
        _ = world.accept() >> LARGE
        assert client.transport.is_eof_written
        if sent:
            _ = client >> sent
        assert not client.transport.ended
        assert client.received.endswith(b"x" * 100)
        assert [exchange.status for exchange in world.recorded] == [200]
        client.eof()
        assert client.transport.is_lost
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET / HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: elsewhere\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost web\r\n\r\n",
        ],
    )
    def test_answers_of_our_own_are_staged_too(self, world: World, request_: bytes) -> None:
        """Whoever made them."""
        client = world.client()
        _ = client >> request_
        assert client.transport.is_eof_written
        assert not client.transport.ended
        world.advance(2.2)
        assert client.transport.is_lost
        world.assert_at_rest()


class TestWhole:
    """The record is made when the response has left."""

    def test_the_routes_time_ends_no_delivery(self, make_world: Make) -> None:
        """The upstream has done its part; what the client takes to read is not charged to it."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        client.stop_reading()
        client.get()
        _ = world.accept() >> LARGE
        world.advance(10.0)
        assert client.transport.ended == ""
        client.read()
        assert [(exchange.status, exchange.reason) for exchange in world.recorded] == [(200, None)]
        world.assert_at_rest()

    def test_a_response_that_is_cut_is_not_told_as_whole(self, world: World) -> None:
        """The client resets while a part of it waits."""
        client, server = world.warm()
        client.stop_reading()
        client.get()
        _ = server >> LARGE
        assert len(world.recorded) == 1  # the one before
        client.reset()
        last = world.recorded[-1]
        assert (last.status, last.reason.name) == (200, "client_left")  # type: ignore[union-attr]
        world.assert_at_rest()

    def test_the_next_request_waits_for_it(self, world: World) -> None:
        """And the connection goes on as ever."""
        client, server = world.warm()
        client.stop_reading()
        client.get()
        _ = server >> LARGE
        client.get(b"/next")
        assert b"/next" not in server.received
        client.read()
        assert b"/next" in server.received
        _ = server >> OK
        assert [exchange.status for exchange in world.recorded] == [200, 200, 200]
        assert all(exchange.reason is None for exchange in world.recorded)
        world.assert_at_rest()


class TestClientThatEnded:
    """It may read still, or be gone: the kernel knows when it was sent something."""

    def test_one_that_reads_is_answered_and_logged_as_ever(self, world: World) -> None:
        """A half-close is no leaving."""
        client, server = world.warm()
        client.get()
        client.eof()
        _ = server >> OK
        assert client.received.endswith(b"ok")
        world.advance(0.3)
        assert world.recorded[-1].reason is None
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "request_",
        [b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n", b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 9\r\n\r\nx"],
    )
    @pytest.mark.parametrize("host", [b"web", b"elsewhere"])
    def test_one_that_ends_in_the_turn_of_its_answer_has_it(self, world: World, request_: bytes, host: bytes) -> None:
        """Whoever answered, and whether or not the request was whole by then."""
        client, server = world.warm()
        client.take()
        if host == b"web":
            _ = client >> request_ % host
            server.transport.arrive(OK)
        else:
            client.transport.arrive(request_ % host)
        client.transport.arrive(b"")
        world.loop.run()
        assert client.take().startswith(b"HTTP/1.1 200 " if host == b"web" else b"HTTP/1.1 404 ")
        assert client.transport.is_lost
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "sent", [b"G", b"GET", b"GET ", b"\r\n", b"\r\nG", b"\r", b"GET / HTTP/1.1\r\nHost: web\r\n"]
    )
    @pytest.mark.parametrize("is_second", [False, True])
    def test_one_that_ends_in_the_middle_of_a_head_is_let_go(self, world: World, sent: bytes, is_second: bool) -> None:
        """At once, however little of it there is: it will never be whole."""
        client = world.client()
        if is_second:
            client.get()
            _ = world.accept() >> OK
        _ = client >> sent
        client.eof()
        assert client.transport.is_lost
        assert len(world.recorded) == is_second
        world.assert_at_rest()

    def test_one_that_was_gone_is_said_to_have_left(self, world: World) -> None:
        """What it was sent came back as a reset."""
        client, server = world.warm()
        client.get()
        client.eof()
        client.transport.be_reset()
        _ = server >> OK
        world.advance(0.3)
        last = world.recorded[-1]
        assert (last.status, last.reason.name) == (200, "client_left")  # type: ignore[union-attr]
        assert client.transport.is_lost
        world.assert_at_rest()


class TestClientThatResets:
    """`limits.on_client_reset`: a request whose client has gone is given up, or finished without it."""

    def test_by_default_its_request_is_given_up(self, world: World) -> None:
        """Nobody waits for it, and it would hold its place."""
        client, server = world.warm()
        client.get()
        client.reset()
        assert not server.is_open
        assert world.outcome_of_last() == (499, "client_left")
        world.assert_at_rest()

    def test_it_is_finished_where_the_file_says_so(self, make_world: Make) -> None:
        """The upstream is let answer, its connection is used again, and the log says that the client had left."""
        world = make_world(limits=replace(LIMITS, finishes_without_client=True))
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab"
        client.reset()
        assert server.is_open
        assert len(world.recorded) == 1
        _ = server >> b"HTTP/1.1 201 Created\r\nContent-Length: 400000\r\n\r\n"
        for _ in range(4):
            _ = server >> b"x" * 100_000
        assert world.outcome_of_last() == (201, "client_left")
        assert server.is_open
        assert not any(world.live.connections)
        world.assert_at_rest()

    def test_its_deadlines_hold(self, make_world: Make) -> None:
        """A request that nobody waits for does not wait for ever either."""
        world = make_world(limits=replace(LIMITS, finishes_without_client=True), timeout_s=2.0)
        client, server = world.warm()
        client.get()
        client.reset()
        world.advance(2.2)
        assert not server.is_open
        assert world.outcome_of_last() == (504, "client_left")
        world.assert_at_rest()

    def test_one_that_is_not_complete_is_given_up_in_any_case(self, make_world: Make) -> None:
        """It can never be finished."""
        world = make_world(limits=replace(LIMITS, finishes_without_client=True))
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nab"
        client.reset()
        assert not server.is_open
        assert world.outcome_of_last() == (499, "client_left")
        world.assert_at_rest()


def test_each_kind_of_waiting_has_its_time(make_world: Make) -> None:
    """Between requests, within an exchange, in a tunnel."""
    limits = replace(LIMITS, client_idle_timeout_s=10.0, stream_idle_timeout_s=5.0, tunnel_idle_timeout_s=20.0)
    world = make_world(limits=limits)
    idle, _ = world.warm()
    world.advance(9.0)
    assert idle.is_open
    world.advance(1.5)
    assert not idle.is_open
    waiting = world.client()
    waiting.get()
    world.accept()
    world.advance(5.5)
    assert world.outcome_of_last() == (504, "response_timeout")
    through = world.client()
    _ = through >> b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n"
    world.accept()
    world.advance(19.0)
    assert through.is_open
    world.advance(1.5)
    assert not through.is_open


@pytest.mark.parametrize("asks", ["CONNECT", "Upgrade", "Upgrade with a body"])
def test_a_tunnels_time_may_be_the_shortest(make_world: Make, asks: str) -> None:
    """It begins with the tunnel, though the exchange before had longer; each byte puts it off."""
    world = make_world(limits=replace(LIMITS, stream_idle_timeout_s=60.0, tunnel_idle_timeout_s=2.0))
    client = world.client()
    if asks == "CONNECT":
        _ = client >> b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n"
        server = world.accept()
    else:
        offer = b" HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        if asks == "Upgrade":
            _ = client >> b"GET /" + offer + b"\r\n"
        else:
            _ = client >> b"POST /" + offer + b"Content-Length: 4\r\n\r\nab"
        server = world.accept()
        _ = server >> b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        if asks != "Upgrade":
            _ = client >> b"cd"
    world.advance(1.5)
    _ = server >> b"x"
    world.advance(1.5)
    assert client.is_open
    world.advance(1.0)
    assert not client.is_open
    world.assert_at_rest()


class TestByHttp2:
    """What waits for a window is read as long as the window is opened."""

    IDLE_S = LIMITS.stream_idle_timeout_s
    SMALL = PREFACE + frames.settings([(Setting.INITIAL_WINDOW_SIZE, 1000)])

    def asked(self, world: World) -> Client:
        """A client that takes a thousand octets of its answer, and has its server's whole."""
        client = world.client()
        _ = client >> self.SMALL + headers(1)
        _ = world.accept() >> b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000
        return client

    def test_a_client_that_reads_slowly_has_all_of_it(self, world: World) -> None:
        """However long that takes in all."""
        client = self.asked(world)
        for _ in range(19):
            world.advance(self.IDLE_S * 0.7)
            assert not world.recorded
            _ = client >> window(1, 1000)
        assert of_kind(parse_all(client.take_raw()), FrameType.DATA)[-1].ends
        assert world.outcome() == (200, "")

    @pytest.mark.parametrize("size", [0, 1])
    def test_one_that_reads_nothing_or_next_to_it_is_given_up(self, world: World, size: int) -> None:
        """An octet at a time would hold it for days."""
        client = self.asked(world)
        for _ in range(3):
            world.advance(self.IDLE_S * 0.7)
            if size:
                _ = client >> window(1, size)
        assert world.recorded[0].reason is errors.CLIENT_STALLED
