"""
A whole data path between transports that cost next to nothing: what the figures and counts of a request are taken on.

The plan is compiled from a file like the one that `benchmarks/compare.py` gives the sidecar, and requests have the
shape of `benchmarks/load.lua`: 20 routes of which the last two match, cookie and weighted routing, eight browser-like
headers with a cookie and a target of each user's own. Nothing inside is replaced but what touches the network: the loop
only keeps what `call_soon` gives it, transports keep the last write, and dials succeed at once. Sinks drop the log
lines and spans that they are given.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from benchmarks.harness.tls_certificates import CLIENT, spiffe
from benchmarks.harness.tls_sidecar import authorization
from sidecar.compile.plan import Compiler
from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.net.timers import Timers
from sidecar.peer import Peer
from sidecar.proxy.client.accept import protocol_factory
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.plan import Plan
from sidecar.proxy.recent import Recent
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.proxy.server.http2 import Http2ServerConnection
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.shared import Shared
from tests.support.compiling import compiled

USERS = 10_000
_OUTBOUND = "outbound:\n  listen: 127.0.0.1:15001\n"
_INBOUND = "inbound:\n  listen: 127.0.0.1:15006\n  app: 127.0.0.1:9001\n"
_CONFIG = """\
service: storefront
%s\
  routes:
%s
    - name: beta-users
      match: {host: recommendations, path: {prefix: /v1}, cookies: {BETA_USER: "true"}}
      to: beta
    - name: canary
      match: {host: recommendations, path: {prefix: /v1}}
      to: {v1: 95, beta: 5}
upstreams:
  v1: {endpoints: ["127.0.0.1:9001"]%s}
  beta: {endpoints: ["127.0.0.1:9002"]%s}
telemetry:
%s
limits: {max_connections: 20000}
"""
_SERVICE = "    - {name: service-%02d, match: {host: recommendations, path: {prefix: /service-%02d}}, to: v1}"
_SPANS = '  traces: {otlp_endpoint: "http://127.0.0.1:4318", sample: 1.0}\n'
_LOG, _NO_LOG = "  access_log: {path: /dev/null, format: json}\n", "  access_log: {format: off}\n"
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
)
_LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9,en-US;q=0.8", "en-GB,en;q=0.9")
_RESPONSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 06:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\nx-version: v1\r\n\r\n"
)
RESPONSE = _RESPONSE_HEAD % 1024 + b"x" * 1024


def requests(users: int = USERS, seed: int = 1) -> list[bytes]:
    """A GET for each user, a tenth of them beta users, as `benchmarks/load.lua` makes them."""
    chance = random.Random(seed)
    made = []
    for user in range(1, users + 1):
        item, session = chance.randint(1, 5000), chance.getrandbits(62)
        beta = "BETA_USER=true; " if user % 10 == 0 else ""
        lines = (
            f"GET /v1/items/{item}?user={user} HTTP/1.1",
            "Host: recommendations",
            f"User-Agent: {_AGENTS[user % len(_AGENTS)]}",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            f"Accept-Language: {_LANGUAGES[user % len(_LANGUAGES)]}",
            "Accept-Encoding: gzip, deflate, br, zstd",
            f"Referer: http://storefront/catalogue/{item % 200}",
            f"Cookie: uid=u{user:05d}; {beta}session={session:016x}; theme=dark",
            "Cache-Control: no-cache",
        )
        made.append("\r\n".join((*lines, "", "")).encode())
    return made


class Loop:
    """What the data path asks of an event loop; its clock stands still, so that the sweep of deadlines never runs."""

    def __init__(self) -> None:
        self.ready: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self.time = lambda: 5000.0

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """For the end of the turn."""
        self.ready.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        """Never: no time passes here."""

    def run(self) -> None:
        """End the turn."""
        ready = self.ready
        while ready:
            callback, args = ready.popleft()
            callback(*args)


class Transport(asyncio.Transport):
    """Takes every write at once and remembers the last; behind it a socket from which nothing comes."""

    __slots__ = ("_path", "_peer", "last", "protocol")

    def __init__(self, path: DataPath, peer: tuple[str, int], protocol: Any) -> None:
        self._path = path
        self._peer = peer
        self.protocol = protocol
        self.last = b""

    def arrive(self, data: bytes) -> None:
        """Deliver what was read."""
        self.protocol.data_received(data)

    def set_protocol(self, protocol: Any) -> None:
        """Deliver to this one from now on."""
        self.protocol = protocol

    def write(self, data: Any) -> None:
        """Remember it, and that this was the last transport written to."""
        self.last = data
        self._path.written = self

    def writelines(self, list_of_data: Any) -> None:
        """As uvloop's, which does not join them."""
        for data in list_of_data:
            self.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's address and the quiet socket."""
        return {"peername": self._peer, "socket": self._path.socket}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        """Nothing is ever buffered."""
        return 0

    def is_closing(self) -> bool:
        """Never."""
        return False

    def pause_reading(self) -> None:
        """Nobody reads here by itself."""

    def resume_reading(self) -> None:
        """Nobody reads here by itself."""


