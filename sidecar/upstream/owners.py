"""
Which upstream has an address among its endpoints. *Once a connection.*

Endpoints come and go with DNS and what is discovered; each cluster has them in a tuple that is replaced whole. So what
has changed is seen by comparing as many references as there are upstreams, and only that is filed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint


class Owners:
    """
    Args:
        clusters: Whose endpoints these are, the first of two that share one before the other.
    """

    __slots__ = ("_by_address", "_clusters", "_filed")

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        self._clusters = tuple(clusters)
        self._filed: tuple[tuple[Endpoint, ...], ...] = ()
        self._by_address: dict[tuple[str, int], Cluster] = {}

    def find(self, host: str, port: int) -> Cluster | None:
        """
        The upstream with an endpoint at this address, or None.

        Args:
            host: An IP address, without brackets.
        """
        filed = self._filed
        clusters = self._clusters
        if len(filed) != len(clusters):
            self._file()
        else:
            for index in range(len(clusters)):
                if clusters[index].endpoints is not filed[index]:
                    self._file()
                    break
        return self._by_address.get((host, port))

    def _file(self) -> None:
        self._filed = tuple(cluster.endpoints for cluster in self._clusters)
        self._by_address = {
            (endpoint.host, endpoint.port): cluster
            for cluster in reversed(self._clusters)
            for endpoint in cluster.endpoints
        }
