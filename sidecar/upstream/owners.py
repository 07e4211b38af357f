"""
Which upstream has an address: among its endpoints, or as one by which it is called. *Once a connection.*

Addresses come and go with DNS and what is discovered; each cluster has them in tuples that are replaced whole. So what
has changed is seen by comparing as many references as there are upstreams, and only that is filed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint


class Owners:
    """
    Args:
        clusters: Who are known by their endpoints, the first of two that share one before the other.
        called: Who are known by the addresses by which they are called (`Cluster.called`), for their endpoints may be
            others, such as listeners of sidecars. One may be among both.
    """

    __slots__ = ("_by_address", "_called", "_called_filed", "_clusters", "_filed")

    def __init__(self, clusters: Sequence[Cluster], called: Sequence[Cluster] = ()) -> None:
        self._clusters = tuple(clusters)
        self._called = tuple(called)
        self._filed: tuple[tuple[Endpoint, ...], ...] = ()
        self._called_filed: tuple[tuple[tuple[str, int], ...], ...] = ()
        self._by_address: dict[tuple[str, int], Cluster] | None = None

    def find(self, host: str, port: int) -> Cluster | None:
        """
        The upstream that has this address, or None.

        Args:
            host: An IP address, without brackets.
        """
        found = self._by_address
        if found is None or self._has_changed():
            found = self._file()
        return found.get((host, port))

    def _has_changed(self) -> bool:
        for cluster, endpoints in zip(self._clusters, self._filed, strict=True):
            if cluster.endpoints is not endpoints:
                return True
        return any(one.called is not filed for one, filed in zip(self._called, self._called_filed, strict=True))

    def _file(self) -> dict[tuple[str, int], Cluster]:
        self._filed = tuple(cluster.endpoints for cluster in self._clusters)
        self._called_filed = tuple(cluster.called for cluster in self._called)
        found = {
            (endpoint.host, endpoint.port): cluster
            for cluster in reversed(self._clusters)
            for endpoint in cluster.endpoints
        }
        # By which one is called goes before where another is: the app has asked for the name.
        found |= {address: cluster for cluster in reversed(self._called) for address in cluster.called}
        self._by_address = found
        return found
