"""
Endpoints for authorities that no upstream names, made as requests ask for them. *Hot path: `Passthrough.endpoint_for`.*

The number of authorities is the client's choice, so the endpoints are bounded: the one that was used longest ago goes.
One object serves the whole process, across reloads.
"""

from __future__ import annotations

from sidecar.net.address import TcpAddress
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint

MAX_ENDPOINTS = 1024
"""Authorities remembered with their idle connections, at most."""


class Passthrough:
    """
    The cluster named `passthrough`.

    Attributes:
        cluster: Settings and counters of all passthrough traffic; `choose` never finds anything in it.
    """

    __slots__ = ("_by_authority", "_max_endpoints", "cluster")

    def __init__(
        self, connect_timeout_s: float = 1.0, idle_timeout_s: float = 4.0, max_endpoints: int = MAX_ENDPOINTS
    ) -> None:
        spec = ClusterSpec("passthrough", connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s)
        self.cluster = Cluster(spec)
        self._by_authority: dict[tuple[bytes, int], Endpoint] = {}
        self._max_endpoints = max_endpoints

    def endpoint_for(self, host: bytes, port: int) -> Endpoint:
        """
        The endpoint of an authority; refuses nothing.

        Args:
            host: As `RequestHead.host`: lower case; IPv6 in brackets.
            port: 1 to 65535.

        Returns:
            Its endpoint, which dials the host by name; the same one as long as it is among the most recently used.
        """
        key = (host, port)
        # Taken out and put back, a dict keeps the order of use: first is oldest.
        endpoint = self._by_authority.pop(key, None)
        if endpoint is not None:
            self._by_authority[key] = endpoint
            return endpoint
        if len(self._by_authority) >= self._max_endpoints:
            oldest = next(iter(self._by_authority))
            self._by_authority.pop(oldest).remove("passthrough_evicted")
        name = host[1:-1] if host.startswith(b"[") else host
        endpoint = Endpoint(self.cluster, TcpAddress(name.decode("latin-1"), port))
        self._by_authority[key] = endpoint
        self.cluster.endpoints = tuple(self._by_authority.values())
        return endpoint

    def close_idle(self, reason: str) -> None:
        """Close every idle connection."""
        self.cluster.close_idle(reason)

    def __repr__(self) -> str:
        return f"<Passthrough [Endpoints: {len(self._by_authority)} of {self._max_endpoints}]>"
