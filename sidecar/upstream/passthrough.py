"""
Endpoints for addresses that no upstream has, made as requests ask for them. *Hot path: `Passthrough.endpoint_for`.*

The number of addresses is the client's choice, so the endpoints are bounded: the one that was used longest ago goes.
One object serves the whole process, across reloads.
"""

from __future__ import annotations

from sidecar.net.address import TcpAddress
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.spec import AS_CAME

PASSTHROUGH = "passthrough"
"""What telemetry calls the upstream of requests that are sent as addressed."""

MAX_ENDPOINTS = 1024
"""Addresses remembered with their idle connections, at most."""


class Passthrough:
    """
    Args:
        cluster: Whose endpoints they become, beside its own; default: one named `passthrough`, that has none.
        max_endpoints: At most so many.

    Attributes:
        cluster: Settings and counters of the traffic; `choose` never finds one of these endpoints in it.
    """

    __slots__ = ("_by_authority", "_max_endpoints", "cluster")

    def __init__(self, cluster: Cluster | None = None, max_endpoints: int = MAX_ENDPOINTS) -> None:
        self.cluster = cluster if cluster is not None else Cluster(ClusterSpec(PASSTHROUGH, protocol=AS_CAME))
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
        if endpoint is not None and not endpoint.is_removed:  # by a reload of the cluster
            self._by_authority[key] = endpoint
            return endpoint
        if len(self._by_authority) >= self._max_endpoints:
            oldest = next(iter(self._by_authority))
            self._by_authority.pop(oldest).remove("passthrough_evicted")
        name = host[1:-1] if host.startswith(b"[") else host
        # By its weight of 0 the cluster itself never chooses it.
        endpoint = Endpoint(self.cluster, TcpAddress(name.decode("latin-1"), port), 0.0)
        self._by_authority[key] = endpoint
        kept = [other for other in self.cluster.endpoints if not other.is_removed]
        self.cluster.endpoints = (*kept, endpoint)
        return endpoint

    def close_idle(self, reason: str) -> None:
        """Close every idle connection."""
        self.cluster.close_idle(reason)

    def __repr__(self) -> str:
        return f"<Passthrough [Endpoints: {len(self._by_authority)} of {self._max_endpoints}]>"
