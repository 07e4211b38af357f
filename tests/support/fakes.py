"""
A whole data path without sockets: real connections, routes, pool and telemetry between peers that the test plays.

A test is a conversation. `client >> data` is what the client sends; `client << data` is what it must have received
since it was last asked; the same for a `Server`. What differs from run to run (ids) and what every message carries
(`via`, `x-forwarded-proto`) is left out before comparing:

    client = world.client()
    client >> b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
    server = world.accept()
    server << b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
    server >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    client << b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Only the dialer is a fake (`Dials`): a test accepts or refuses each dial itself. The clock stands still but for
`world.advance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import h11

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Decision, Direction, Exchange
from sidecar.net.splicing_reader import SplicingReader
from sidecar.net.timers import Timers
from sidecar.net.tls.settings import ListenerTls
from sidecar.peer import Peer as SecuredPeer
from sidecar.proxy.client.accept import protocol_factory
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.exchange.policies import Fault, Mirror, RateLimiter
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.plan import Captured, Limits, Plan, Side, Streams, make_listener
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.proxy.server.http2 import Http2ServerConnection
from sidecar.proxy.server.state import State
from sidecar.routing.actions import Action, Forward, HeaderEdits, Rewrite, Route, Target
from sidecar.routing.match import make_match
from sidecar.routing.table import Table
from sidecar.security.authorization.authorization import Authorization
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream import pool, shared
from sidecar.upstream.balance.algorithms import Policy
from sidecar.upstream.captured import CapturedApp
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import DEFAULT_BUDGET, RetryBudgetSpec
from sidecar.upstream.passthrough import Passthrough
from sidecar.upstream.retry import RetryPolicy

DEFAULT_UPGRADES = frozenset((b"websocket",))
_MAX_READ_BYTES = 256 * 1024
_MAX_EXPOSED_BYTES = 16 * 1024
_NOISE = re.compile(
    rb"(?<=\r\n)(?:traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]|x-request-id: [0-9a-f-]{16,36}"
    rb"|x-forwarded-proto: http|via: (?:1\.[01]|2) sidecar"
    rb"|date: [^\r\n]+)\r\n"
)


class FakeLoop:
    """What the data path asks of an event loop; counts what must not happen for a request."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.counts: dict[str, int] = {}
        self.ready: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self.timed: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def time(self) -> float:
        return self.now

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """As `call_soon`, for the fakes' own purposes: not counted."""
        self.ready.append((callback, args))

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self._count("call_soon")
        self.soon(callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> FakeHandle:
        return self.call_at(self.now + delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> FakeHandle:
        self._count("call_at")
        entry = (when, callback, args)
        self.timed.append(entry)
        return FakeHandle(self, entry)

    def create_task(self, coroutine: Any) -> None:
        self._count("create_task")
        raise AssertionError("no task may be made here")

    def create_future(self) -> None:
        self._count("create_future")
        raise AssertionError("no future may be made here")

    def run(self) -> None:
        """Run what is ready, and what becomes ready meanwhile."""
        for _ in range(1_000_000):
            if not self.ready:
                return
            callback, args = self.ready.popleft()
            callback(*args)
        raise AssertionError("the loop never comes to rest")

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timed and (due := min(self.timed, key=lambda entry: entry[0]))[0] <= end:
            self.timed.remove(due)
            self.now = max(self.now, due[0])
            due[1](*due[2])
            self.run()
        self.now = end


class FakeHandle:
    """Cancels a timer of the fake loop."""

    def __init__(self, loop: FakeLoop, entry: tuple[float, Callable[..., object], tuple[object, ...]]) -> None:
        self.loop, self.entry = loop, entry

    def cancel(self) -> None:
        if self.entry in self.loop.timed:
            self.loop.timed.remove(self.entry)


class LedSocket:
    """A socket whose connection the kernel has led here: it says where it was meant to go."""

    family = socket.AF_INET

    def __init__(self, inner: socket.socket, destination: tuple[str, int]) -> None:
        self._inner = inner
        self._destination = destination

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 15001)

    def getsockopt(self, level: int, name: int, size: int = 0) -> Any:
        if (level, name) != (socket.IPPROTO_IP, 80):
            return self._inner.getsockopt(level, name, size)
        host, port = self._destination
        return struct.pack("!2xH4s8x", port, socket.inet_aton(host))


class FakeTransport(asyncio.Transport):
    """
    A socket's transport with uvloop's manners: nothing is delivered while reading is paused or once it closes, a close
    waits for what is unsent, `connection_lost` comes once and in a later turn of the loop.

    Attributes:
        writes: Each `write`, in order.
        unsent: Bytes that the peer has not read; grows only while `is_peer_slow`.
        ended: How our side ended it: `close`, `abort`, or empty.
        is_eof_written: Whether our side half-closed it.
        is_lost: Whether `connection_lost` was called.
    """

    def __init__(self, loop: FakeLoop, protocol: asyncio.Protocol, peername: object) -> None:
        super().__init__()
        self.loop, self.protocol, self.peername = loop, protocol, peername
        self.first_protocol = protocol
        self.writes: list[bytes | memoryview] = []
        self.log: list[str] = []
        self.unsent = 0
        self.ended = ""
        self.is_peer_slow = self.is_eof_written = self.is_lost = False
        self.is_reading_paused = self.is_writing_paused = False
        self.is_kernel_full = False
        self._closing = False
        self._high = self._low = 0
        self._incoming: deque[bytes] = deque()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._exposed = 0
        self.destination: tuple[str, int] | None = None

    # what the data path uses

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self.peername
        if name == "socket":
            if self._sockets is None:
                self._sockets = socket.socketpair()
                self._expose()
            if self.is_kernel_full:
                self._sockets[1].send(b"x")
            return self._sockets[0] if self.destination is None else LedSocket(self._sockets[0], self.destination)
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high, self._low = high or 0, low or 0
        if self.unsent > self._high and not self.is_writing_paused:
            self.is_writing_paused = True
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert isinstance(data, bytes | memoryview)
        assert data, "an empty write is a wasted call"
        assert not self.is_eof_written, "a write behind our own end of file"
        if self._closing:
            return
        # What cannot be sent yet stays where it is: whoever wrote memory may not touch it until it was sent.
        self.writes.append(data if self.is_peer_slow else bytes(data))
        if self.is_peer_slow:
            self.unsent += len(data)
            if self.unsent > self._high and not self.is_writing_paused:
                self.is_writing_paused = True
                self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_eof_written = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.ended = "close"
            if not self.unsent:
                self.loop.soon(self.lose, None)

    def abort(self) -> None:
        self._closing = True
        self.ended = "abort"
        self.unsent = 0
        self.loop.soon(self.lose, None)

    def pause_reading(self) -> None:
        assert not self._closing
        self.is_reading_paused = True
        self.log.append("pause")

    def resume_reading(self) -> None:
        assert not self._closing
        self.is_reading_paused = False
        self.log.append("resume")
        self.loop.soon(self._deliver)

    # what the test does

    def arrive(self, data: bytes) -> None:
        """Bytes come from the peer; an empty one is its end of file."""
        if not data:
            self._incoming.append(b"")
        for start in range(0, len(data), _MAX_READ_BYTES):
            self._incoming.append(data[start : start + _MAX_READ_BYTES])
        self._deliver()

    def _expose(self) -> None:
        """Let whoever asks the kernel find what has not been delivered, or the beginning of it."""
        if self._sockets is not None and self._incoming and not self.is_lost:
            if data := self._incoming[0][:_MAX_EXPOSED_BYTES]:
                self._exposed = self._sockets[1].send(data)
            else:
                self._sockets[1].shutdown(socket.SHUT_WR)

    def be_reset(self) -> None:
        """The kernel comes to know that the peer is gone, of which the transport hears nothing."""
        ours = self.get_extra_info("socket")
        ours.send(b"x")
        assert self._sockets is not None
        self._sockets[1].close()

    def unread(self, data: bytes) -> None:
        """The kernel has it from the peer, and the transport has not come to read it."""
        self.get_extra_info("socket")
        assert self._sockets is not None
        self._sockets[1].send(data)

    def _conceal(self) -> None:
        """Take it back, but for what was read from the kernel meanwhile."""
        if self._sockets is not None and self._exposed:
            left = self._exposed
            with contextlib.suppress(BlockingIOError):
                while left:
                    left -= len(self._sockets[0].recv(left, socket.MSG_DONTWAIT))
            data = self._incoming.popleft()[left:]
            if data:
                self._incoming.appendleft(data)
            self._exposed = 0

    def _deliver(self) -> None:
        self._conceal()
        self._deliver_all()
        self._expose()

    def _deliver_all(self) -> None:
        while self._incoming and not self.is_reading_paused and not self._closing and not self.is_lost:
            data = self._incoming.popleft()
            if isinstance(self.protocol, SplicingReader):
                self._deliver_into_memory(self.protocol, data)
            elif data:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def _deliver_into_memory(self, protocol: SplicingReader, data: bytes) -> None:
        """As `asyncio.BufferedProtocol` is served; whoever looks at the memory later finds it written over."""
        if not data:
            if not protocol.eof_received():
                self.close()
            return
        memory = protocol.get_buffer(-1)
        size = min(len(data), len(memory))
        if data[size:]:
            self._incoming.appendleft(data[size:])
        memory[:size] = data[:size]
        protocol.buffer_updated(size)
        memory[:size] = bytes(size)

    def take_undelivered(self, limit: int) -> bytes:
        """What the kernel has and nobody has read, as far as the end of file."""
        data = b""
        while self._incoming and self._incoming[0] and len(data) < limit:
            piece = self._incoming.popleft()
            fits = limit - len(data)
            data += piece[:fits]
            if piece[fits:]:
                self._incoming.appendleft(piece[fits:])
        return data

    @property
    def has_undelivered(self) -> bool:
        return bool(self._incoming)

    def peer_reads(self, size: int | None = None) -> None:
        """The peer takes what is unsent, or so many bytes of it."""
        self.unsent = 0 if size is None else max(self.unsent - size, 0)
        if self.is_writing_paused and self.unsent <= self._low:
            self.is_writing_paused = False
            self.protocol.resume_writing()
        if self._closing and not self.unsent and self.ended == "close":
            self.loop.soon(self.lose, None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = self._closing = True
            self.protocol.connection_lost(error)

    def dispose(self) -> None:
        for end in self._sockets or ():
            end.close()


class FakeSplicer:
    """
    As `net.splice.SplicePipe`, between fake transports.

    Attributes:
        sizes: Of each piece that was spliced.
        error: Raised instead: the source has failed.
    """

    def __init__(self) -> None:
        self.is_supported = True
        self.sizes: list[int] = []
        self.error: OSError | None = None

    def splice(self, first: bytes, source: asyncio.Transport, target: asyncio.Transport, limit: int) -> int:
        assert isinstance(source, FakeTransport)
        assert not target.get_write_buffer_size()
        if self.error is not None:
            target.write(first)
            raise self.error
        data = source.take_undelivered(limit)
        if data:
            self.sizes.append(len(data))
        target.write(first + data)
        return len(data)


class Peer:
    """One end of a connection, played by the test."""

    def __init__(self, world: World, transport: FakeTransport, name: str) -> None:
        self.world, self.transport, self.name = world, transport, name
        self._seen = 0

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __rshift__(self, data: bytes) -> Peer:
        """Send, and let everything that follows from it happen."""
        self.transport.arrive(data)
        self.world.loop.run()
        return self

    def __lshift__(self, expected: bytes) -> Peer:
        """Compare with all that came since the last time, but for the noise."""
        assert _readable(self.take()) == _readable(expected), self.name
        return self

    @property
    def received(self) -> bytes:
        """All that ever came."""
        return b"".join(self.transport.writes)

    def take(self) -> bytes:
        """What came since it was last asked, without the noise."""
        return _NOISE.sub(b"", self.take_raw())

    def take_raw(self) -> bytes:
        """What came since it was last asked."""
        writes = self.transport.writes[self._seen :]
        self._seen = len(self.transport.writes)
        return b"".join(writes)

    def eof(self) -> None:
        """Half-close."""
        self.transport.arrive(b"")
        self.world.loop.run()

    def leave(self, error: Exception | None = None) -> None:
        """Close, or reset if there is an error."""
        self.transport.lose(error)
        self.world.loop.run()

    def reset(self) -> None:
        self.leave(ConnectionResetError(104, "Connection reset by peer"))

    def stop_reading(self) -> None:
        self.transport.is_peer_slow = True

    def read(self, size: int | None = None) -> None:
        """Take what is unsent; all of it and whatever comes, or so many bytes."""
        if size is None:
            self.transport.is_peer_slow = False
        self.transport.peer_reads(size)
        self.world.loop.run()

    @property
    def is_open(self) -> bool:
        return not self.transport.is_closing() and not self.transport.is_lost

    @property
    def is_paused(self) -> bool:
        return self.transport.is_reading_paused


class Client(Peer):
    """A client of the proxy."""

    @property
    def is_open(self) -> bool:
        """Whether the proxy has neither closed the connection nor ended its side, behind which it only lingers."""
        return super().is_open and not self.transport.is_eof_written

    @property
    def connection(self) -> ClientConnection:
        protocol = self.transport.first_protocol
        assert isinstance(protocol, ClientConnection)
        return protocol

    def get(self, path: bytes = b"/", host: bytes = b"web", *lines: bytes) -> None:
        """Send a GET."""
        _ = self >> b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: " + host, *lines, b"", b""))

    def responses(self, *methods: bytes) -> list[Response]:
        """All responses so far as h11 reads them; `methods` of the requests, GET where none is given."""
        return parse_responses(self.received, methods, is_closed=not self.is_open or self.transport.is_eof_written)


class Server(Peer):
    """One connection that the proxy opened."""

    @property
    def connection(self) -> ServerConnection:
        protocol = self.transport.first_protocol
        assert isinstance(protocol, ServerConnection)
        return protocol

    @property
    def endpoint(self) -> Endpoint:
        return self.connection.endpoint


@dataclass
class Dial:
    """A connect that is under way."""

    endpoint: Endpoint
    on_connected: Callable[[Any], None]
    on_failed: Callable[[Reason, str], None]
    is_shared: bool = False


class Dials:
    """In the dialer's place: notes what is dialed; the test decides what comes of it."""

    def __init__(self, loop: FakeLoop, timers: Timers) -> None:
        self.loop = loop
        self.timers = timers
        self.under_way: list[Dial] = []
        self.count = 0

    def later(self, delay_s: float, action: Callable[[], None]) -> FakeHandle:
        return self.loop.call_later(delay_s, action)

    def dial(self, endpoint: Endpoint) -> None:
        self._add(Dial(endpoint, pool.connected, lambda reason, detail: pool.failed(endpoint, reason, detail)))

    def dial_shared(self, endpoint: Endpoint) -> None:
        one = shared.of(endpoint, self.dial_shared)
        self._add(Dial(endpoint, one.connected, partial(one.failed, endpoint), is_shared=True))

    def dial_tunnel(self, endpoint: Endpoint, waiter: pool.Waiter) -> None:
        def on_connected(connection: ServerConnection) -> None:
            endpoint.cluster.stats.connections_opened += 1
            waiter.on_connection(connection)

        def on_failed(reason: Reason, detail: str) -> None:
            pool.forgo(endpoint)
            waiter.on_connect_failed(reason, detail)

        self._add(Dial(endpoint, on_connected, on_failed))

    def _add(self, dial: Dial) -> None:
        self.count += 1
        self.under_way.append(dial)


class NotingTelemetry:
    """The real thing inside, and what it was told; `exports` makes it take every exchange for one to export."""

    def __init__(self) -> None:
        self.inner = Telemetry(TelemetrySettings(service_name="test"), environment={})
        self.begun: list[Exchange] = []
        self.exports = False
        self.recorded: list[Exchange] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def begin(self, exchange: Exchange) -> bytes:
        self.begun.append(exchange)
        lines = self.inner.begin(exchange)
        exchange.sampled = exchange.sampled or self.exports
        return lines

    def record(self, exchange: Exchange) -> None:
        assert not any(exchange is other for other in self.recorded), "recorded twice"
        if not exchange.trace_id:
            self.begun.append(exchange)  # by itself
        self.inner.record(exchange)
        self.recorded.append(exchange)

    def judged(self, exchange: Exchange, decision: Decision) -> None:
        self.inner.judged(exchange, decision)

    def connection_opened(self, direction: Direction) -> None:
        self.inner.connection_opened(direction)

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        self.inner.connection_closed(direction, lasted_ns)

    def detected(self, direction: Direction, protocol: str, *, has_waited: bool) -> None:
        self.inner.detected(direction, protocol, has_waited=has_waited)

    def connected(self, upstream: str, took_ns: int) -> None:
        self.inner.connected(upstream, took_ns)

    def secured(self, peer: SecuredPeer, *, is_client: bool) -> None:
        self.inner.secured(peer, is_client=is_client)

    def not_secured(self, reason: Reason, *, is_client: bool) -> None:
        self.inner.not_secured(reason, is_client=is_client)


LIMITS = Limits(
    max_header_bytes=8192, max_headers=64, max_connections=1000, header_timeout_s=10.0, idle_timeout_s=300.0,
    client_idle_timeout_s=300.0, stream_idle_timeout_s=300.0, tunnel_idle_timeout_s=300.0,
)  # fmt: skip


def mirrors_of(made: Mirror | tuple[Mirror, ...]) -> tuple[Mirror, ...]:
    """One or several."""
    return (made,) if isinstance(made, Mirror) else made


class World:
    """
    One plan, one loop, and everybody in it.

    Args:
        endpoints: Of the upstream `web`, chosen in turn from the first on.
        timeout_s: Of the route to it.
        upgrades: What a request may switch to at it.
        drops_underscored: As the plan's sides.
        action: Another action than forwarding to `web`.
        retry, fault, rate_limit: Of the route.
        mirror: Makes the route's mirror, or its mirrors, of the upstream `shadow`, which has one endpoint, 10.9.9.9:80.
        breaker, retry_budget, outlier: Of the upstream `web`.
        shadow_breaker: Of `shadow`.
        policy: By which `web` is balanced.
        splices: Whether the kernel can.
        authorization: Of the direction's side.
        listener_tls: Of the listener.
        protocol: That of `web`.
        captures: Whether connections are led to it; those of inbound listeners then to `web` as the app.
        is_denied: Of captured ones, what nothing names.
    """

    def __init__(
        self,
        *,
        endpoints: Sequence[str] = ("10.0.0.1:80",),
        direction: Direction = Direction.OUTBOUND,
        limits: Limits = LIMITS,
        timeout_s: float | None = None,
        rewrite: Rewrite | None = None,
        request_edits: HeaderEdits | None = None,
        response_edits: HeaderEdits | None = None,
        action: Action | None = None,
        is_passthrough: bool = False,
        listener_host: bytes | None = None,
        retry: RetryPolicy | None = None,
        fault: Fault | None = None,
        rate_limit: RateLimiter | None = None,
        mirror: Callable[[Cluster], Mirror | tuple[Mirror, ...]] | None = None,
        breaker: BreakerSpec | None = None,
        retry_budget: RetryBudgetSpec | None = DEFAULT_BUDGET,
        outlier: OutlierSpec | None = None,
        shadow_breaker: BreakerSpec | None = None,
        policy: Policy = "round_robin",
        upgrades: frozenset[bytes] = DEFAULT_UPGRADES,
        drops_underscored: bool = False,
        splices: bool = True,
        authorization: Authorization | None = None,
        listener_tls: ListenerTls | None = None,
        captures: bool = False,
        is_denied: bool = False,
        protocol: str = "http1",
    ) -> None:
        self.loop = FakeLoop()
        asyncio._set_running_loop(self.loop)  # type: ignore[arg-type]
        self.timers = Timers(self.loop)  # type: ignore[arg-type]
        self.telemetry = NotingTelemetry()
        spec = ClusterSpec(
            "web",
            tuple((address, 1.0) for address in endpoints),
            policy=policy,
            breaker=breaker,
            retry_budget=retry_budget,
            outlier=outlier,
            protocol=protocol,
        )
        self.cluster = Cluster(spec, lambda: 0.0)
        self.mirrors: tuple[Mirror, ...] = ()
        self.shadow = Cluster(ClusterSpec("shadow", (("10.9.9.9:80", 1.0),), breaker=shadow_breaker, protocol="http1"))
        if mirror is not None:
            self.mirrors = mirrors_of(mirror(self.shadow))
        scope = self.telemetry.scope(direction, "to-web", "web", "web")
        forward = Forward(
            (Target("web", self.cluster, 1.0, request_edits, response_edits, scope, rewrite),),
            None,
            timeout_s,
            retry=retry,
            fault=fault,
            mirrors=self.mirrors,
            rate_limit=rate_limit,
            upgrades=upgrades,
        )
        route = Route("to-web", (make_match(hosts=["web"]),), action or forward, scope, response_edits)
        self.passthrough = Passthrough()
        passing = Route(
            "passthrough",
            (),
            Forward((Target("passthrough", self.passthrough.cluster, 1.0, None, None, scope),)),
            scope,
        )
        captured: Captured | None = None
        if captures and direction is Direction.INBOUND:
            captured = Captured(app=CapturedApp(self.cluster))
        elif captures:
            captured = Captured(None if is_denied else passing, self.passthrough)
        sides = tuple(
            Side(
                side,
                Table([route] if side is direction else []),
                route if captures and side is Direction.INBOUND else None,
                self.passthrough if is_passthrough else None,
                passing if is_passthrough else None,
                self.telemetry.scope(side, "", "", ""),
                drops_underscored=drops_underscored,
                authorization=authorization if side is direction else None,
                captured=captured,
                streams=Streams(Table([route]), {}) if side is Direction.OUTBOUND else None,
            )
            for side in Direction
        )
        side_of = {side.direction.label: side for side in sides}
        self.plan = Plan(1, "0" * 12, (sides[0], sides[1]), side_of, (), {"web": self.cluster}, limits, 20.0)
        self.splicer = FakeSplicer()
        splicer = self.splicer if splices else None
        self.live = Live(self.plan, self.telemetry, self.timers, self.loop, splicer=splicer)  # type: ignore[arg-type]
        self.dials = Dials(self.loop, self.timers)
        self.live.dialer = self.dials  # type: ignore[assignment]
        listener = make_listener(
            direction, "127.0.0.1:15001", direction.label, listener_host, listener_tls, captures=captures
        )
        self.listener_state = ListenerState(listener)
        self.clients: list[Client] = []
        self.servers: list[Server] = []
        self.timers.start()
        if spec.needs_ticks:
            self.timers.every(1.0, lambda: self.cluster.tick(self.loop.now))
        self.loop.counts.clear()

    def close(self) -> None:
        """Give back what the operating system lent."""
        asyncio._set_running_loop(None)
        for peer in (*self.clients, *self.servers):
            peer.transport.dispose()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    # --- peers -----------------------------------------------------------------------------------------------

    def client(self, to: tuple[str, int] | None = None) -> Client:
        """A client connects; to this address, if it is led here."""
        protocol = protocol_factory(self.live, self.listener_state)()
        transport = FakeTransport(self.loop, protocol, ("192.0.2.1", 40000 + len(self.clients)))
        transport.destination = to
        client = Client(self, transport, f"client {len(self.clients)}")
        self.clients.append(client)
        protocol.connection_made(transport)
        self.loop.run()
        return client

    def accept(self, at: str | None = None, *, is_slow: bool = False) -> Server:
        """The oldest dial (to this address) succeeds; by HTTP/2 that is known once the server has said its settings."""
        dial = self._take_dial(at)
        protocol: Any
        if dial.is_shared:
            protocol = Http2ServerConnection(
                dial.endpoint, self.timers, self.live.outbox, dial.on_connected, dial.on_failed
            )
        else:
            protocol = ServerConnection(dial.endpoint, self.timers, self.live.outbox, dial.on_connected)
        peer = (dial.endpoint.host, dial.endpoint.port)
        transport = FakeTransport(self.loop, cast("asyncio.Protocol", protocol), peer)
        transport.is_peer_slow = is_slow
        server = Server(self, transport, f"server {len(self.servers)}")
        self.servers.append(server)
        protocol.connection_made(transport)
        self.loop.run()
        return server

    def refuse(self, reason: Reason = errors.CONNECT_FAILED, detail: str = "refused", *, at: str | None = None) -> None:
        """The oldest dial (to this address) fails."""
        dial = self._take_dial(at)
        dial.on_failed(reason, detail)
        self.loop.run()

    def _take_dial(self, at: str | None) -> Dial:
        dial = next(dial for dial in self.dials.under_way if at is None or dial.endpoint.label == at)
        self.dials.under_way.remove(dial)
        return dial

    @property
    def dialed(self) -> list[str]:
        """Where dials are under way, oldest first."""
        return [dial.endpoint.label for dial in self.dials.under_way]

    def warm(self, client: Client | None = None) -> tuple[Client, Server]:
        """A client whose first request was answered, and the connection that waits in the pool since."""
        client = client or self.client()
        client.get()
        server = self.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        client.take()
        server.take()
        return client, server

    def advance(self, seconds: float) -> None:
        """Move the clock on, with every tick on the way."""
        self.loop.advance(seconds)

    # --- what must hold --------------------------------------------------------------------------------------

    @property
    def recorded(self) -> list[Exchange]:
        return self.telemetry.recorded

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        mirrored = [mirror.upstream for mirror in self.mirrors if mirror.upstream is not self.shadow]
        return (self.cluster, self.passthrough.cluster, self.shadow, *mirrored)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for cluster in self.clusters for endpoint in cluster.endpoints)

    def outcome(self) -> tuple[int, str]:
        """Status and reason of the one exchange that was recorded."""
        (exchange,) = self.recorded
        return exchange.status, exchange.reason.name if exchange.reason else ""

    def outcome_of_last(self) -> tuple[int, str]:
        """The same of the exchange that was recorded last."""
        exchange = self.recorded[-1]
        return exchange.status, exchange.reason.name if exchange.reason else ""

    def assert_at_rest(self) -> None:
        """Nothing is in flight: every exchange was recorded, every count is back, no connection is lost from sight."""
        assert {id(exchange) for exchange in self.telemetry.begun} == {id(exchange) for exchange in self.recorded}
        for endpoint in self.endpoints:
            assert endpoint.active == 0, endpoint
            assert endpoint.connecting == sum(dial.endpoint is endpoint for dial in self.dials.under_way), endpoint
            for idle in endpoint.idle:
                assert isinstance(idle, ServerConnection)
                assert idle.state is State.IDLE
                assert idle.sink is None
        for cluster in self.clusters:
            assert cluster.stats.requests_active == 0
            assert cluster.stats.pending == 0
            if cluster.breaker is not None:
                assert (cluster.breaker.requests, cluster.breaker.retries) == (0, 0), cluster.breaker
        idle_now = {id(idle) for endpoint in self.endpoints for idle in endpoint.idle}
        for server in self.servers:
            assert (id(server.connection) in idle_now) == server.is_open, server.connection
        opened = sum(cluster.stats.connections_opened for cluster in self.clusters)
        closed = sum(cluster.stats.connections_closed for cluster in self.clusters)
        assert opened - closed == len(idle_now)
        for endpoint in self.endpoints:
            assert endpoint.connections == len(endpoint.idle) + endpoint.connecting, endpoint
        connected = {id(connection) for side in self.live.connections for connection in side}
        for client in self.clients:
            assert (id(client.transport.protocol) in connected) == (not client.transport.is_lost), client.connection


@dataclass
class Response:
    """A response as the oracle read it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    is_complete: bool = True


def parse_responses(data: bytes, methods: Sequence[bytes] = (), *, is_closed: bool = False) -> list[Response]:
    """
    Read responses with h11, which must accept every byte.

    Args:
        methods: Of the requests, in order; GET for those that are missing.
        is_closed: Whether the connection ended behind the data.
    """
    found: list[Response] = []
    rest, number = data, 0
    while rest:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        method = methods[number] if number < len(methods) else b"GET"
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(rest)
        if is_closed:
            connection.receive_data(b"")
        response: Response | None = None
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                if is_closed and "peer closed connection" in str(error):
                    return found
                raise
            if isinstance(event, h11.InformationalResponse):
                found.append(Response(event.status_code, dict(event.headers), b""))
            elif isinstance(event, h11.Response):
                response = Response(event.status_code, dict(event.headers), b"", is_complete=False)
                found.append(response)
            elif isinstance(event, h11.Data):
                assert response is not None
                response.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                response.is_complete = True
                break
            else:
                return found
        rest = connection.trailing_data[0]
        number += 1
    return found


def _readable(data: bytes) -> list[str]:
    """Lines, so that a mismatch is shown as a difference of lines."""
    return data.decode("latin-1").replace("\r\n", "\\r\\n\n").split("\n")
