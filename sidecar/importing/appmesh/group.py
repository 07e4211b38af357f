"""What becomes one service: virtual services that share nodes, and these nodes. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.importing.appmesh.nodes import Node
from sidecar.importing.appmesh.routes import RouteSpec
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.draft import ServiceDraft


@dataclass(slots=True, eq=False)
class Virtual:
    """
    A virtual service that leads somewhere.

    Attributes:
        resource: What it was.
        host: By which apps call it.
        routes: Of its router; None: it leads to one node.
        nodes: To which it may lead.
        router: Name of its router; empty: it leads to one node.
        tcp_ports: At which its router takes connections that are no HTTP's.
    """

    resource: Resource
    host: str
    routes: list[RouteSpec] | None
    nodes: list[Node]
    router: str = ""
    tcp_ports: list[int] = field(default_factory=list)

    @property
    def is_stream(self) -> bool:
        """Whether nothing of HTTP leads on from here."""
        if self.routes is None:
            return self.nodes[0].ports[0].is_stream
        return all(route.is_stream for route in self.routes)


@dataclass(slots=True, eq=False)
class Group:
    """
    What becomes one service.

    Attributes:
        virtuals: Virtual services, by host.
        nodes: Virtual nodes, by name.
        instances: Names of instances, by name of the node and port; empty: there are only all.
        http: Numbers of its ports that speak HTTP, in the order of its file.
        tcp: Numbers of those that speak something else; they come after.
    """

    virtuals: list[Virtual]
    nodes: list[Node]
    draft: ServiceDraft = field(default_factory=lambda: ServiceDraft("", ""))
    instances: dict[tuple[str, int | None], str] = field(default_factory=dict)
    http: list[int] = field(default_factory=list)
    tcp: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The number of its first port."""
        return (self.http or self.tcp)[0]
