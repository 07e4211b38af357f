"""
An app at the addresses at which it was called: where connections to it are captured. *Hot path: `choose`.*

It is dialled where its client has dialled it, so that a port that listens on loopback only stays closed to others, and
a port that no configuration names is reached all the same. Only where nobody listens there, and the configured address
of the app has the same port, that is dialled; from then on at once, until nobody listens there either.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.passthrough import Passthrough

_MAX_ADDRESSES: Final = 256
"""Of the app, at ports that listeners are configured for: more than a machine has."""


class CapturedApp:
    """
    Args:
        cluster: The app's, whose limits and counters hold for all its addresses.
    """

    __slots__ = ("_called", "_refusing", "cluster")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._called = Passthrough(cluster)
        self._refusing: dict[tuple[bytes, int], None] = {}

    def __repr__(self) -> str:
        return f"<CapturedApp {self.cluster!r}>"

    def choose(self, host: bytes, port: int) -> Endpoint:
        """Where the app is dialled that was called at this address; as `Passthrough.endpoint_for`."""
        if self._refusing and (host, port) in self._refusing:
            configured = self._configured(port)
            if configured is not None:
                return configured
        return self._called.endpoint_for(host, port)

    def choose_other(self, host: bytes, port: int, tried: Container[Endpoint]) -> Endpoint:
        """Where it is dialled when nobody listened at these."""
        called, configured = self._called.endpoint_for(host, port), self._configured(port)
        if configured is None:
            return called
        if called in tried:
            if len(self._refusing) >= _MAX_ADDRESSES:
                self._refusing.clear()
            self._refusing[host, port] = None
            return configured
        self._refusing.pop((host, port), None)
        return called

    def _configured(self, port: int) -> Endpoint | None:
        for endpoint in self.cluster.endpoints:
            if endpoint.port == port and endpoint.weight:
                return endpoint
        return None
