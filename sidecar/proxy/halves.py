"""
Where the two halves of an exchange meet: what each asks of the other, as protocols. *Hot path.*

A connection to an upstream tells a `ResponseSink`, which is the attempt; the attempt tells a `ClientHalf`, which is the
client's connection, and with HTTP/2 will be a stream. The calls go down the exchange and come back up; none awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Protocol

from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.message import RequestHead, ResponseHead
from sidecar.net.timers import Timers
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Waiter


class Chooser(Protocol):
    """Where the endpoints come from; `upstream.Cluster` is one."""

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """An endpoint for this request, or None."""

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """One that was not tried, if there is any, else as `choose`."""


class ClientHalf(Protocol):
    """The client's side of the exchange."""

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """The final response begins; the attempt is over if `is_end`."""

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """More of the body; the attempt is over if `is_end`."""

    def on_lent(self, payload: memoryview, is_end: bool) -> None:
        """As `on_payload`, of a body of known length; the memory is another's as soon as this returns."""

    def on_switched(self, head: ResponseHead | None, rest: bytes) -> None:
        """The exchange becomes a tunnel; None when it is one by CONNECT."""

    def on_tunnel_data(self, data: bytes) -> None:
        """Bytes of the tunnel for the client."""

    def on_tunnel_eof(self) -> bool:
        """The upstream sends no more."""

    def on_failed(self, reason: Reason, detail: str) -> None:
        """The attempt is over without a complete response."""

    def on_upstream_blocked(self) -> None:
        """Send no more of the request until `on_upstream_writable`."""

    def on_upstream_writable(self) -> None:
        """More of the request may come."""


class Dialling(Protocol):
    """Who opens connections: `dialer.Dialer`."""

    timers: Timers

    def later(self, delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Do it after so many seconds."""

    def dial(self, endpoint: Endpoint) -> None:
        """Open a connection for the endpoint's pool."""

    def dial_tunnel(self, endpoint: Endpoint, waiter: Waiter) -> None:
        """Open a connection that no exchange has used or will share."""


class Recording(Protocol):
    """Who tells about exchanges and connections: `telemetry.recorder.Telemetry`, which has the contracts."""

    def begin(self, exchange: Exchange) -> bytes:
        """Give the exchange its place in a trace."""

    def record(self, exchange: Exchange) -> None:
        """Tell about an exchange that is over."""

    def connection_opened(self, direction: Direction) -> None:
        """A client connected."""

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """A client's connection is gone."""

    def connected(self, upstream: str, took_ns: int) -> None:
        """A connection to an upstream was established."""


class ResponseSink(Protocol):
    """The attempt that a connection serves."""

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101; the final one is still to come."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """The final response's head, what has come of its body, and whether that is all."""

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """More of the body."""

    def on_lent(self, payload: memoryview, is_end: bool) -> None:
        """As `on_payload`, of a body of known length; the memory is another's as soon as this returns."""

    def on_switched(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here the connection is a tunnel, and `rest` its first bytes."""

    def on_tunnel_data(self, data: bytes) -> None:
        """Bytes of a tunnel."""

    def on_tunnel_eof(self) -> bool:
        """The upstream sends no more; true keeps the connection open for the other direction."""

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """The connection is gone before the response was complete; untouched if not one byte of it came."""

    def on_upstream_blocked(self) -> None:
        """The upstream does not read: send no more."""

    def on_upstream_writable(self) -> None:
        """The upstream reads again."""
