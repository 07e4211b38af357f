"""CONNECT and Upgrade: the exchange becomes two streams of bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar import errors
from sidecar.exchange import Direction
from tests.support.fakes import Client, Server, World

CONNECT = b"CONNECT web:443 HTTP/1.1\r\nHost: web:443\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


def open_tunnel(world: World, kind: str) -> tuple[Client, Server]:
    """A tunnel over which nothing was said yet."""
    client = world.client()
    _ = client >> (CONNECT if kind == "connect" else UPGRADE)
    server = world.accept()
    if kind == "upgrade":
        _ = server >> SWITCH
    client.take(), server.take()
    return client, server


@pytest.fixture(params=["connect", "upgrade"])
def tunnel(request: pytest.FixtureRequest, world: World) -> tuple[Client, Server]:
    """The same promises hold for both kinds."""
    return open_tunnel(world, request.param)


class TestBeginnings:
    """How an exchange becomes a tunnel, and how it does not."""

    def test_connect_sends_nothing_and_says_established(self, world: World) -> None:
        """RFC 9110, 9.3.6: no head goes to the server, and no body framing is in the answer."""
        client = world.client()
        _ = client >> CONNECT
        server = world.accept()
        assert server.received == b""
        _ = client << ESTABLISHED

    def test_bytes_sent_ahead_go_into_the_tunnel(self, world: World) -> None:
        """A client that does not wait loses nothing."""
        client = world.client()
        _ = client >> CONNECT + b"hel"
        _ = client >> b"lo"
        server = world.accept()
        _ = server << b"hello"
        _ = client << ESTABLISHED

    def test_connect_is_not_served_inbound(self, make_world: Callable[..., World]) -> None:
        """The app's port is no way into the network."""
        world = make_world(direction=Direction.INBOUND)
        client = world.client()
        _ = client >> CONNECT
        response = client.responses(b"GET")[-1]
        assert response.status == 405
        assert b"allow" in response.headers

    def test_connect_to_an_unknown_host_is_404(self, world: World) -> None:
        """Only what the configuration allows."""
        client = world.client()
        _ = client >> b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n"
        assert world.outcome() == (404, "no_route")
        assert not world.dials.under_way

    def test_connect_that_fails_is_503(self, world: World) -> None:
        """No tunnel; `TestRefusedConnect` says what becomes of the connection."""
        client = world.client()
        _ = client >> CONNECT
        world.refuse()
        assert world.outcome() == (503, "connect_failed")
        client.leave()
        world.assert_at_rest()

    def test_tunnel_does_not_use_or_fill_the_pool(self, world: World) -> None:
        """Its connection is its own."""
        _, server = world.warm()
        other = world.client()
        _ = other >> CONNECT
        own = world.accept()
        other.leave()
        assert not own.is_open
        assert server.is_open
        world.assert_at_rest()

    def test_upgrade_passes_with_its_fields(self, world: World) -> None:
        """RFC 9110, 7.8."""
        client = world.client()
        _ = client >> UPGRADE
        server = world.accept()
        sent = server.take()
        assert b"connection: upgrade\r\nupgrade: websocket\r\n" in sent
        assert b"Sec-WebSocket-Key: x\r\n" in sent
        _ = server >> SWITCH + b"first"
        answer = client.take()
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: y\r\n")
        assert b"connection: upgrade\r\nupgrade: websocket\r\n" in answer
        assert answer.endswith(b"\r\n\r\nfirst")

    def test_upgrade_that_is_declined_is_an_ordinary_response(self, world: World) -> None:
        """And the connection goes on as HTTP."""
        client = world.client()
        _ = client >> UPGRADE
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"
        client.get()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        assert [response.body for response in client.responses()] == [b"no", b"ok"]
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "lines",
        [b"", b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n",
         b"Upgrade: TLS/1.2, tcp\r\nConnection: upgrade\r\n",
         b"Upgrade: H2C\r\nConnection: Upgrade, HTTP2-Settings\r\n"],
    )  # fmt: skip
    def test_unasked_101_is_502(self, world: World, lines: bytes) -> None:
        """RFC 9110, 7.8: not asked, or not allowed: then 101 answers something else."""
        client, server = world.warm()
        _ = client >> b"GET / HTTP/1.1\r\nHost: web\r\n" + lines + b"\r\n"
        request = server.received.rpartition(b"GET / ")[2].lower()
        assert b"upgrade" not in request
        assert b"settings" not in request
        _ = server >> SWITCH + b"bytes of another protocol"
        response = client.responses()[-1]
        assert response.status == 502
        assert b"another" not in client.received
        assert server.transport.ended == "abort"
        assert world.recorded[-1].reason is errors.BAD_RESPONSE
        world.assert_at_rest()

    def test_upgrade_over_http_1_0_is_ignored(self, world: World) -> None:
        """RFC 9110, 7.8."""
        client = world.client()
        _ = client >> UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0")
        assert b"pgrade" not in world.accept().received


