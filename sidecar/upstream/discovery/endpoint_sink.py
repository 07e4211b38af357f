"""Who hears of endpoints by name, whatever the process: one data path here, or several in workers. *Cold.*"""

from __future__ import annotations

from typing import Protocol

from sidecar.upstream.discovery.discovery import Discovery
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source


class EndpointSink(Protocol):
    """Takes what is known of names that upstreams `discover`; `workers.endpoints` has the one of a supervisor."""

    def tell(self, name: str, found: EndpointSet) -> None:
        """
        These are the endpoints of a name from now on, whether an upstream follows it already, later or never.

        Call it on the event loop; it does not wait. The same again is no change.
        """


class OwnEndpoints:
    """
    The sink of a process that has a data path.

    Args:
        discovery: Of its registry.
    """

    __slots__ = ("_discovery",)

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    def tell(self, name: str, found: EndpointSet) -> None:
        """As `EndpointSink.tell`."""
        self._discovery.tell(Source("name", name), found)
