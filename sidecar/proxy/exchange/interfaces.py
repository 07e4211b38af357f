"""
What a course asks of those it stands between, and they of it, as protocols. *Hot path.*

Nothing here knows a wire. The client's side of an exchange is a `ClientStream`: a connection of HTTP/1.1 for as long as
the exchange lasts, a stream of HTTP/2. The server's side is a `ServerStream`, which tells a `ResponseSink`. The calls
go down the exchange and come back up; none awaits.

Who inherits from one of them is called by a table and not by name once it is compiled (docs/compiled.md). Each states
that it has no slots, for without, who inherits would have a dictionary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Protocol

from sidecar.errors import Reason
from sidecar.exchange import Decision, Direction, Exchange
from sidecar.message import Field, RequestHead, ResponseHead
from sidecar.net.timers import Timed, Timers
from sidecar.peer import Peer
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Limits
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Waiter


class Chooser(Protocol):
    """Where the endpoints come from; `upstream.Cluster` is one."""

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """An endpoint for this request, or None."""

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """One that was not tried, if there is any, else as `choose`."""


class ResponseWriter(Protocol):
    """
    The client's side of one exchange, as far as something is sent.

    `send_response` or `send_reply` comes once, unless the client's side is reset; then `send_payload` until `is_end`.
    """

    __slots__ = ()

    def send_informational(self, request: RequestHead, head: ResponseHead, fields: list[Field]) -> None:
        """A 1xx response other than 101 to this request, with these fields in place of its own."""

    def send_response(
        self,
        request: RequestHead,
        head: ResponseHead,
        fields: list[Field],
        payload: bytes,
        is_end: bool,
        trailers: list[Field],
    ) -> None:
        """The final response's head, with these fields in place of its own, and what there is of the body."""

    def send_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the body."""

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """
        As `send_payload`, of a body of known length and not to its end, and behind those octets at most `limit` that
        the source's socket has received.

        Returns:
            How many of those; 0 if none could be sent so.

        Raises:
            OSError: The source's connection has failed.
        """

    def send_reply(
        self, request: RequestHead | None, status: int, fields: list[Field], body: bytes, *, is_last: bool
    ) -> None:
        """An answer of the proxy's own, whole; nothing can be read behind the request if `is_last`."""

    def send_switch(self, head: ResponseHead | None, fields: list[Field], protocol: bytes, rest: bytes) -> None:
        """The exchange is a tunnel: by 101 to this protocol, or by CONNECT if there is no head; its first bytes."""

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel."""

    def end_tunnel(self) -> None:
        """No more bytes of the tunnel will come; the other direction goes on."""


class ClientStream(Timed, Protocol):
    """
    The client's side of one exchange, as far as it lives: the connection of HTTP/1.1, or a stream of HTTP/2.

    It has the exchange's deadline, which the course arms and which is put off when something moves; then it calls the
    course's `on_deadline`. When the exchange is recorded the course calls one of the last three, and nothing more.
    """

    __slots__ = ()

    def touch(self) -> None:
        """Something moved: what the client's side waits for has its whole time again."""

    def update_reading(self) -> None:
        """Whether more of the request may be read has changed: the course's `is_upstream_blocked`."""

    def awaits_delivery(self) -> bool:
        """
        Whether something of the response has still to leave, or to arrive at a client that may be gone.

        If so, `on_client_writable` of the course says when it has, and `on_client_lost` that it will not.
        """

    def on_switched(self) -> None:
        """The course has a tunnel, which is told from now on what the client sends."""

    def on_exchange_over(self) -> None:
        """The exchange is over and answered."""

    def close(self) -> None:
        """The exchange is over: close when what was sent has arrived."""

    def reset(self) -> None:
        """The exchange is over and its response is not whole, which the client must be able to see."""


