"""Peers that mean ill or are broken: the process lives, others are served, and afterwards nothing is left behind."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client, CutError, Stream, Upstream

MAX_CONNECTIONS = 600
GAUGES = (
    "sidecar_downstream_connections_active",
    "sidecar_upstream_requests_active",
    "sidecar_upstream_requests_pending",
    "sidecar_upstream_connections_idle",
)


class Victim:
    """A sidecar, what is behind it, and what it held open before anything happened."""

    def __init__(self, sidecar: SidecarProcess, origin: Origin, upstream: Upstream) -> None:
        self.sidecar, self.origin, self.upstream = sidecar, origin, upstream
        self.sidecar.outbound("/", host="good")
        self._descriptors = eventually(self._settled, "the pools to be empty")

    def _settled(self) -> int:
        """Number of open descriptors once nothing is active, else 0."""
        if any(self.sidecar.metric(name) for name in GAUGES):
            return 0
        return self.descriptors()

    def descriptors(self) -> int:
        """Open descriptors of the process."""
        assert self.sidecar.process is not None
        return len(os.listdir(f"/proc/{self.sidecar.process.pid}/fd"))

    def client(self) -> Client:
        """A connection to the outbound listener."""
        return Client(self.sidecar.outbound_port)

    def is_serving(self) -> bool:
        """Whether somebody else is served."""
        return self.sidecar.outbound("/", host="good").text == "good"

    def check_nothing_is_left(self) -> None:
        """Connections and descriptors are back where they were, and nothing unforeseen was logged."""
        # A descriptor more or less: the connection that asks for the metrics may not be closed yet.
        eventually(lambda: 0 < self._settled() <= self._descriptors + 1, f"{self._descriptors} descriptors", 15)
        opened = self.sidecar.metric("sidecar_upstream_connections_opened_total")
        assert opened == self.sidecar.metric("sidecar_upstream_connections_closed_total")
        log = self.sidecar.stderr()
        for word in ("Traceback", "unhandled_exception", "connection_failed", "dial_failed", "Task "):
            assert word not in log, log[-3000:]
        assert self.is_serving()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One for the file: it must survive all of it."""
    with Origin("good") as origin, Upstream() as upstream:
        text = f"""
            service: x
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{origin.port}"}}
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams:
              good: {{endpoints: ["127.0.0.1:{origin.port}"], idle_timeout: 500ms}}
              evil: {{endpoints: ["{upstream.authority}"], idle_timeout: 500ms}}
            limits: {{max_connections: {MAX_CONNECTIONS}, header_timeout: 1s, idle_timeout: 3s,
                     client_idle_timeout: 6s}}
        """
        with running_sidecar(tmp_path_factory.mktemp("abuse"), text) as sidecar:
            yield Victim(sidecar, origin, upstream)


# --- too many, too slow --------------------------------------------------------------------------------------------


def test_idle_connections_harm_nobody_and_end(victim: Victim) -> None:
    """500 connections that say nothing: others are served meanwhile; they end after `limits.client_idle_timeout`."""
    idle = [victim.client() for _ in range(500)]
    eventually(lambda: victim.sidecar.metric("sidecar_downstream_connections_active") >= 500, "500 connections")
    assert victim.is_serving()
    for client in idle:
        assert client.is_ended()
        client.close()
    victim.check_nothing_is_left()


def test_slow_heads_are_refused_while_others_are_served(victim: Victim) -> None:
    """200 connections that send a head octet by octet get 408 after `limits.header_timeout`, not a moment more."""
    slow = [victim.client() for _ in range(200)]
    began = time.monotonic()
    head = b"GET / HTTP/1.1\r\nHost: good\r\nX-Slow: "
    for octet in head:
        for client in slow:
            client.send(bytes([octet]))
    assert victim.is_serving()
    for client in slow:
        assert client.response().status == 408
        client.close()
    assert time.monotonic() - began < 10
    victim.check_nothing_is_left()


