"""
Virtual gateways as services that only call. *Cold, pure.*

A gateway has no app. Its sidecars listen for what comes from outside (`calls.X.listen`) and route it. A route of a
gateway leads to a virtual service, whose own routes come after it; here routes are not tried twice, so each route of
the gateway is written once for each route of the service that it leads to, with both matches in one (`crossing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.importing.appmesh.crossing import Crossed, Outer, cross
from sidecar.importing.appmesh.group import Group, Virtual
from sidecar.importing.appmesh.index import Index
from sidecar.importing.appmesh.matches import grpc_match, hostname_of, http_match
from sidecar.importing.appmesh.nodes import drop_client_policy
from sidecar.importing.appmesh.routes import UNSET_PRIORITY
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.appmesh.values import DEFAULT_TIMEOUT_S
from sidecar.importing.checked import PATH, checked
from sidecar.importing.draft import CallDraft, Plain, RouteDraft, ServiceDraft
from sidecar.importing.field import Field, WrongError
from sidecar.importing.names import route_name, service_name, word_of
from sidecar.importing.spelling import duration

_SPECS: Final = ("httpRoute", "http2Route", "grpcRoute")
_PROTOCOLS: Final = ("http", "http2", "grpc")
"""App Mesh has no TCP at a gateway."""
_NO_ROUTE: Final[dict[str, Plain]] = {"respond": {"status": 404}}


@dataclass(slots=True)
class _Route:
    resource: Resource
    priority: int
    outer: Outer
    virtual: Virtual
    group: Group


def gateway_service(gateway: Resource, index: Index, groups: list[Group], taken: set[str]) -> ServiceDraft | None:
    """The service that a gateway becomes; None, and told as lost, if nothing of it can be imported."""
    try:
        return _made(gateway, index, groups, taken)
    except WrongError as error:
        error.give_up()
        return None


def _made(gateway: Resource, index: Index, groups: list[Group], taken: set[str]) -> ServiceDraft:
    if gateway.spec is None:
        raise WrongError(gateway.root, "expected `spec`, found none")
    hosts = {virtual.host for group in groups for virtual in group.virtuals}
    name = service_name(word_of(gateway.short_name or gateway.name), taken | hosts)
    draft = ServiceDraft(name, f"{gateway.label} ({gateway.where})", calls={})
    ports = _ports(gateway.spec)
    defaults = gateway.spec.get("backendDefaults")
    if defaults is not None:
        drop_client_policy(defaults)
    routes = _routes(gateway, index, groups)
    if not routes:
        raise WrongError(gateway.root, "no gateway route of it can be imported")
    assert draft.calls is not None
    calls = draft.calls
    for name in sorted({route.group.draft.name for route in routes}):
        calls[name] = CallDraft(draft.origin)
    taken_names: set[str] = set()
    # Every request at such an address is taken for the service that has it: the routes lead on to the others.
    for (number, found), (called, call) in zip(ports, calls.items(), strict=False):
        call.values["listen"] = f"0.0.0.0:{number}"
        found.kept(f"calls.{called}.listen: 0.0.0.0:{number}")
        call.routes = _written(draft.name, routes, number, called, taken_names)
    for _, found in ports[len(calls) :]:
        hint = "make a gateway of its own of this listener"
        found.dropped("it calls fewer services than it has listeners: there is no address left", hint, is_lost=True)
    return draft


def _ports(spec: Field) -> list[tuple[int, Field]]:
    found: list[tuple[int, Field]] = []
    for listener in spec.each("listeners"):
        mapping = listener.need("portMapping")
        number, protocol = mapping.need("port"), mapping.need("protocol")
        if not 1 <= number.integer() <= 65535:
            raise WrongError(number, f"expected a port from 1 to 65535, found {number.integer()}")
        if protocol.text().lower() not in _PROTOCOLS:
            raise WrongError(protocol, f"expected {', '.join(_PROTOCOLS)}, found `{protocol.text()}`")
        protocol.kept("HTTP/1.1 and HTTP/2 are served there")
        found.append((number.integer(), number))
        tls = listener.get("tls")
        if tls is not None:
            hint = "end TLS in a load balancer before it, or use a listener with `tls` (docs/configuration.md)"
            tls.dropped("the address of a call takes no TLS", hint, is_lost=True)
        listener.drop("healthCheck", "a sidecar tells itself whether it is ready: GET /ready at port 15020")
        hint = "`limits: {max_connections: ...}` in the own file of its sidecars"
        listener.drop("connectionPool", "a gateway limits what it calls, not what comes", hint)
    return found


def _routes(gateway: Resource, index: Index, groups: list[Group]) -> list[_Route]:
    owners = {virtual.resource.name: (virtual, group) for group in groups for virtual in group.virtuals}
    found: list[_Route] = []
    for resource in index.gateway_routes:
        if not belongs(resource, gateway, index):
            continue
        try:
            found.append(_read(resource, index, owners))
        except WrongError as error:
            error.give_up()
    return sorted(found, key=lambda one: (one.priority, one.outer.breadth, one.resource.name))


def belongs(route: Resource, gateway: Resource, index: Index) -> bool:
    """Whether a route is this gateway's: by name; by reference; or, where it says none, because there is no other."""
    if route.owner:
        return route.owner == gateway.name
    if route.spec is None:
        return False
    if route.spec.get("virtualGatewayRef") is not None:
        try:
            found, named = index.named(route.spec, "VirtualGateway", route)
        except WrongError:
            return False
        named.kept("says whose it is")
        return found is gateway
    return len(index.all("VirtualGateway")) == 1