class TestStreams:
    """What both kinds do."""

    def test_bytes_pass_both_ways_and_are_counted(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """Whatever they look like."""
        client, server = tunnel
        _ = client >> b"GET / HTTP/1.1\r\n\r\n\x00\xff"
        _ = server << b"GET / HTTP/1.1\r\n\r\n\x00\xff"
        _ = server >> b"HTTP/1.1 400 no\r\n\r\n"
        _ = client << b"HTTP/1.1 400 no\r\n\r\n"
        client.leave()
        (exchange,) = world.recorded
        assert (exchange.bytes_received, exchange.bytes_sent) == (20, 19)
        assert exchange.reason is None
        assert not server.is_open
        world.assert_at_rest()

    def test_half_close_passes_and_the_other_direction_goes_on(
        self, world: World, tunnel: tuple[Client, Server]
    ) -> None:
        """Client first, then server."""
        client, server = tunnel
        client.eof()
        assert server.transport.is_eof_written
        assert client.is_open
        _ = server >> b"still here"
        _ = client << b"still here"
        server.eof()
        assert not client.is_open
        assert not server.is_open
        assert world.recorded[-1].reason is None
        world.assert_at_rest()

    def test_half_close_of_the_server_passes(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """Server first, then client."""
        client, server = tunnel
        server.eof()
        assert client.transport.is_eof_written
        _ = client >> b"late"
        _ = server << b"late"
        client.eof()
        assert not client.is_open
        assert not server.is_open
        world.assert_at_rest()

    def test_last_bytes_before_the_second_half_close_arrive(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """A slow server gets what the client sent before its end, though both have ended."""
        client, server = tunnel
        server.eof()
        server.stop_reading()
        _ = client >> b"x" * 50_000
        client.eof()
        assert server.transport.ended != "abort"
        server.read()
        assert server.transport.is_lost
        world.assert_at_rest()

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_server_gone_ends_the_tunnel(self, world: World, tunnel: tuple[Client, Server], is_reset: bool) -> None:
        """A reset is passed on as a reset."""
        client, server = tunnel
        server.reset() if is_reset else server.leave()
        assert client.transport.ended == ("abort" if is_reset else "close")
        assert (world.recorded[-1].reason is not None) is is_reset
        world.assert_at_rest()

    def test_back_pressure_both_ways(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """Nothing is held beyond the marks."""
        client, server = tunnel
        for slow, fast in ((client, server), (server, client)):
            slow.stop_reading()
            _ = fast >> b"x" * 1_000_000
            assert fast.is_paused
            assert slow.transport.unsent < 600_000
            slow.read()
            assert not fast.is_paused
            assert slow.received.endswith(b"x" * 1_000_000)
            slow.take()

    def test_idle_tunnel_ends_and_a_busy_one_does_not(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """A WebSocket lives as long as something moves, in either direction."""
        client, server = tunnel
        for number in range(6):
            world.advance(250)
            _ = (client if number % 2 else server) >> b"ping"
        assert client.is_open
        world.advance(301)
        assert not client.is_open
        assert not server.is_open
        world.assert_at_rest()

    def test_drain_leaves_it_and_abort_ends_it(self, world: World, tunnel: tuple[Client, Server]) -> None:
        """A WebSocket lives through reloads and drains until the end."""
        client, server = tunnel
        client.connection.drain()
        world.loop.run()
        assert client.is_open
        client.connection.abort()
        world.loop.run()
        assert not server.is_open
        assert world.recorded[-1].reason is None
        world.assert_at_rest()

    def test_server_that_never_takes_the_last_bytes_does_not_hold_its_connection(
        self, world: World, tunnel: tuple[Client, Server]
    ) -> None:
        """Delivery after the end has its time."""
        client, server = tunnel
        server.eof()
        server.stop_reading()
        _ = client >> b"x" * 50_000
        client.eof()
        world.advance(31)
        assert server.transport.is_lost
        world.assert_at_rest()


class TestRefusedConnect:
    """RFC 9110, 9.3.6: what follows a CONNECT is meant for the tunnel's other end, whatever becomes of the tunnel."""

    SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n"

    @pytest.mark.parametrize("together", [True, False])
    def test_nothing_behind_a_connect_that_no_route_takes_is_read(self, world: World, together: bool) -> None:
        """The answer is the connection's last."""
        client = world.client()
        connect = b"CONNECT nowhere:443 HTTP/1.1\r\nHost: nowhere:443\r\n\r\n"
        _ = client >> (connect + self.SMUGGLED if together else connect)
        if not together:
            _ = client >> self.SMUGGLED
        assert [exchange.status for exchange in world.recorded] == [404]
        (response,) = client.responses(b"CONNECT")
        assert response.headers[b"connection"] == b"close"
        assert not world.dials.under_way

    def test_nor_behind_one_whose_upstream_cannot_be_reached(self, world: World) -> None:
        """It failed later, and may have been followed by more."""
        client = world.client()
        _ = client >> b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n" + self.SMUGGLED
        world.refuse()
        assert [exchange.status for exchange in world.recorded] == [503]
        assert client.responses(b"CONNECT")[0].headers[b"connection"] == b"close"
        assert not world.dials.under_way


class TestUpgradeWithBody:
    """RFC 9110, 7.8: a client speaks another protocol only when its request is sent; `docker exec` has a body."""

    EXEC = (
        b"POST /exec/1/start HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n"
    )
    SWITCH = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    @pytest.mark.parametrize("pieces", [[b"{}"], [b"{", b"}"]])
    def test_the_switch_comes_behind_the_body(self, make_world: Callable[..., World], pieces: list[bytes]) -> None:
        """The body goes as a body, what follows as the other protocol's."""
        world = make_world(upgrades=frozenset((b"tcp",)))
        client = world.client()
        _ = client >> self.EXEC
        server = world.accept()
        for piece in pieces:
            _ = client >> piece
        assert server.take().endswith(b"\r\n\r\n{}")
        _ = server >> self.SWITCH + b"hello"
        assert client.take().endswith(b"\r\n\r\nhello")
        _ = client >> b"GET / HTTP/1.1\r\n\r\n"
        assert server.take() == b"GET / HTTP/1.1\r\n\r\n"
        client.eof()
        server.eof()
        assert world.outcome() == (101, "")
        world.assert_at_rest()

    @pytest.mark.parametrize(
        ("framing", "rest"), [(b"Content-Length: 4", b"cd"), (b"Transfer-Encoding: chunked", b"2\r\ncd\r\n0\r\n\r\n")]
    )
    def test_a_server_that_switches_early_still_gets_the_body(
        self, make_world: Callable[..., World], framing: bytes, rest: bytes
    ) -> None:
        """What is left of it keeps its framing; bytes behind it are the tunnel's."""
        world = make_world(upgrades=frozenset((b"tcp",)))
        client = world.client()
        first = b"2\r\nab\r\n" if b"chunked" in framing else b"ab"
        _ = client >> self.EXEC.replace(b"Content-Length: 2", framing) + first
        server = world.accept()
        server.take()
        _ = server >> self.SWITCH
        client.take()
        _ = client >> rest + b"raw"
        assert server.take() == rest + b"raw"
        _ = server >> b"answer"
        assert client.take() == b"answer"
        client.eof()
        server.eof()
        world.assert_at_rest()

    def test_a_protocol_that_is_not_allowed_is_not_offered_on(self, world: World) -> None:
        """The request is an ordinary one, body and all."""
        client = world.client()
        _ = client >> self.EXEC + b"{}"
        server = world.accept()
        assert b"pgrade" not in server.received
        assert server.received.endswith(b"\r\n\r\n{}")