def test_connections_beyond_the_limit_get_503_and_the_rest_go_on(victim: Victim) -> None:
    """With `max_connections` reached, 2,000 more are told so and closed; those that were there are served."""
    before = victim.sidecar.metric("sidecar_requests_total", flag="UO", code="503")
    held = [victim.client() for _ in range(MAX_CONNECTIONS)]
    eventually(
        lambda: victim.sidecar.metric("sidecar_downstream_connections_active") == MAX_CONNECTIONS, "all to be accepted"
    )

    def refused(_: int) -> tuple[int, str | None]:
        with victim.client() as client:
            response = client.response()
            assert b"limits.max_connections" in response.body
            assert client.is_ended()
            return response.status, response.get("connection")

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(refused, range(2000))) == {(503, "close")}
    for client in held[::20]:
        client.get("/", host="good")
        assert client.response().body == b"good"
    assert victim.sidecar.metric("sidecar_requests_total", flag="UO", code="503") - before == 2000
    for client in held:
        client.close()
    victim.check_nothing_is_left()


# --- nobody answers, nobody asks any more --------------------------------------------------------------------------


def test_nothing_is_left_of_requests_that_nobody_answers_or_awaits(victim: Victim) -> None:
    """An upstream that never answers, and clients that reset, that close, and that wait until `limits.idle_timeout`."""
    clients = [victim.client() for _ in range(60)]
    for number, client in enumerate(clients):
        client.get(f"/{number}", host="evil", method="POST", body=b"x" * (number * 1000))
    servers = [victim.upstream.accept() for _ in clients]
    for server in servers:
        server.request()
    for client in clients[:20]:
        client.reset()
    for client in clients[20:40]:
        client.close()
    assert victim.is_serving()
    for client in clients[40:]:
        assert client.response().status == 504
        client.close()
    for server in servers:
        assert server.is_ended()
        server.close()
    victim.check_nothing_is_left()


def test_nothing_is_left_of_clients_that_do_not_read(victim: Victim) -> None:
    """30 downloads of 64 MiB that nobody reads are cut after `limits.idle_timeout`."""
    clients = [Client(victim.sidecar.outbound_port, receive_buffer=16384) for _ in range(30)]
    for client in clients:
        client.get("/large", host="evil")
    servers = [victim.upstream.accept() for _ in clients]
    for server in servers:
        server.request()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
    senders = [threading.Thread(target=_send_until_cut, args=(server, 64 << 20), daemon=True) for server in servers]
    for sender in senders:
        sender.start()
    assert victim.is_serving()
    for sender in senders:
        sender.join(20)
        assert not sender.is_alive()
    for client in clients:
        client.close()
    victim.check_nothing_is_left()


