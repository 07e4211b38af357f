"""Routes of a virtual service as routes of a service, by the hosts that it is called by. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.importing.appmesh.group import Group, Virtual, http_hosts
from sidecar.importing.appmesh.nodes import Node
from sidecar.importing.appmesh.routes import RouteSpec
from sidecar.importing.draft import Front, Plain, RouteDraft
from sidecar.importing.names import numbered, route_name, word_of

_NO_ROUTE: Final[dict[str, Plain]] = {"respond": {"status": 404}}


def front_of(virtual: Virtual, group: Group) -> Front:
    """The hosts of a virtual service, and the routes that hold for them."""
    taken = {route.name for front in group.draft.fronts for route in front.routes}
    origin = f"{virtual.resource.label} ({virtual.resource.where})"
    if virtual.routes is None:
        return Front([virtual.host], _to_node(virtual, group, taken, origin), origin)
    routes: list[RouteDraft] = []
    hosts: list[str] = []
    is_closed = True
    asked = http_hosts(virtual.host, group)
    for spec in virtual.routes:
        if spec.is_stream:
            _put_stream(spec, virtual, group, taken, routes, hosts)
            continue
        if spec.port in group.tcp:
            hint = "look which port it should take requests at"
            _tell(spec, f"not imported: at port {spec.port} no HTTP is spoken", hint, is_lost=True)
            continue
        name = route_name(spec.name, group.draft.name, taken)
        taken.add(name)
        match = spec.match([virtual.host])
        is_closed = is_closed and bool(match)
        draft = RouteDraft(name, spec.origin, _matches(match, asked), _shares(spec, group), dict(spec.rest))
        draft.has_ports = all(target.port is not None for target in spec.targets)
        if not any(target.weight for target in spec.targets):
            # No share for anybody: Envoy has no cluster to choose, and answers so.
            draft.to, draft.rest = {}, {"respond": {"status": 503}}
        routes.append(draft)
    if is_closed and not virtual.is_stream:
        name = numbered("no-route", taken)
        routes.append(RouteDraft(name, origin, _matches({}, asked), {}, dict(_NO_ROUTE)))
    return Front(_declared(hosts, virtual, group), routes, origin)


def _declared(hosts: list[str], virtual: Virtual, group: Group) -> list[str]:
    """The host, which stands for itself and every port; or for a port at which no app listens, itself and the port."""
    if not virtual.is_stream or not hosts:
        return [virtual.host]
    found = (virtual.host if int(one.rpartition(":")[2]) in group.tcp else one for one in hosts)
    return list(dict.fromkeys(found))


def _to_node(virtual: Virtual, group: Group, taken: set[str], origin: str) -> list[RouteDraft]:
    """The one route of a virtual service that leads to one node; none where there is nothing to choose."""
    node = virtual.nodes[0]
    to = _weights([(node, None, 1)], group)
    is_mixed = bool(group.http and group.tcp)
    if not to and len(group.virtuals) == 1:
        return []
    asked: list[str] = []
    if is_mixed or len(group.virtuals) > 1:
        own = [port.number for port in node.ports]
        asked = [one for one in http_hosts(virtual.host, group) if any(number in group.http for number in own)]
        asked += [f"{virtual.host}:{number}" for number in group.tcp if number in own]
    route = route_name(f"to-{word_of(virtual.host)}", group.draft.name, taken)
    return [RouteDraft(route, origin, _matches({}, asked), to, is_stream=virtual.is_stream)]


def _put_stream(
    spec: RouteSpec, virtual: Virtual, group: Group, taken: set[str], routes: list[RouteDraft], hosts: list[str]
) -> None:
    """
    Put a route that shares connections out, and its host.

    A connection is known by the port that it is called at. If no app listens there, because the router's listener has
    another port than its nodes, a host with that port means the first of a service's ports; no other can be had so.
    """
    own = spec.targets[0].tcp_port
    called = spec.port or (virtual.tcp_ports[0] if len(virtual.tcp_ports) == 1 else own)
    host = f"{virtual.host}:{called}"
    if not _can_lead(spec, called, group):
        hint = f"call it by port {own}, or let its app listen at {called}"
        _tell(spec, f"not imported: connections to {host} cannot be led to port {own} of its nodes", hint, is_lost=True)
        return
    if host in hosts:
        _tell(spec, f"left out: another route takes every connection to {host} before it", "remove one of the two")
        return
    hosts.append(host)
    name = route_name(spec.name, group.draft.name, taken)
    taken.add(name)
    is_only = len(group.virtuals) == len(group.draft.ports) == len(virtual.routes or ()) == 1
    matches = [] if is_only else _matches({}, [host])
    routes.append(RouteDraft(name, spec.origin, matches, _shares(spec, group), is_stream=True))


def _can_lead(spec: RouteSpec, called: int, group: Group) -> bool:
    """Whether connections to a port come to those of the route's nodes; each instance has its own first one."""
    if not group.http and (called == group.first or called not in group.tcp):
        return all(target.tcp_port == group.first_of(target.node) for target in spec.targets)
    return called in group.tcp and all(target.tcp_port == called for target in spec.targets)


def _tell(spec: RouteSpec, what: str, hint: str, *, is_lost: bool = False) -> None:
    if spec.holder is not None:
        spec.holder.account.assume(spec.holder.path, what, hint, is_lost=is_lost)


def _matches(match: dict[str, Plain], hosts: Sequence[str]) -> list[dict[str, Plain]]:
    """One for each host: a match is for one of a service's ports."""
    if not hosts or "host" in match:
        return [match] if match else []
    return [{"host": [host], **match} for host in hosts]


def _shares(spec: RouteSpec, group: Group) -> dict[str, float]:
    return _weights([(target.node, target.port, target.weight) for target in spec.targets], group)


def _weights(targets: Sequence[tuple[Node, int | None, int]], group: Group) -> dict[str, float]:
    """Weights by instance; none where there is only all."""
    found: dict[str, float] = {}
    for node, port, weight in targets if group.instances else ():
        name = group.instances[node.resource.name, port]
        found[name] = found.get(name, 0) + weight
    return found