def _read(resource: Resource, index: Index, owners: dict[str, tuple[Virtual, Group]]) -> _Route:
    if resource.spec is None:
        raise WrongError(resource.root, "expected `spec`, found none")
    given = [(kind, one) for kind in _SPECS if (one := resource.spec.get(kind)) is not None]
    if len(given) != 1:
        raise WrongError(resource.spec, f"expected one of {', '.join(_SPECS)}, found {len(given)}")
    kind, block = given[0]
    action, match_block = block.need("action"), block.get("match")
    target = action.need("target")
    called, named = index.named(target.need("virtualService"), "VirtualService", resource)
    if called.name not in owners:
        raise WrongError(named, f"{called.label} ({called.where}) is not imported")
    virtual, group = owners[called.name]
    if virtual.is_stream:
        hint = "let what is before the gateway lead there itself"
        raise WrongError(named, f"{called.label} ({called.where}) speaks no HTTP, and a gateway nothing else", hint)
    match: dict[str, Plain] = {}
    if match_block is not None:
        match = grpc_match(match_block, ("x",)) if kind == "grpcRoute" else http_match(match_block, ("x",))
    asked = match.pop("host", None)
    port = int(str(asked[0]).partition(":")[2]) if isinstance(asked, list) else None
    hostname = hostname_of(match_block) if match_block is not None else None
    if hostname is not None:
        headers = match.setdefault("headers", {})
        assert isinstance(headers, dict)
        if "host" in headers:
            raise WrongError(block, "expected one of `hostname` and a header `host`, found both")
        headers["host"] = {"regex": hostname}
    outer = Outer(match, port, _target_port(target), virtual.host)
    _put_rewrite(action.get("rewrite"), match, outer, kind)
    priority = resource.spec.get("priority")
    number = UNSET_PRIORITY if priority is None else priority.integer()
    if priority is not None:
        priority.kept("the order of routes")
    named.kept("to: where the service's own routes lead")
    return _Route(resource, number, outer, virtual, group)


def _target_port(target: Field) -> int | None:
    port = target.get("port")
    if port is None:
        return None
    port.kept("which of the service's routes come after it")
    return port.integer()


def _put_rewrite(rewrite: Field | None, match: dict[str, Plain], outer: Outer, kind: str) -> None:
    """What App Mesh rewrites: the host to the service's name and a prefix to `/`, where it is not told otherwise."""
    hostname = rewrite.get("hostname") if rewrite is not None else None
    default = hostname.get("defaultTargetHostname") if hostname is not None else None
    if default is not None and default.text().upper() == "DISABLED":
        outer.host = ""
        default.kept("no rewrite.host")
    elif default is not None:
        default.kept("rewrite.host")
    if kind == "grpcRoute":
        return
    tested = match.get("path")
    is_prefix = isinstance(tested, dict) and "starts_with" in tested
    prefix = rewrite.get("prefix") if rewrite is not None else None
    path = rewrite.get("path") if rewrite is not None else None
    if is_prefix:
        outer.prefix = "/"
    value = prefix.get("value") if prefix is not None else None
    usual = prefix.get("defaultPrefix") if prefix is not None else None
    if usual is not None:
        usual.kept("rewrite.prefix" if usual.text().upper() == "ENABLED" else "no rewrite.prefix")
        if usual.text().upper() == "DISABLED":
            outer.prefix = None
    if value is not None:
        if is_prefix:
            outer.prefix = checked(value, PATH)
            value.kept("rewrite.prefix")
        elif value.text() == "/":
            value.kept("every path as it is")
        else:
            outer.prefix_of_all = checked(value, PATH)
            value.kept("rewrite.regex: before every path")
    exact = path.get("exact") if path is not None else None
    if exact is not None:
        outer.path = checked(exact, PATH)
        outer.prefix = None
        exact.kept("rewrite.path")


def _written(name: str, routes: list[_Route], number: int, called: str, taken: set[str]) -> list[RouteDraft]:
    found: list[RouteDraft] = []
    for route in routes:
        if route.outer.port not in (None, number):
            continue
        crossed = cross(route.outer, _inner(route), route.group.draft.name, route.group.http[1:])
        origin = f"{route.resource.label} ({route.resource.where})"
        for one in crossed:
            if one.lost:
                route.resource.root.account.assume(
                    route.resource.root.path, f"the route `{one.name}` behind it is left out: {one.lost}",
                    "write it by hand", is_lost=True,
                )  # fmt: skip
                continue
            words = [f"{called}", route.resource.short_name or route.resource.name, one.name]
            taken.add(word := route_name(".".join(words[1:]).strip("."), name, taken))
            found.append(_draft(word, origin, one))
    last = route_name("no-route", name, taken)
    taken.add(last)
    found.append(RouteDraft(last, "", [], {}, dict(_NO_ROUTE)))
    return found


def _inner(route: _Route) -> list[RouteDraft]:
    """The routes of the service, those of this host; one to all where it has none."""
    for front in route.group.draft.fronts:
        if route.virtual.host in front.hosts and front.routes:
            return [one for one in front.routes if not one.is_stream]
    return [RouteDraft("", "")]


def _draft(word: str, origin: str, one: Crossed) -> RouteDraft:
    rest = dict(one.rest)
    if "respond" not in rest:
        rest.setdefault("timeout", duration(DEFAULT_TIMEOUT_S))
    return RouteDraft(word, origin, [one.match] if one.match else [], one.to, rest)
