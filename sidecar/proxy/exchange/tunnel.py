"""
Bytes of another protocol, both ways between a client and a server: CONNECT, WebSocket, other upgrades. *Hot path.*

Each direction ends by itself (half-close), and the tunnel when both have. How long nothing may move is the client's
side's to know, which is told of everything that does.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.exchange import Exchange
from sidecar.proxy.exchange.interfaces import ClientStream, ResponseWriter, ServerStream, TunnelSink


class TunnelOwner(Protocol):
    """Who is told when the tunnel is over."""

    __slots__ = ()

    def on_tunnel_ended(self) -> None:
        """Both directions have ended in order."""

    def on_tunnel_lost(self, detail: str) -> None:
        """The server's side is gone; without detail in order, as far as anybody can tell."""

    def on_upstream_blocked(self) -> None:
        """The server does not read."""

    def on_upstream_writable(self) -> None:
        """The server reads again."""


class Tunnel(TunnelSink):
    """
    Args:
        owner: Told of its end.
        client: One end, as far as it lives.
        writer: The same, as far as something is sent.
        stream: The other; its `open_tunnel` is called by who makes this.
        exchange: Counts the bytes.
    """

    __slots__ = ("_client", "_exchange", "_has_client_ended", "_has_server_ended", "_owner", "_stream", "_writer")

    def __init__(
        self, owner: TunnelOwner, client: ClientStream, writer: ResponseWriter, stream: ServerStream, exchange: Exchange
    ) -> None:
        self._owner = owner
        self._client = client
        self._writer = writer
        self._stream = stream
        self._exchange = exchange
        self._has_client_ended = False
        self._has_server_ended = False

    def __repr__(self) -> str:
        return f"<Tunnel {self._exchange.bytes_received} bytes up, {self._exchange.bytes_sent} down>"

    # --- the client's side -----------------------------------------------------------------------------------

    def on_client_data(self, data: bytes) -> None:
        """Bytes for the server."""
        self._exchange.bytes_received += len(data)
        self._client.touch()
        self._stream.send_tunnel(data)

    def on_client_eof(self) -> bool:
        """The client sends no more; true keeps its connection open for the other direction."""
        self._has_client_ended = True
        if self._has_server_ended:
            self._owner.on_tunnel_ended()
            return False
        self._stream.end_tunnel()
        return True

    # --- the server's side -----------------------------------------------------------------------------------

    def on_tunnel_data(self, data: bytes) -> None:
        """Bytes for the client."""
        self._exchange.bytes_sent += len(data)
        self._writer.send_tunnel(data)
        self._client.touch()

    def on_tunnel_eof(self) -> bool:
        """The server sends no more; true keeps its connection open for the other direction."""
        self._has_server_ended = True
        if self._has_client_ended:
            self._owner.on_tunnel_ended()
            return False
        self._writer.end_tunnel()
        return True

    def on_tunnel_lost(self, detail: str) -> None:
        """Passed on."""
        self._owner.on_tunnel_lost(detail)

    def on_upstream_blocked(self) -> None:
        """Passed on."""
        self._owner.on_upstream_blocked()

    def on_upstream_writable(self) -> None:
        """Passed on."""
        self._owner.on_upstream_writable()
