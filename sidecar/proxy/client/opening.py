"""
A client's connection before its first request can be read: is it TLS, and with whom? *Once a connection.*

Where a port takes both, the whole ClientHello is read before anything is answered (`net.tls.hello`): TLS that offers
none of our protocols is meant for the app. This port speaks HTTP to the app, which cannot have it, so it is refused,
with the alert that says so (RFC 7301, 3.2).

It is admitted like any other, has a deadline, and is drained with the others. Then a connection of HTTP/1.1 takes its
place, or one that is carried as it is, on the socket's transport or on TLS in between. A listener in clear has none of
this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Final, cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.net.timers import NOT_ARMED, Timed
from sidecar.net.tls.failures import explain
from sidecar.net.tls.hello import HelloError, begins_tls, read_hello
from sidecar.net.tls.sides import (
    MESH_HTTP,
    MESH_HTTP2,
    MESH_PROTOCOLS,
    MESH_TCP,
    OUTSIDE_HTTP,
    OUTSIDE_HTTP2,
    ServerSide,
)
from sidecar.net.tls.transport import TlsTransport
from sidecar.peer import Peer
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.client.http2 import Http2ClientConnection, succeed
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.live import ClientConnection as Waiting
from sidecar.proxy.live import ListenerState, Live

log = logging.getLogger("sidecar.proxy")

_NO_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""A fatal alert in clear, as all are before a ServerHello: no_application_protocol (RFC 8446, 5.1 and 6)."""
_DECODE_ERROR: Final = b"\x15\x03\x03\x00\x02\x02\x32"
_MESH: Final = (MESH_HTTP2, MESH_HTTP)
_MAX_SHOWN: Final = 8
"""Protocols of a client that are told of."""


Carry = Callable[[Waiting, Live, ListenerState, asyncio.Transport, int, Peer, Destination | None], None]
"""
Takes the place of a connection whose client is known, and carries on what is no HTTP: what was there before, what all
share, the listener, the transport, when it was opened, the client, and where it was meant to go.
"""


