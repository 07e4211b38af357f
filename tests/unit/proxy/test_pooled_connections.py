"""When a pooled connection ends: its age, the upstream's own patience, a name that moved; on a held clock."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from unittest.mock import Mock

import pytest

from sidecar import errors
from sidecar.errors import Reason
from sidecar.net.tls.sides import MESH_HTTP
from sidecar.net.tls.transport import TlsTransport
from sidecar.peer import Peer
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.upstream.endpoint import Objection
from sidecar.upstream.limits.adaptive import INITIAL_LIMIT
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.spec import IDLE_TIMEOUT_S, MESH_IDLE_TIMEOUT_S
from tests.support.crowd import Crowd
from tests.support.fakes import Client, Dial, FakeTransport, Server, World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

Make = Callable[..., World]


def hinted(hint: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: " + hint + b"\r\n\r\nok"


def asked(world: World, answer: bytes = OK) -> tuple[Client, Server]:
    """A client with one answer, and the connection that it came by."""
    client = world.client()
    client.get()
    server = world.accept()
    _ = server >> answer
    assert client.responses()[-1].status == 200
    return client, server


def sealed_connection(
    world: World, dial: Dial, protocol: str, on_refused: Callable[[Reason], None] | None = None
) -> tuple[ServerConnection, TlsTransport]:
    """By TLS, whose handshake is over: to a sidecar or another server, by the protocol that both speak."""
    connection = ServerConnection(dial.endpoint, world.timers, world.live.outbox, dial.on_connected, on_refused)
    sealed = TlsTransport(ssl.create_default_context(), Mock(), Crowd().gate, is_server=False, server_name="shop")
    raw = FakeTransport(world.loop, cast("asyncio.Protocol", connection), ("192.0.2.1", 8080))
    world.servers.append(Server(world, raw, "sealed"))
    sealed.start(raw)
    sealed.peer = Peer("1.3", "TLS_AES_128_GCM_SHA256", protocol)
    return connection, sealed


def alert(name: str) -> ssl.SSLError:
    """What a read fails with when the server has sent this."""
    error = ssl.SSLError(1, name)
    error.reason = name
    return error


class TestAge:
    """`max_age`, 100 s here."""

    def test_connection_in_steady_use_ends_at_its_age(self, make_world: Make) -> None:
        """When its request is over, not before; the next request has a new one."""
        world = make_world()
        world.cluster.max_age_s = 100.0
        client, server = asked(world)
        for _ in range(89):
            world.advance(1)
            client.get()
            _ = server >> OK
        assert server.is_open
        client.get()
        world.advance(15)
        assert server.is_open
        _ = server >> OK
        assert not server.is_open
        assert world.cluster.stats.connections_closed_by == {"max_age": 1}
        client.get()
        _ = world.accept() >> OK
        assert len(client.responses()) == 92
        world.assert_at_rest()

    def test_idle_connection_ends_at_its_age(self, make_world: Make) -> None:
        """If that is sooner than its idle timeout."""
        world = make_world()
        world.cluster.max_age_s = 10.0
        world.cluster.idle_timeout_s = 60.0
        _, server = asked(world)
        world.advance(8.5)
        assert server.is_open
        world.advance(2)
        assert not server.is_open
        assert world.cluster.stats.connections_closed_by == {"max_age": 1}
        world.assert_at_rest()


class TestPatience:
    """`Keep-Alive: timeout=N` of the upstream."""

    @pytest.mark.parametrize(
        ("hint", "idle_timeout_s", "lasts_s"),
        [(b"timeout=5", 60.0, 4.0), (b"timeout=5", 2.0, 2.0), (b"timeout=120", 3.0, 3.0), (b"max=5", 3.0, 3.0)],
    )
    def test_shorter_of_both_counts(self, make_world: Make, hint: bytes, idle_timeout_s: float, lasts_s: float) -> None:
        """The upstream's a second early, so that no request crosses its close."""
        world = make_world()
        world.cluster.idle_timeout_s = idle_timeout_s
        client, server = asked(world, hinted(hint))
        world.advance(0.5)
        client.get()
        _ = server >> hinted(hint)
        world.advance(lasts_s - 0.1)
        assert server.is_open
        world.advance(0.3)
        assert not server.is_open
        assert world.cluster.stats.connections_closed_by == {"idle_timeout": 1}
        world.assert_at_rest()

    def test_latest_word_counts(self, make_world: Make) -> None:
        """An upstream that says nothing more has the file's patience again."""
        world = make_world()
        world.cluster.idle_timeout_s = 60.0
        client, server = asked(world, hinted(b"timeout=5"))
        client.get()
        _ = server >> OK
        world.advance(30)
        assert server.is_open
        world.advance(31)
        assert not server.is_open
        world.assert_at_rest()

    def test_no_patience_is_a_close(self, make_world: Make) -> None:
        """`timeout=0`."""
        world = make_world()
        _, server = asked(world, hinted(b"timeout=0"))
        assert not server.is_open
        world.assert_at_rest()


def test_connection_to_where_a_name_led_is_not_given_back(make_world: Make) -> None:
    """One that was opened since is."""
    world = make_world()
    client = world.client()
    client.get()
    server = world.accept()
    (endpoint,) = world.cluster.endpoints
    endpoint.move()
    _ = server >> OK
    assert not server.is_open
    client.get()
    new = world.accept()
    _ = new >> OK
    assert new.is_open
    assert endpoint.objections == Objection.MOVED
    world.assert_at_rest()