def _send_until_cut(stream: Stream, size: int) -> None:
    stream.sock.settimeout(20)
    try:
        for _ in range(size // 65536):
            stream.sock.sendall(b"x" * 65536)
    except OSError:
        pass
    stream.close()


def test_nothing_is_left_of_tunnels_that_are_abandoned(victim: Victim) -> None:
    """CONNECT and Upgrade, left by either side or by nobody."""
    connect = b"CONNECT evil:80 HTTP/1.1\r\nHost: evil:80\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nHost: evil\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    pairs: list[tuple[Client, Stream]] = []
    for number in range(40):
        client = victim.client()
        client.send(connect if number % 2 else upgrade)
        server = victim.upstream.accept()
        if not number % 2:
            server.request()
            server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.head().status == (200 if number % 2 else 101)
        client.send(b"hi")
        assert server.read_exactly(2) == b"hi"
        pairs.append((client, server))
    for number, (client, server) in enumerate(pairs):
        (client.reset, server.reset, client.close, server.close, client.finish_sending)[number % 5]()
    for client, server in pairs:
        for end in (client, server):
            if end.sock.fileno() >= 0:
                end.read_to_end()
                end.close()
    victim.check_nothing_is_left()


# --- noise ---------------------------------------------------------------------------------------------------------

SEEDS = (
    b"GET / HTTP/1.1\r\nHost: good\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: good\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: good\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b'GET http://good/a?b HTTP/1.1\r\nHost: good\r\nCookie: a=b; c="d"\r\nConnection: x, close\r\nX: y\r\n\r\n',
    b"CONNECT good:80 HTTP/1.1\r\nHost: good:80\r\n\r\nGET / HTTP/1.1\r\nHost: good\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: good\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nVia: 1.1 x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x00\xff",
)
_BYTES = (b"\r", b"\n", b"\r\n", b"\x00", b" ", b":", b"\t", b"\xff", b"chunked", b"0", b"-1", b"Content-Length: 3\r\n")


def mutate(source: random.Random, data: bytes) -> bytes:
    """One to four edits: octets changed, parts dropped, repeated, moved, and words of the protocol put in."""
    for _ in range(source.randint(1, 4)):
        at, end = sorted((source.randrange(len(data) + 1), source.randrange(len(data) + 1)))
        kind = source.randrange(6)
        if kind == 0:
            data = data[:at] + bytes([source.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:end] + data[at:end] + data[end:]
        elif kind == 3:
            data = data[:at] + source.choice(_BYTES) + data[at:]
        elif kind == 4:
            data = data[:at] + source.randbytes(source.randint(1, 40)) + data[at:]
        else:
            data = data[end:] + data[:end]
        data = data or b"x"
    return data


def test_noise_from_clients_is_answered_or_refused(victim: Victim) -> None:
    """3,000 damaged requests, cut anywhere: each ends, with a good answer or with one that says what is wrong."""
    statuses: dict[int, int] = {}

    def attack(number: int) -> int:
        source = random.Random(f"client {number}")
        data = mutate(source, source.choice(SEEDS))
        cut = source.randrange(len(data) + 1)
        with victim.client() as client:
            try:
                client.send(data[:cut])
                client.send(data[cut:])
                client.finish_sending()
                head = client.read_until(b"\r\n\r\n")
                client.read_to_end()
            except CutError as error:
                return -1 if error.received else 0
            except OSError:
                return 0
        return int(head.split(b" ")[1])

    with ThreadPoolExecutor(8) as pool:
        for status in pool.map(attack, range(3000)):
            statuses[status] = statuses.get(status, 0) + 1
    assert set(statuses) <= {0, 100, 101, 200, 400, 404, 405, 408, 414, 431, 501, 502, 503, 505}, statuses
    assert statuses[400] > 500
    assert statuses[200] > 50
    victim.check_nothing_is_left()


def test_noise_from_upstreams_is_answered_for(victim: Victim) -> None:
    """1,500 damaged responses: each client gets a whole answer or sees a cut."""
    stop = threading.Event()
    serial = iter(range(1 << 30))

    def serve() -> None:
        while not stop.is_set():
            server = victim.upstream.accept()
            source = random.Random(f"server {next(serial)}")
            try:
                server.head()
                server.send(mutate(source, source.choice(ANSWERS)))
            except (OSError, CutError):
                pass
            server.reset() if source.random() < 0.3 else server.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def ask(number: int) -> int:
        fields = "Connection: upgrade, close\r\nUpgrade: websocket\r\n" if number % 3 == 0 else "Connection: close\r\n"
        with victim.client() as client:
            client.get(f"/{number}", host="evil", fields=fields)
            try:
                while (status := client.response().status) in (100, 102, 103):
                    pass
            except CutError:
                return 0
            return status

    statuses: dict[int, int] = {}
    with ThreadPoolExecutor(4) as pool:
        for status in pool.map(ask, range(1500)):
            statuses[status] = statuses.get(status, 0) + 1
    assert set(statuses) >= {0, 101, 200, 204, 502, 503}, statuses
    assert statuses[502] > 200, statuses
    stop.set()
    socket.create_connection(("127.0.0.1", victim.upstream.port)).close()  # wakes the thread
    thread.join(10)
    assert not thread.is_alive()
    victim.check_nothing_is_left()


def test_it_still_ends_in_an_orderly_way(tmp_path: Path) -> None:
    """SIGTERM in the middle of an attack: exit code 0, no traceback."""
    with Origin("good") as origin:
        text = f"""
            service: x
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{origin.port}"}}
            drain: {{timeout: 1s}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            clients = [Client(sidecar.inbound_port) for _ in range(200)]
            for number, client in enumerate(clients):
                client.send(SEEDS[number % len(SEEDS)][: number % 40])
            assert sidecar.stop() == 0
            for client in clients:
                client.close()
