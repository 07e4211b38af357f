"""
What becomes one service: virtual services that share nodes, these nodes, and their ports. *Cold, pure.*

A host without a number means the first of a service's ports, if that speaks HTTP. What is no HTTP is known by host and
number alone, so such ports come last, whatever the order of the listeners was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.importing.appmesh.nodes import Node, Port
from sidecar.importing.appmesh.routes import RouteSpec
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.draft import ServiceDraft
from sidecar.importing.field import WrongError

_FIRST: Final = {False: "http", True: "tcp"}
"""What the first port is called, by whether it speaks something else than HTTP; further ones are `pNUMBER`."""


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

    def first_of(self, node: Node) -> int:
        """Where the app of a node listens for what comes for the first port of the service."""
        numbers = [port.number for port in node.ports]
        return self.first if not self.http and self.first in numbers else numbers[0]


def put_ports(group: Group) -> None:
    """Write the ports of all nodes, by their numbers; tells whose first one is not the service's."""
    listed = [(node, port) for node in group.nodes for port in node.ports]
    listed.sort(key=lambda one: one[1].is_stream)
    for node, port in listed:
        if port.number in (group.tcp if not port.is_stream else group.http):
            _tell_other_protocol(node, port)
        elif port.number not in (*group.http, *group.tcp):
            name = f"p{port.number}" if group.draft.ports else _FIRST[port.is_stream]
            (group.tcp if port.is_stream else group.http).append(port.number)
            address = f"127.0.0.1:{port.number}"
            group.draft.ports[name] = (
                address if port.protocol == "http" else {"app": address, "protocol": port.protocol}
            )
    for node in group.nodes:
        _tell_first(node, group)


def _tell_other_protocol(node: Node, port: Port) -> None:
    root = node.resource.root
    root.account.assume(
        root.path,
        f"the service's port {port.number} speaks {'HTTP' if port.is_stream else 'TCP'}, where this node's does not",
        "make two services of them, or give one of the apps another port",
        is_lost=True,
    )


def _tell_first(node: Node, group: Group) -> None:
    """An own sidecar hands what comes to the first port to that address, so it has to know a different one."""
    if not node.ports or (group.http and node.ports[0].is_stream) or group.first_of(node) == group.first:
        return
    own, root = group.first_of(node), node.resource.root
    root.account.assume(
        root.path,
        f"the service's first port is 127.0.0.1:{group.first}, where this node's is 127.0.0.1:{own}",
        f"say `inbound: {{app: 127.0.0.1:{own}}}` in the own file of its sidecars",
    )


def called_ports(router: Resource) -> list[int]:
    """At which ports a virtual router takes connections that are no HTTP's, by its listeners."""
    found: list[int] = []
    try:
        for listener in router.spec.each("listeners") if router.spec is not None else ():
            mapping = listener.get("portMapping")
            if mapping is not None and mapping.need("protocol").text().lower() == "tcp":
                found.append(mapping.need("port").integer())
    except WrongError:
        # It says nothing that can be understood: then the ports of its nodes hold.
        return []
    return [number for number in found if 1 <= number <= 65535]


def http_hosts(host: str, group: Group) -> list[str]:
    """By which hosts the ports of HTTP are called, each by one; empty if none has to be said."""
    if not group.tcp and len(group.virtuals) == 1:
        return []
    return [host, *(f"{host}:{number}" for number in group.http[1:])] if group.http else []