class OpeningConnection(Timed):
    """
    An `asyncio.Protocol` by its methods, and by them a `HandshakeOwner` (docs/compiled.md).

    Args:
        side: How it speaks TLS.
        carry: Takes over from here if it is not certain that HTTP follows.
    """

    __slots__ = (
        "_carry",
        "_destination",
        "_live",
        "_opened_ns",
        "_raw",
        "_seen",
        "_side",
        "_tls",
        "bucket",
        "deadline",
        "listener_state",
    )

    def __init__(self, live: Live, listener_state: ListenerState, side: ServerSide, carry: Carry) -> None:
        self._live = live
        self._carry = carry
        self._side = side
        self._raw: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._tls: TlsTransport | None = None
        self._destination: Destination | None = None
        self._opened_ns = 0
        self._seen = b""
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        return f"<OpeningConnection {self._tls!r}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Whoever takes its place asks the listener."""

    def drain(self) -> None:
        """It has no request: close."""
        tls = self._tls
        self._leave()
        if tls is None:
            self._raw.abort()
        else:
            tls.abort()

    def abort(self) -> None:
        """Close now."""
        self.drain()

    # --- the socket's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        live = self._live
        self._raw = cast("asyncio.Transport", transport)
        full = live.admit(self, self.listener_state.listener.direction, transport)
        self._opened_ns = clock.monotonic_ns()
        if full is not None:
            self._refuse(full.reason, full.detail)
            return
        # As long as a head may take: what is missing is what a head would be behind.
        live.timers.arm(self, live.timers.time() + live.plan.limits.header_timeout_s)

    def take_over(
        self, before: Waiting, transport: asyncio.Transport, opened_ns: int, destination: Destination | None
    ) -> None:
        """In the place of another that was admitted, whose client was meant to go elsewhere."""
        live = self._live
        self._raw, self._opened_ns, self._destination = transport, opened_ns, destination
        live.replace(before, self)
        live.timers.arm(self, live.timers.time() + live.plan.limits.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """The first octets, which tell what this is."""
        side, live = self._side, self._live
        if self._seen:
            data = self._seen + data
        if not begins_tls(data):
            self._seen = b""
            if side.takes_clear:
                self._succeed(self._raw, None).data_received(data)
            else:
                self._refuse(errors.CLIENT_TLS_FAILED, "what came is not TLS")
        elif side.is_mesh and side.takes_clear and not side.is_strict and not self._is_ours(data):
            pass  # more must come, or it was refused
        elif side.context is None:
            self._refuse(errors.NO_CERTIFICATE, side.why_none)
        elif live.handshakes.is_full:
            self._refuse(errors.HANDSHAKES_OVERLOADED, f"{live.handshakes.maximum} at once")
        else:
            live.handshakes.under_way += 1
            self._tls = tls = TlsTransport(side.context, self, live.handshakes, True)
            self._raw.set_protocol(cast("asyncio.Protocol", tls))
            tls.start(self._raw, data)

    def _is_ours(self, data: bytes) -> bool:
        """Whether the client's hello is whole, and a sidecar's; it is refused if it is another's, or none."""
        try:
            hello = read_hello(data)
        except HelloError as error:
            self._raw.write(_DECODE_ERROR)
            self._refuse(errors.CLIENT_TLS_FAILED, f"the client sent {error.reason}")
            return False
        if hello is None:
            self._seen = data  # at most `MAX_BYTES`, and what came with the last of them
            return False
        self._seen = b""
        if MESH_PROTOCOLS.isdisjoint(hello.protocols):
            offers = ", ".join(map(repr, hello.protocols[:_MAX_SHOWN])) or "no protocol"
            wants = f", for {hello.server_name}" if hello.server_name else ""
            self._raw.write(_NO_PROTOCOL)
            self._refuse(
                errors.CLIENT_TLS_ALPN,
                f"offers {offers}{wants}: no sidecar, and TLS of the app's own does not pass through a port for HTTP",
            )
            return False
        return True

    def eof_received(self) -> bool:
        """The client has gone without a word."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone without a word, or was sent away."""
        self._leave()

    def pause_writing(self) -> None:
        """Nothing is written."""

    def resume_writing(self) -> None:
        """Nothing is written."""

    def on_deadline(self, now: float) -> None:
        """It took too long; who has not said a word is not told of."""
        if self._tls is None and not self._seen:
            self._raw.abort()
        else:
            self._refuse(errors.CLIENT_TLS_TIMEOUT, "limits.header_timeout")

    # --- the handshake's side --------------------------------------------------------------------------------

    def on_secured(self, transport: TlsTransport) -> None:
        """The client is known, as far as it wanted to be."""
        peer, side = transport.peer, self._side
        assert peer is not None
        if side.is_mesh:
            if peer.protocol not in _MESH and not (side.takes_streams and peer.protocol == MESH_TCP):
                wanted = " or ".join((*_MESH, MESH_TCP) if side.takes_streams else _MESH)
                self._refuse(errors.CLIENT_TLS_ALPN, f"agreed on {peer.protocol or 'nothing'}, not on {wanted}")
                return
            if not peer.identity.startswith(f"spiffe://{side.trust_domain}/"):
                detail = f"{peer.identity or peer.subject or 'no name'}, signed by {peer.issuer}"
                self._refuse(errors.CLIENT_IDENTITY_MISMATCH, f"{detail}; expected spiffe://{side.trust_domain}/...")
                return
        elif peer.protocol and (side.takes_streams or peer.protocol not in (OUTSIDE_HTTP, OUTSIDE_HTTP2)):
            self._refuse(errors.CLIENT_TLS_ALPN, f"agreed on {peer.protocol}")
            return
        self._live.telemetry.secured(peer, is_client=True)
        if side.takes_streams and peer.protocol not in _MESH:
            self._settle()
            raw = cast("asyncio.Transport", transport)
            self._carry(self, self._live, self.listener_state, raw, self._opened_ns, peer, self._destination)
        else:
            self._succeed(transport, peer)

    def on_handshake_failed(self, error: Exception) -> None:
        """The connection is closed already."""
        shown = self._tls.shown if self._tls is not None else ""
        self._refuse(*explain(error, is_client=True, shown=shown))

    # --- the end ---------------------------------------------------------------------------------------------

    def _succeed(
        self, transport: asyncio.Transport | TlsTransport, peer: Peer | None
    ) -> ClientConnection | Http2ClientConnection:
        """A connection takes its place."""
        self._settle()
        if peer is not None and peer.protocol in (MESH_HTTP2, OUTSIDE_HTTP2):
            raw = cast("asyncio.Transport", transport)
            return succeed(self, self._live, self.listener_state, raw, self._opened_ns, peer, self._destination)
        connection = ClientConnection(self._live, self.listener_state)
        transport.set_protocol(cast("asyncio.Protocol", connection))
        connection.take_over(self, cast("asyncio.Transport", transport), self._opened_ns, peer, self._destination)
        connection.serve()
        return connection

    def _refuse(self, reason: Reason, detail: str) -> None:
        """Close, and tell about it; it has no answer that the client would understand."""
        if self._tls is not None:
            self._tls.give_up()
        self._settle()
        self._live.telemetry.not_secured(reason, is_client=True)
        connection = ClientConnection(self._live, self.listener_state)
        self._raw.set_protocol(cast("asyncio.Protocol", connection))
        connection.take_over(self, self._raw, self._opened_ns, None, self._destination)
        connection.refuse(reason, detail, False)

    def _settle(self) -> None:
        """No handshake is under way any more, nor a deadline."""
        self._live.timers.forget(self)
        if self._tls is not None:
            self._tls = None
            self._live.handshakes.under_way -= 1

    def _leave(self) -> None:
        self._settle()
        self._live.forget(self, self._opened_ns)
