"""
A client's connection to a listener that captures, or takes more than HTTP, until it is known what it carries. *Once a
connection.*

The kernel says where it was meant to go, and the first octets what it is (`net.detect`), unless the port says that.
Then another takes its place: a connection of HTTP/1.1, one that opens by TLS, or one that is carried as it is. A client
that says nothing may speak a protocol in which the server does so first: after a wait it is carried there, and still
taken for one of HTTP if that is what it says before the server has said anything. Where a server has spoken first after
a wait, nobody waits again.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, cast

from sidecar import clock
from sidecar.exchange import Direction
from sidecar.net.detect import MAX_BYTES, Protocol, detect, goes_to_proxy, looks_like_http
from sidecar.net.original_destination import PROOF_LINE
from sidecar.net.timers import NOT_ARMED, Timed
from sidecar.net.tls.hello import HelloError, read_hello
from sidecar.net.tls.sides import MESH_PROTOCOLS
from sidecar.peer import Peer
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.client.http2 import Http2ClientConnection, succeed
from sidecar.proxy.client.opening import OpeningConnection
from sidecar.proxy.client.tcp import TcpConnection, head_of
from sidecar.proxy.exchange.destination import (
    Destination,
    declared_protocol,
    destination_of,
    side_of,
    stream_route,
)
from sidecar.proxy.live import ClientConnection as Waiting
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.origin import peer_of
from sidecar.routing.actions import Route

WAIT_S: Final = 1.0
"""For the first octets of a client, before the server is asked for its own (Linkerd waits for 10 s)."""


class DetectingConnection(Timed):
    """An `asyncio.Protocol` by its methods (docs/compiled.md)."""

    __slots__ = (
        "_destination",
        "_has_waited",
        "_is_declared",
        "_live",
        "_opened_ns",
        "_raw",
        "_secured",
        "_seen",
        "_successor",
        "bucket",
        "deadline",
        "listener_state",
    )

    def __init__(self, live: Live, listener_state: ListenerState) -> None:
        self._live = live
        self._raw: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._destination: Destination | None = None
        self._opened_ns = 0
        self._seen = b""
        self._secured: Peer | None = None
        self._successor: ClientConnection | Http2ClientConnection | TcpConnection | None = None
        self._has_waited = False
        self._is_declared = False
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        return f"<DetectingConnection to {self._destination}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Whoever takes its place asks the listener."""

    def drain(self) -> None:
        """It has said nothing yet: close."""
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._leave()
        self._raw.abort()

    # --- the socket's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        live, state = self._live, self.listener_state
        self._raw = cast("asyncio.Transport", transport)
        full = live.admit(self, state.listener.direction, transport)
        self._opened_ns = clock.monotonic_ns()
        if full is not None:
            self._become_http().refuse(full.reason, full.detail, full.has_answer)
            return
        destination = self._find_destination() if state.listener.captures else None
        if destination is None:
            self._begin(state.listener.protocol)
            return
        self._destination = destination
        if state.listener.direction is Direction.INBOUND and not destination.is_loop:
            live.is_inbound_seen = True
        if destination.is_proof:
            self._leave()
            self._raw.write(PROOF_LINE)
            self._raw.close()
        else:
            self._begin(declared_protocol(live.plan, state.listener, destination) or "auto")

    def take_over(
        self, before: Waiting, transport: asyncio.Transport, opened_ns: int, secured: Peer,
        destination: Destination | None,
    ) -> None:  # fmt: skip
        """
        In the place of another, whose client has said by TLS who it is: what it carries in there is asked all the same,
        or requests would go past what holds for requests.
        """
        self._raw, self._opened_ns, self._secured, self._destination = transport, opened_ns, secured, destination
        self._live.replace(before, self, secured.not_after_s)
        listener = self.listener_state.listener
        if destination is None:
            self._begin(listener.protocol)
        else:
            self._begin(declared_protocol(self._live.plan, listener, destination) or "auto")

    def _find_destination(self) -> Destination | None:
        live, raw = self._live, self._raw
        peer_ip = peer_of(raw.get_extra_info("peername"))[0]
        connected = raw.get_extra_info("socket")
        return destination_of(
            self.listener_state.listener, live.plan, connected, peer_ip, is_led_back=live.is_led_back
        )  # fmt: skip

    def _begin(self, protocol: str) -> None:
        """
        Do what can be done before anything has come.

        Args:
            protocol: `http`, `tcp`, or `auto` for what the first octets say.
        """
        live, destination = self._live, self._destination
        tls = self.listener_state.tls if self._secured is None else None
        self._is_declared = protocol == "tcp"
        # Who comes for a port of ours by TLS says so at once; what an operator has declared is not looked at.
        is_ours = tls is not None and (destination is None or destination.port in live.plan.protocol_of_app)
        if protocol == "tcp" and not is_ours:
            self._detected("tcp")
            self._become_stream("tcp", b"")
        elif protocol == "http" and tls is None:
            self._detected("http")
            self._become_http().serve()
        elif not is_ours and self._place() in live.silent:
            self._has_waited = True
            self._begin_unheard()
        else:
            live.timers.arm(self, live.timers.time() + WAIT_S)

    def _place(self) -> Destination | str:
        return self._destination or self.listener_state.listener.address

    def data_received(self, data: bytes) -> None:
        """The first octets, or more of them."""
        if self._seen:
            data = self._seen + data
            self._seen = b""
        protocol = detect(data)
        if protocol == Protocol.TLS:
            self._on_tls(data)
        elif protocol == Protocol.UNKNOWN and len(data) <= MAX_BYTES:
            self._seen = data
        elif self._is_declared or protocol == Protocol.OTHER:
            self._detected("tcp")
            self._become_stream("tcp", data)
        elif protocol == Protocol.HTTP1:
            self._on_http(data)
        elif protocol == Protocol.HTTP2:
            self._detected("http2")
            self._become_http2().data_received(data)
        else:
            self._guess(data)

    def _on_http(self, data: bytes) -> None:
        if self._destination is not None and not self._is_inbound() and goes_to_proxy(data):
            # It speaks with a proxy that it knows, by a form that only that one understands. What is for the app is
            # judged as a request, whatever its form.
            self._detected("tcp")
            self._become_stream("tcp", data)
            return
        self._detected("http")
        connection = self._become_http()
        connection.serve()
        connection.data_received(data)

    def _on_tls(self, data: bytes) -> None:
        """A client's hello: another sidecar's is answered here, all others go on as they are."""
        tls = self.listener_state.tls if self._secured is None else None
        try:
            hello = read_hello(data)
        except HelloError:
            self._detected("tcp")
            self._become_stream("tcp", data)
            return
        if hello is None:
            self._seen = data  # at most as much as a hello may be long
        elif tls is not None and (tls.is_strict or not MESH_PROTOCOLS.isdisjoint(hello.protocols)):
            self._detected("tls")
            self._settle()
            opening = OpeningConnection(self._live, self.listener_state, tls, carry)
            self._raw.set_protocol(cast("asyncio.Protocol", opening))
            opening.take_over(self, self._raw, self._opened_ns, self._destination)
            opening.data_received(data)
        else:
            self._detected("tls")
            self._become_stream("tls", data, hello.server_name)

    def _guess(self, data: bytes) -> None:
        """Nobody waits any longer: what it is more likely."""
        if looks_like_http(data) and not self._is_declared:
            self._on_http(data)
        else:
            self._detected("tcp")
            self._become_stream("tcp", data)

    def eof_received(self) -> bool:
        """The client sends no more; one that has said nothing at all wanted to know whether somebody listens."""
        if self._seen:
            data, self._seen = self._seen, b""
            self._guess(data)
            # Whoever took its place is told, too: this is still the same callback of the transport.
            return self._successor is not None and bool(self._successor.eof_received())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone without a word, or was sent away."""
        self._leave()

    def pause_writing(self) -> None:
        """Nothing is written."""

    def resume_writing(self) -> None:
        """Nothing is written."""

    def on_deadline(self, now: float) -> None:
        """The wait is over."""
        data = self._seen
        if data:
            self._seen = b""
            self._guess(data)
        elif self._has_waited:
            self.abort()
        else:
            self._has_waited = True
            self._begin_unheard()

    # --- what it becomes -------------------------------------------------------------------------------------

    def _begin_unheard(self) -> None:
        """Carry a client that says nothing to where it was meant to go, if that is anywhere."""
        live, listener, destination = self._live, self.listener_state.listener, self._destination
        head = head_of(destination, "")
        if destination is not None:
            side = side_of(live.plan, listener, destination)
        else:
            side = live.plan.side_of[listener.side]
            head.host, head.port = listener.host or b"", listener.port
        if isinstance(stream_route(side, head, destination), Route):
            self._detected("tcp")
            self._become_stream("tcp", b"", is_unheard=not self._is_declared)
        else:
            # A request may go where a connection may not; a client of HTTP may connect long before it has one.
            live.timers.arm(self, live.timers.time() + live.plan.limits.client_idle_timeout_s)

    def _is_inbound(self) -> bool:
        return self.listener_state.listener.direction is Direction.INBOUND

    def _detected(self, protocol: str) -> None:
        listener = self.listener_state.listener
        if self._secured is None and (self._destination is not None or listener.protocol != "http"):
            self._live.telemetry.detected(listener.direction, protocol, has_waited=self._has_waited)

    def _become_http(self) -> ClientConnection:
        """A connection of HTTP/1.1 takes its place; `serve` or `refuse` follows."""
        self._settle()
        self._successor = connection = ClientConnection(self._live, self.listener_state)
        self._raw.set_protocol(cast("asyncio.Protocol", connection))
        connection.take_over(self, self._raw, self._opened_ns, self._secured, self._destination)
        return connection

    def _become_http2(self) -> Http2ClientConnection:
        """A connection of HTTP/2 takes its place."""
        self._settle()
        self._successor = connection = succeed(
            self, self._live, self.listener_state, self._raw, self._opened_ns, self._secured, self._destination
        )
        return connection

    def _become_stream(self, protocol: str, data: bytes, name: str = "", *, is_unheard: bool = False) -> None:
        """One that is carried as it is takes its place."""
        self._settle()
        self._successor = connection = TcpConnection(self._live, self.listener_state, self._destination)
        self._raw.set_protocol(cast("asyncio.Protocol", connection))
        connection.take_over(self, self._raw, self._opened_ns, self._secured)
        connection.begin(protocol, name, data, is_unheard=is_unheard)

    def _settle(self) -> None:
        self._live.timers.forget(self)

    def _leave(self) -> None:
        self._settle()
        self._live.forget(self, self._opened_ns)


def carry(
    before: Waiting, live: Live, state: ListenerState, transport: asyncio.Transport, opened_ns: int, secured: Peer,
    destination: Destination | None,
) -> None:  # fmt: skip
    """As `opening.Carry`."""
    connection = DetectingConnection(live, state)
    transport.set_protocol(cast("asyncio.Protocol", connection))
    connection.take_over(before, transport, opened_ns, secured, destination)