class ServerStream(Protocol):
    """The server's side of one attempt."""

    __slots__ = ()

    is_full: bool
    """Whether more is written than the server takes: send no more until `on_upstream_writable`."""
    requests: int
    """How many it has carried, this one included."""
    secured: Peer | None
    """Who the server is by TLS, or None."""

    def is_quiet(self) -> bool:
        """Whether the kernel holds neither data nor an end of file from the server."""

    def send(self, sink: ResponseSink, request: UpstreamRequest, limits: Limits) -> None:
        """Begin an exchange, with what there is of the body. The stream must be idle and taken from the pool."""

    def send_body(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """More of the request's body; empty only together with `is_complete`."""

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `send_body`, not to the end, and what the source's socket has: `ResponseWriter.splice_from`."""

    def open_tunnel(self, sink: TunnelSink) -> None:
        """From here it carries another protocol's bytes, told to this sink."""

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel."""

    def end_tunnel(self) -> None:
        """The client sends no more."""

    def pause(self) -> None:
        """Read no more until `resume`."""

    def resume(self) -> None:
        """Undo `pause`."""

    def abort(self) -> None:
        """The attempt is over, and what is under way is of no use."""

    def finish(self) -> None:
        """The attempt is over and nothing more will come: what is written is still delivered."""

    def close_idle(self, reason: str) -> None:
        """It was taken from the pool and will not be used."""


class ResponseSink(Protocol):
    """Whom a server's side tells what comes: the forwarder."""

    __slots__ = ()

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101; the final one is still to come."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """The final response's head, what has come of its body, and whether that is all."""

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the body."""

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `on_payload`, not to the end, and what the source's socket has: `ResponseWriter.splice_from`."""

    def on_switched(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here the connection is a tunnel, and `rest` its first bytes."""

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """The connection is gone before the response was complete; untouched if not one byte of it came."""

    def on_upstream_blocked(self) -> None:
        """The upstream does not read: send no more."""

    def on_upstream_writable(self) -> None:
        """The upstream reads again."""


class TunnelSink(Protocol):
    """Whom a server's side tells what comes once it is a tunnel."""

    __slots__ = ()

    def on_tunnel_data(self, data: bytes) -> None:
        """Bytes of the tunnel."""

    def on_tunnel_eof(self) -> bool:
        """The server sends no more; true keeps the connection open for the other direction."""

    def on_tunnel_lost(self, detail: str) -> None:
        """The connection is gone; without detail in order, as far as anybody can tell."""

    def on_upstream_blocked(self) -> None:
        """The server does not read: send no more."""

    def on_upstream_writable(self) -> None:
        """The server reads again."""


class Requester(Protocol):
    """Whom a forwarder tells what became of the request: the course, or a mirror's copy."""

    __slots__ = ()

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """The final response begins; the forwarder is done if `is_end`."""

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the body; the forwarder is done if `is_end`."""

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `on_payload`, not to the end, and what the source's socket has: `ResponseWriter.splice_from`."""

    def on_switched(self, stream: ServerStream, head: ResponseHead | None, rest: bytes) -> None:
        """The stream is a tunnel now, of which these are the first bytes; no head when it is one by CONNECT."""

    def on_failed(self, reason: Reason, detail: str) -> None:
        """The forwarder is done, without a complete response."""

    def on_upstream_blocked(self) -> None:
        """Send no more of the request until `on_upstream_writable`."""

    def on_upstream_writable(self) -> None:
        """More of the request may come."""


class Dialling(Protocol):
    """Who opens connections: `server.dialer.Dialer`."""

    timers: Timers

    def later(self, delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Do it after so many seconds."""

    def dial(self, endpoint: Endpoint) -> None:
        """Open a connection for the endpoint's pool."""

    def dial_shared(self, endpoint: Endpoint) -> None:
        """Open a connection that many exchanges share."""

    def dial_tunnel(self, endpoint: Endpoint, waiter: Waiter) -> None:
        """Open a connection that no exchange has used or will share."""


class Recording(Protocol):
    """Who tells about exchanges and connections: `telemetry.recorder.Telemetry`, which has the contracts."""

    def begin(self, exchange: Exchange) -> bytes:
        """Give the exchange its place in a trace."""

    def judged(self, exchange: Exchange, decision: Decision) -> None:
        """Count what the rules of authorization said of the exchange."""

    def record(self, exchange: Exchange) -> None:
        """Tell about an exchange that is over."""

    def connection_opened(self, direction: Direction) -> None:
        """A client connected."""

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """A client's connection is gone."""

    def detected(self, direction: Direction, protocol: str, *, has_waited: bool) -> None:
        """What a client's connection carries is known."""

    def connected(self, upstream: str, took_ns: int) -> None:
        """A connection to an upstream was established."""

    def secured(self, peer: Peer, *, is_client: bool) -> None:
        """A handshake is over."""

    def not_secured(self, reason: Reason, *, is_client: bool) -> None:
        """A handshake has failed."""
