"""
A handshake with a server, between the socket's being connected and the first octet of ours: requests' and health
checks'. *Once a connection.*
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from sidecar import errors
from sidecar.errors import Reason
from sidecar.net.tls.failures import explain
from sidecar.net.tls.handshakes import Handshakes
from sidecar.net.tls.sides import ClientSide
from sidecar.net.tls.transport import TlsTransport
from sidecar.peer import Peer


def usable(side: ClientSide | None, label: str) -> ClientSide:
    """
    How the endpoint of this label, which is spoken to by TLS, is spoken to now.

    Raises:
        SecuringError: Nothing is there for that yet; never is it then spoken to in clear.
    """
    if side is None:
        raise SecuringError(errors.IDENTITY_MISSING, f"{label}: the upstream has no `tls`, and the endpoint wants it")
    if side.context is None:
        raise SecuringError(errors.IDENTITY_MISSING, f"{label}: {side.why_none}")
    return side


class SecuringError(Exception):
    """
    Nobody could be spoken with by TLS; nothing of a request was sent, and the connection is closed.

    Attributes:
        reason: The row of the table.
        detail: What exactly was found.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.name}: {detail}")
        self.reason = reason
        self.detail = detail


class Securing:
    """
    One handshake; a `HandshakeOwner`.

    Args:
        side: How the upstream is spoken to; `usable`.
        label: Of the endpoint: its sessions are known by it.
        host: Of the endpoint, whose name the certificate must be for unless `side` says another.
        gate: Lets it do its steps.
        make: Makes what the transport is given to, as a socket's would be, when the server is known.
        is_shared: Many requests are to share the connection, if the server speaks HTTP/2.

    Attributes:
        transport: To be told what the socket receives.
        done: Who the server is; or a `SecuringError`.

    Raises:
        SecuringError: The name cannot be asked for.
    """

    def __init__(
        self,
        side: ClientSide,
        label: str,
        host: str,
        gate: Handshakes,
        make: Callable[[], asyncio.Protocol],
        is_shared: bool = False,
    ) -> None:
        context = side.shared_context if is_shared and side.shared_context is not None else side.context
        assert context is not None
        self._is_shared = is_shared
        self._side = side
        self._label = label
        self._make = make
        self.done: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        name = "" if side.is_mesh else side.server_name or host
        # A ticket is its context's.
        ticket = f"{label} shared" if is_shared else label
        session = side.session_of(ticket)
        # Not a method of ours: the transport would know us for as long as it lives, and we know it.
        keep = partial(side.keep_session, ticket, version=side.version)
        try:
            self.transport = TlsTransport(context, self, gate, False, name, session, keep)
        except (ValueError, ssl.SSLError) as error:
            raise SecuringError(errors.UPSTREAM_TLS_FAILED, f"{label}: {error}") from None

    def on_secured(self, transport: TlsTransport) -> None:
        """The server has proved who it is; whether that is whom we want is asked here, except for its name."""
        peer, side, label = transport.peer, self._side, self._label
        assert peer is not None
        if side.is_mesh and not side.takes(peer.protocol, self._is_shared):
            found = peer.protocol or "nothing"
            self._give_up(errors.UPSTREAM_TLS_ALPN, f"{label}: agreed on {found}, not {side.protocol}")
        elif side.is_mesh and peer.identity not in side.identities:
            wanted = " or ".join(sorted(side.identities))
            found = f"{peer.identity or peer.subject or 'no name'}, signed by {peer.issuer}"
            self._give_up(errors.UPSTREAM_IDENTITY_MISMATCH, f"{label}: {found}; expected {wanted}")
        elif not side.is_mesh and not side.takes(peer.protocol, self._is_shared):
            wanted = side.protocol or "nothing"
            self._give_up(errors.UPSTREAM_TLS_ALPN, f"{label}: agreed on {peer.protocol}, not on {wanted}")
        elif not self.done.done():
            connection = self._make()
            transport.set_protocol(connection)
            self.done.set_result(peer)
            connection.connection_made(cast("asyncio.Transport", transport))
        else:
            transport.abort()

    def _give_up(self, reason: Reason, detail: str) -> None:
        self.transport.abort()
        self._side.forget_session(f"{self._label} shared" if self._is_shared else self._label)
        if not self.done.done():
            self.done.set_exception(SecuringError(reason, detail))

    def on_handshake_failed(self, error: Exception) -> None:
        """The connection is closed."""
        reason, detail = explain(error, is_client=False, shown=self.transport.shown)
        self._give_up(reason, f"{self._label}: {detail}")