class TestSettled:
    """Streams and tunnels are no load for an adaptive limit."""

    @pytest.mark.parametrize("kind", ["events", "websocket", "connect"])
    def test_idle_streams_leave_room_for_requests(self, make_world: Make, kind: str) -> None:
        """As many of them as the limit is; then requests are served all the same, and their ends are counted right."""
        world = make_world(breaker=BreakerSpec(adaptive=True))
        streams = []
        for _ in range(INITIAL_LIMIT):
            client = world.client()
            if kind == "websocket":
                client.get(b"/", b"web", b"Upgrade: websocket", b"Connection: upgrade")
            elif kind == "connect":
                _ = client >> b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n"
            else:
                client.get()
            server = world.accept()
            if kind != "connect":
                _ = server >> (STREAM if kind == "events" else SWITCHED)
            streams.append((client, server))
        breaker = world.cluster.breaker
        assert breaker is not None
        assert (breaker.requests, breaker.settled) == (INITIAL_LIMIT, INITIAL_LIMIT)
        last, server = asked(world)
        assert last.responses()[-1].status == 200
        for client, server in streams:
            client.leave()
            server.leave()
        assert (breaker.requests, breaker.settled, breaker.limit) == (0, 0, INITIAL_LIMIT)
        world.assert_at_rest()

    def test_body_with_a_length_is_work(self, make_world: Make) -> None:
        """It ends by itself, and counts until then."""
        world = make_world(breaker=BreakerSpec(adaptive=True))
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> OK[:-1]
        assert world.cluster.breaker is not None
        assert (world.cluster.breaker.requests, world.cluster.breaker.settled) == (1, 0)
        _ = server >> OK[-1:]
        assert world.cluster.breaker.requests == 0
        world.assert_at_rest()


class TestSidecars:
    """One keeps its clients' connections for minutes, so those to it by TLS need not end after four seconds."""

    @pytest.mark.parametrize(
        ("protocol", "of_file_s", "lasts_s"),
        [(MESH_HTTP, None, 60.0), ("http/1.1", None, 4.0), (MESH_HTTP, 10.0, 10.0)],
    )
    @pytest.mark.parametrize("has_served", [False, True], ids=["unused", "used"])
    def test_idle_timeout(
        self, make_world: Make, protocol: str, of_file_s: float | None, lasts_s: float, has_served: bool
    ) -> None:
        """What a file says counts for all."""
        world = make_world()
        world.cluster.idle_timeout_s = of_file_s or IDLE_TIMEOUT_S
        world.cluster.mesh_idle_timeout_s = of_file_s or MESH_IDLE_TIMEOUT_S
        client = world.client()
        client.get()
        dial = world.dials.under_way.pop()
        connection, sealed = sealed_connection(world, dial, protocol)
        if not has_served:
            dial.endpoint.pending.clear()
        connection.connection_made(cast("asyncio.Transport", sealed))
        world.loop.run()
        if has_served:
            connection.data_received(OK)
            world.loop.run()
            assert client.responses()[-1].status == 200
        assert dial.endpoint.idle == [connection]
        world.advance(lasts_s - 0.5)
        assert dial.endpoint.idle == [connection]
        world.advance(1)
        assert not dial.endpoint.idle
        assert world.cluster.stats.connections_closed_by == {"idle_timeout": 1}


class TestCertificateIsRefused:
    """A server of TLS 1.3 says so behind the handshake, when the connection is in the pool already."""

    @pytest.mark.parametrize("is_used", [False, True], ids=["unused", "used"])
    def test_it_is_told_whether_somebody_waits_or_not(self, make_world: Make, is_used: bool) -> None:
        """Nobody does where who asked for the connection was served by another one meanwhile."""
        world = make_world()
        client = world.client()
        client.get()
        dial = world.dials.under_way.pop()
        told: list[Reason] = []
        connection, sealed = sealed_connection(world, dial, MESH_HTTP, told.append)
        if not is_used:
            dial.endpoint.pending.clear()
        connection.connection_made(cast("asyncio.Transport", sealed))
        world.loop.run()
        assert bool(dial.endpoint.idle) is not is_used
        connection.connection_lost(alert("TLSV1_ALERT_UNKNOWN_CA"))
        assert told == [errors.UPSTREAM_REFUSED_CERTIFICATE]
        assert not dial.endpoint.idle

    @pytest.mark.parametrize("error", [None, ConnectionResetError(), alert("SSLV3_ALERT_BAD_RECORD_MAC")], ids=str)
    def test_any_other_end_is_none(self, make_world: Make, error: Exception | None) -> None:
        world = make_world()
        world.client().get()
        dial = world.dials.under_way.pop()
        told: list[Reason] = []
        connection, sealed = sealed_connection(world, dial, MESH_HTTP, told.append)
        dial.endpoint.pending.clear()
        connection.connection_made(cast("asyncio.Transport", sealed))
        connection.connection_lost(error)
        assert not told
        assert not dial.endpoint.idle


def test_connection_whose_servers_certificate_ends_some_day_is_idle_no_longer_than_any_other(make_world: Make) -> None:
    """Also after an exchange that took longer than a connection may be idle."""
    world = make_world()
    client = world.client()
    client.get()
    server = world.accept()
    connection = server.transport.first_protocol
    assert isinstance(connection, ServerConnection)
    connection._ends_at = world.loop.now + 604_800.0
    _ = server >> OK
    client.get()
    idle_s = world.cluster.idle_timeout_s
    world.loop.advance(idle_s + 1.0)
    _ = server >> OK
    assert server.is_open
    world.loop.advance(idle_s + 1.0)
    assert not server.is_open
