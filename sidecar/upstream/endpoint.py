"""
One address of an upstream and what is under way there. *Hot path.*

An endpoint is shared by everything that knows the address: it survives reloads and DNS answers for as long as the
address stays in its cluster. The fields that count are plain integers, kept by `proxy` and `upstream.pool`; this file
makes an endpoint and ends it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from sidecar.net.address import Address, UnixAddress

if TYPE_CHECKING:
    from sidecar.upstream.cluster import Cluster


class IdleConnection(Protocol):
    """A connection that waits in `Endpoint.idle` for its next exchange; `proxy` owns the class."""

    endpoint: Endpoint

    def is_usable(self) -> bool:
        """Whether the peer has neither closed it nor sent anything; asked at the moment of use."""

    def close_idle(self, reason: str) -> None:
        """Close; `reason` is for the log. May take itself out of `Endpoint.idle`, need not."""


class Endpoint:
    """
    One address of a cluster.

    Attributes:
        cluster: Whose endpoint it is, for settings and counters; the same object for as long as the endpoint lives.
        host: IP address or name as in the file, without brackets; empty for a Unix socket. A name is resolved at
            each connect.
        port: 1 to 65535; 0 for a Unix socket.
        unix_path: Path of the socket, or None for TCP.
        label: `host:port`, `[v6]:port` or `unix:/path`, as logs, spans and metrics show it; unique in its cluster.
        weight: Share of the traffic relative to the other endpoints; 0 gets none.
        active: Exchanges in flight, kept by the proxy.
        idle: Connections without an exchange; a stack, newest last.
        connecting: Connects under way, kept by the pool.
        pending: Exchanges that wait for a connection, oldest first, kept by the pool.
        is_removed: The address left the cluster: what is in flight ends, no connection is kept afterwards.
    """

    __slots__ = (
        "active",
        "cluster",
        "connecting",
        "host",
        "idle",
        "is_removed",
        "label",
        "pending",
        "port",
        "unix_path",
        "weight",
    )

    def __init__(self, cluster: Cluster, address: Address, weight: float = 1.0) -> None:
        self.cluster = cluster
        if isinstance(address, UnixAddress):
            self.host, self.port = "", 0
            self.unix_path: str | None = address.path
        else:
            self.host, self.port = address.host, address.port
            self.unix_path = None
        self.label = str(address)
        self.weight = weight
        self.active = 0
        self.idle: list[IdleConnection] = []
        self.connecting = 0
        self.pending: deque[object] = deque()
        self.is_removed = False

    def close_idle(self, reason: str) -> None:
        """Close every idle connection; `reason` is for the log."""
        # Over a copy, because a connection may take itself out; the rest is dropped below.
        for connection in self.idle[:]:
            connection.close_idle(reason)
        self.idle.clear()

    def remove(self, reason: str) -> None:
        """End the endpoint: mark it and close its idle connections. Exchanges in flight or pending are not touched."""
        self.is_removed = True
        self.close_idle(reason)

    def __repr__(self) -> str:
        state = "REMOVED" if self.is_removed else "LIVE"
        return (
            f"<Endpoint {self.label!r} [{state} | Exchanges: {self.active} active, {len(self.pending)} pending"
            f" | Connections: {len(self.idle)} idle, {self.connecting} connecting]>"
        )
