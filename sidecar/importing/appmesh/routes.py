"""Routes of virtual routers: their order, what they match, where they lead. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sidecar.importing.appmesh.index import Index
from sidecar.importing.appmesh.matches import asked_path, grpc_match, http_match, port_of
from sidecar.importing.appmesh.nodes import Node
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.appmesh.values import drop_tcp_idle, put_retry, put_timeout
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError

UNSET_PRIORITY: Final = 1001
"""A route without one comes after all that have one, which go up to 1000."""
_SPECS: Final = ("httpRoute", "http2Route", "grpcRoute", "tcpRoute")


@dataclass(frozen=True, slots=True)
class Target:
    """
    A node to which a route leads.

    Attributes:
        node: Which.
        weight: Its share.
        port: Of several ports of HTTP the one that is meant, where instances of its own stand for it.
        tcp_port: Where connections go that are no HTTP's; 0 for a route of requests.
    """

    node: Node
    weight: int
    port: int | None
    tcp_port: int = 0


@dataclass(slots=True)
class RouteSpec:
    """
    A route of a virtual router, understood.

    Attributes:
        name: Of the route.
        origin: For a comment.
        priority: Lower is earlier.
        match: What a request must be; hosts are put in by who calls the service.
        targets: Where it leads.
        rest: Timeout, retry.
        holder: Its block in the input.
        is_stream: It shares connections out that are no HTTP's.
        port: At which it takes requests or connections; None: at any.
    """

    name: str
    origin: str
    priority: int
    match: Callable[[Sequence[str]], dict[str, Plain]]
    targets: list[Target]
    rest: dict[str, Plain] = field(default_factory=dict)
    holder: Field | None = None
    is_stream: bool = False
    port: int | None = None


def routes_of(router: Resource, index: Index, nodes: dict[str, Node]) -> list[RouteSpec]:
    """
    The routes of a virtual router, in the order in which they are tried.

    By priority. App Mesh leaves the order of equal ones open; here the more particular comes first, then the name, and
    it is told.
    """
    found: list[tuple[Field | None, RouteSpec]] = []
    for resource in index.routes.get(router.name, ()):
        _take(resource, resource.spec or resource.root, resource.name, index, nodes, found)
    if router.spec is not None:
        inline: set[str] = set()
        for one in router.spec.each("routes"):
            try:
                name = one.need("name")
                if name.text() in inline:
                    raise WrongError(name, f"a second route `{name.text()}` of one router", "remove one of the two")
                inline.add(name.text())
                name.kept("name")
            except WrongError as error:
                error.give_up(one)
                continue
            _take(router, one, name.text(), index, nodes, found)
    found.sort(key=lambda one: (one[1].priority, _breadth(one[1]), one[1].name))
    # Requests and connections never ask for the same route.
    counts: dict[tuple[int, bool], int] = {}
    for _, spec in found:
        key = (spec.priority, spec.is_stream)
        counts[key] = counts.get(key, 0) + 1
    for field_, spec in found:
        _tell_order(field_, spec, counts[spec.priority, spec.is_stream] > 1)
    return [spec for _, spec in found]


def _take(
    resource: Resource, holder: Field, name: str, index: Index, nodes: dict[str, Node],
    found: list[tuple[Field | None, RouteSpec]],
) -> None:  # fmt: skip
    try:
        priority = holder.get("priority")
        spec = _read(resource, holder, name, index, nodes)
        if priority is not None:
            spec.priority = priority.integer()
        found.append((priority, spec))
    except WrongError as error:
        error.give_up(holder)


def _read(resource: Resource, holder: Field, name: str, index: Index, nodes: dict[str, Node]) -> RouteSpec:
    given = [(kind, one) for kind in _SPECS if (one := holder.get(kind)) is not None]
    if len(given) != 1:
        raise WrongError(holder, f"expected one of {', '.join(_SPECS)}, found {len(given)}")
    kind, block = given[0]
    match = block.get("match")
    port = port_of(match) if match is not None else None
    origin = f"route {name} of {resource.label} ({holder.node.file}:{holder.node.line})"
    if resource.kind == "Route":
        origin = f"{resource.label} ({resource.where})"
    if kind == "tcpRoute":
        drop_tcp_idle(block.get("timeout"))
        targets = _targets(block.need("action"), resource, index, nodes, _stream_target)
        if not any(target.weight for target in targets):
            hint = "give a target a weight, or remove the route"
            raise WrongError(block.need("action"), "all weights are 0, so that no connection is taken", hint)
        if match is not None:
            match.keep("port", "match.host, with the port")
        return RouteSpec(name, origin, UNSET_PRIORITY, lambda _: {}, targets, {}, holder, True, port)
    rest: dict[str, Plain] = {}
    timeout = put_timeout(block.get("timeout"), rest)
    put_retry(block.get("retryPolicy"), timeout, rest)
    targets = _targets(block.need("action"), resource, index, nodes, partial(_http_target, called=port))
    if kind == "grpcRoute":
        matched = grpc_match(match, ())
    else:
        matched = http_match(match, ()) if match is not None else {}

    def with_hosts(hosts: Sequence[str]) -> dict[str, Plain]:
        """The same again, for these hosts: only a match that asks for a port needs them."""
        if match is None or "host" not in matched:
            return dict(matched)
        return grpc_match(match, hosts) if kind == "grpcRoute" else http_match(match, hosts)

    return RouteSpec(name, origin, UNSET_PRIORITY, with_hosts, targets, rest, holder, False, port)


def _targets(
    action: Field, resource: Resource, index: Index, nodes: dict[str, Node],
    at_port: Callable[[Node, int, Field | None, Field], Target],
) -> list[Target]:  # fmt: skip
    found: list[Target] = []
    for target in action.each("weightedTargets"):
        node_resource, named = index.named(target, "VirtualNode", resource)
        node = nodes[node_resource.name]
        weight, port = target.need("weight"), target.get("port")
        number = weight.integer()
        if not 0 <= number <= 100:
            raise WrongError(weight, f"expected a weight from 0 to 100, found {number}")
        if node.lost or not node.ports:
            why = f"{node.label} is not imported: {node.lost}" if node.lost else f"{node.label} has no listener"
            named.dropped(why, "", is_lost=True)
            weight.dropped("its node is not imported")
            continue
        named.kept("to")
        weight.kept("to")
        found.append(at_port(node, number, port, named))
    if not found:
        raise WrongError(action, "no target of it can be imported")
    return found


def _http_target(node: Node, weight: int, port: Field | None, named: Field, called: int | None) -> Target:
    """
    Where requests go.

    Args:
        called: At which port the route takes them; None: at any.
    """
    spoken = [one.number for one in node.ports if not one.is_stream]
    if not spoken:
        raise WrongError(named, f"{node.label} speaks no HTTP, and this is a route of requests")
    if port is None:
        return Target(node, weight, None)
    wanted = port.integer()
    if wanted not in spoken:
        raise WrongError(port, f"{node.label} has no listener of HTTP at {wanted}", "give one of its ports")
    if wanted == spoken[0]:
        port.kept("the first of its ports")
        return Target(node, weight, None)
    if not node.dns and wanted == called:
        port.kept("the port at which it is called")
        return Target(node, weight, None)
    if not node.dns:
        hint = "callers choose a port by its number: call it by the service's host and this port"
        raise WrongError(port, "a route cannot choose a further port of registered instances", hint)
    port.kept("an instance of its own for this port")
    return Target(node, weight, wanted)


def _stream_target(node: Node, weight: int, port: Field | None, named: Field) -> Target:
    """Where connections go that are no HTTP's."""
    spoken = [one.number for one in node.ports if one.is_stream]
    if not spoken:
        raise WrongError(named, f"{node.label} has no listener of TCP, and this is a route of connections")
    if port is None:
        return Target(node, weight, None, spoken[0])
    wanted = port.integer()
    if wanted not in spoken:
        raise WrongError(port, f"{node.label} has no listener of TCP at {wanted}", "give one of its ports")
    port.kept("where its app listens")
    return Target(node, weight, None, wanted)


def _breadth(spec: RouteSpec) -> tuple[int, int, int]:
    """Exact paths before patterns before prefixes, long before short; then by how much else is asked."""
    match = spec.match(("x",))
    path = asked_path(match)
    others = ((key, value) for key, value in match.items() if key not in ("path", "grpc"))
    asked = sum(len(value) if isinstance(value, dict) else 1 for _, value in others)
    if isinstance(path, str):
        return 0, -len(path), -asked
    if isinstance(path, dict):
        (kind, word), *_ = path.items()
        return (1 if kind == "regex" else 2), -len(str(word)), -asked
    return 3, 0, -asked


def _tell_order(priority: Field | None, spec: RouteSpec, is_tied: bool) -> None:
    tie = "others of this router have the same, whose order App Mesh leaves open: the more particular comes first"
    if priority is not None:
        if is_tied:
            priority.changed(f"the order of routes; {tie}", "look at the order, and give each a priority of its own")
        else:
            priority.kept("the order of routes")
    elif is_tied and spec.holder is not None:
        hint = "look at the order of the routes in the service's file"
        spec.holder.account.assume((*spec.holder.path, "priority"), f"none: the last; {tie}", hint)