class _Dials:
    """In the dialer's place: each dial succeeds in the same turn of the loop."""

    def __init__(self, path: DataPath) -> None:
        self._path = path
        self.timers = path.timers

    def dial(self, endpoint: Endpoint) -> None:
        path = self._path

        def connect() -> None:
            connection = ServerConnection(endpoint, path.timers, path.live.outbox, pool.connected)
            connection.connection_made(Transport(path, (endpoint.host, endpoint.port), connection))

        path.loop.call_soon(connect)

    def dial_shared(self, endpoint: Endpoint) -> None:
        path = self._path

        def connected(connection: Http2ServerConnection) -> None:
            cast("Shared", endpoint.shared).connected(connection)

        def failed(reason: Reason, detail: str) -> None:
            raise AssertionError(f"{reason.name}: {detail}")

        def connect() -> None:
            connection = Http2ServerConnection(endpoint, path.timers, path.live.outbox, connected, failed)
            transport = Transport(path, (endpoint.host, endpoint.port), connection)
            connection.connection_made(transport)
            path.greet(transport)

        path.loop.call_soon(connect)


class DataPath:
    """
    One process' data path, with one client connected.

    Args:
        has_log: With a line of the access log for every request.
        has_spans: With a span for every request.
        keep: So many heads of requests are kept (`telemetry.recent_requests`).
        reads: What of them besides, as the file has it: `, headers: [accept]`.
        rules: As many rules of who may ask for what, of which the last lets the client in, before the same routes of
            requests to the app; the client is then known by a certificate, though its octets come in clear. None:
            requests from the app, whom nobody asks who it is.
        protocol: Of the servers, as the file has it.

    Attributes:
        client: The client's transport; what arrives from it is given to `client.protocol.data_received`.
        written: The transport that was last written to.
        socket: Whose readiness is asked for, which is a real system call here too.
    """

    def __init__(
        self, *, has_log: bool = True, has_spans: bool = True, rules: int | None = None, keep: int = 0,
        reads: str = "", protocol: str = "",
    ) -> None:  # fmt: skip
        told = (_LOG if has_log else _NO_LOG) + (_SPANS if has_spans else "")
        told += f"  recent_requests: {{keep: {keep}{reads}}}\n"
        self.recent = Recent()
        self.recent.configure(keep, 1 << 30)
        self.telemetry, self.plan = _compiled(told, rules, self.recent, protocol)
        self.loop = Loop()
        asyncio._set_running_loop(self.loop)  # type: ignore[arg-type]
        self.timers = Timers(self.loop)  # type: ignore[arg-type]
        self.live = Live(self.plan, self.telemetry, self.timers, self.loop)  # type: ignore[arg-type]
        self.live.dialer = _Dials(self)  # type: ignore[assignment]
        self.socket, self._other_end = socket.socketpair()
        self.written: Transport | None = None
        self._listener = ListenerState(self.plan.listeners[0])
        self._peer = None if rules is None else Peer("1.3", "TLS_AES_128_GCM_SHA256", identity=spiffe(CLIENT))
        self.client = self.connect()

    def greet(self, server: Transport) -> None:
        """A server that a connection of HTTP/2 was opened to says what it allows."""
        raise NotImplementedError

    def connect(self) -> Transport:
        """One more client."""
        protocol = protocol_factory(self.live, self._listener)()
        protocol.secured = self._peer
        transport = Transport(self, ("192.0.2.1", 40000), protocol)
        protocol.connection_made(transport)
        return transport

    def send(self, request: bytes) -> Transport:
        """A request arrives and the turn ends; returns the transport on which it went on."""
        self.client.protocol.data_received(request)
        self.loop.run()
        server = self.written
        assert server is not None
        return server

    def answer(self, server: Transport, response: bytes) -> None:
        """A response, or a part of one, arrives and the turn ends."""
        server.arrive(response)
        self.loop.run()

    def round_trip(self, request: bytes, response: bytes = RESPONSE) -> None:
        """One exchange: two turns of the loop."""
        self.answer(self.send(request), response)

    def close(self) -> None:
        """Give back what the operating system lent."""
        asyncio._set_running_loop(None)
        self.socket.close()
        self._other_end.close()


def _compiled(settings: str, rules: int | None, recent: Recent, protocol: str) -> tuple[Telemetry, Plan]:
    services = "\n".join(_SERVICE % (number, number) for number in range(1, 19))
    side = _OUTBOUND if rules is None else _INBOUND + authorization(rules)
    spoken = f", protocol: {protocol}" if protocol else ""
    text = _CONFIG % (side, services, spoken, spoken, settings)
    telemetry = Telemetry(TelemetrySettings(access_log_path=None), environment={})
    result = compiled(text, Compiler(telemetry.scope, recent))
    telemetry.reconfigure(result.telemetry)  # as a load does
    drop_what_is_told(telemetry)
    direction = Direction.OUTBOUND if rules is None else Direction.INBOUND
    # One more outbound by the name of each upstream.
    assert len(result.plan.sides[direction].table.routes) == (22 if rules is None else 20)
    return telemetry, result.plan


def drop_what_is_told(telemetry: Telemetry) -> None:
    """Let nothing gather where no thread writes or exports: each line or span takes the place of the one before."""
    for sink in (telemetry._sinks.log_file, telemetry._sinks.exporter):
        if sink is not None:
            sink._outbox._items = deque(maxlen=1)
            sink._outbox._max_bytes = 1 << 60
