"""Routes that are attached to Services, rule by rule, as routes of a service. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sidecar.importing.draft import Plain, RouteDraft
from sidecar.importing.field import Field, WrongError
from sidecar.importing.gateway_api.filters import merged, put_filters, put_persistence, put_times
from sidecar.importing.gateway_api.matches import ranked_matches, spell_out
from sidecar.importing.gateway_api.precedence import Ranked, in_order
from sidecar.importing.gateway_api.services import Kept
from sidecar.importing.gateway_api.sides import sides_of
from sidecar.importing.kubernetes import Object
from sidecar.importing.names import route_name

GROUP: Final = "gateway.networking.k8s.io"
_NOWHERE: Final[dict[str, Plain]] = {"respond": {"status": 500}}
"""What the specification answers where a rule has no backend that it may use."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who may refer to what in a namespace."""

    namespace: str
    sources: tuple[tuple[str, str], ...]
    services: tuple[str, ...]

    def admits(self, kind: str, source: str, target: tuple[str, str]) -> bool:
        """Whether a route of this kind and namespace may refer to a Service; no names: to all."""
        if self.namespace != target[0] or (kind, source) not in self.sources:
            return False
        return "" in self.services or target[1] in self.services


@dataclass(slots=True)
class Cluster:
    """All Services and grants that were given."""

    services: dict[tuple[str, str], Kept]
    grants: list[Grant] = field(default_factory=list)


@dataclass(slots=True)
class Rule:
    """A rule of a route, for one Service."""

    name: str
    origin: str
    to: dict[str, float]
    rest: dict[str, Plain]
    matches: list[Ranked]
    ports: list[int] = field(default_factory=list)


def rules_of(route: Object, parent: Kept, ports: list[int], cluster: Cluster) -> list[Rule]:
    """
    The rules of a route for one Service.

    Args:
        ports: Those that the route is attached to; none: all.
    """
    spec = route.root.need("spec")
    found: list[Rule] = []
    for index, rule in enumerate(spec.each("rules")):
        try:
            found.append(_rule(route, rule, index, parent, ports, cluster))
        except WrongError as error:
            error.give_up(rule)
    return found


def _rule(route: Object, rule: Field, index: int, parent: Kept, ports: list[int], cluster: Cluster) -> Rule:
    origin = f"{route.kind} {route.namespace}/{route.name} ({rule.node.file}:{rule.node.line})"
    matches = ranked_matches(rule, index, route)
    name = rule.get("name")
    if name is not None:
        name.kept("the route's name")
    rest: dict[str, Plain] = {}

    def instance(reference: Field) -> str | None:
        return _instance(reference, route, parent, cluster, origin)

    is_prefixed = all(one.path_kind == "prefix" for one in matches)
    put_filters(rule, rest, instance, has_prefixes=is_prefixed)
    word = f"{route.name}.{index + 1}" if name is None else f"{route.name}.{name.text()}"
    if "redirect" in rest:
        rule.drop("backendRefs", "a redirection goes nowhere else")
        return _redirection(rule, word, origin, rest, matches, ports)
    sides = sides_of(rule, instance, rest.get("rewrite"), has_prefixes=is_prefixed)
    if len(sides) == 1 and "redirect" in sides[0] and sides[0]["weight"]:
        alone = {**rest, "redirect": sides[0]["redirect"]}
        if "response_headers" in sides[0]:
            alone["response_headers"] = merged(sides[0]["response_headers"], rest.get("response_headers"))
        return _redirection(rule, word, origin, alone, matches, ports)
    if not any(side["weight"] for side in sides):
        for key in ("timeouts", "retry", "sessionPersistence"):
            rule.drop(key, "it has no effect where a rule has no backend")
        return Rule(word, origin, {}, dict(_NOWHERE), matches, ports)
    put_times(rule, rest)
    put_persistence(rule, rest, len(sides))
    _give_prefixes(matches, [rest, *sides])
    to: dict[str, float] = {}
    if all(side.keys() == {"upstream", "weight"} for side in sides):
        to = {str(side["upstream"]): side["weight"] for side in sides}  # type: ignore[misc]
    else:
        rest["to"] = [*sides]
    return Rule(word, origin, to, rest, matches, ports)


def _redirection(
    rule: Field, word: str, origin: str, rest: dict[str, Plain], matches: list[Ranked], ports: list[int]
) -> Rule:
    for key in ("timeouts", "retry", "sessionPersistence"):
        rule.drop(key, "it has no effect beside a redirection")
    kept = {key: value for key, value in rest.items() if key in ("redirect", "response_headers")}
    _give_prefixes(matches, [kept])
    return Rule(word, origin, {}, kept, matches, ports)


def _give_prefixes(matches: list[Ranked], changes: list[dict[str, Plain]]) -> None:
    """Where a prefix is replaced, a match without a path has one."""
    if any(map(_changes_prefix, changes)):
        for one in matches:
            call = one.match.get("grpc")
            if call == {}:
                spell_out(one.match)
            if not call:
                one.match.setdefault("path", {"prefix": "/"})


def _changes_prefix(rest: Mapping[str, Plain]) -> bool:
    changes = (rest.get("rewrite"), rest.get("redirect"))
    return any(isinstance(change, dict) and "prefix" in change for change in changes)


def _instance(reference: Field, route: Object, parent: Kept, cluster: Cluster, origin: str) -> str | None:
    """The instances that a reference means; None, and told as lost, if it means none that it may."""
    group, kind, name = reference.get("group"), reference.get("kind"), reference.need("name")
    namespace, port = reference.get("namespace"), reference.get("port")
    for word in (group, kind):
        if word is not None:
            word.kept("says what it is")
    if (kind is not None and kind.text() != "Service") or (group is not None and group.text() not in ("", "core")):
        what = kind.text() if kind is not None else f"a resource of `{group.text() if group is not None else ''}`"
        reference.dropped(f"a {what} is nothing that a sidecar calls", "refer to a Service", is_lost=True)
        return None
    key = (route.namespace if namespace is None else namespace.text(), name.text())
    if key[0] != route.namespace and not any(
        grant.admits(route.kind, route.namespace, key) for grant in cluster.grants
    ):
        message = (
            f"no ReferenceGrant of the namespace `{key[0]}` lets a {route.kind} of `{route.namespace}` refer there"
        )
        reference.dropped(message, "give the file that has it, too, or ask for one", is_lost=True)
        return None
    other = cluster.services.get(key)
    if other is None:
        message = f"there is no Service `{key[0]}/{key[1]}` that is imported, which {route.kind} {route.name} names"
        reference.dropped(message, "give the file that has it, too", is_lost=True)
        return None
    number = None if port is None else port.integer()
    if number is not None and not 1 <= number <= 65535:
        raise WrongError(port or reference, f"expected a port from 1 to 65535, found {number}")
    if number is not None and other.ports and other.port(number) is None:
        raise WrongError(port or reference, f"the Service `{key[0]}/{key[1]}` has no port {number} that is imported")
    for one in (name, namespace, port):
        if one is not None:
            one.kept("to: the Service's endpoints")
    return parent.instance(other, number, origin)


def put_routes(parent: Kept, rules: list[Rule]) -> list[RouteDraft]:
    """The routes of a service, by the specification's precedence, and 404 for what matches none."""
    by_place = {(rule.matches[0].route, rule.matches[0].rule, tuple(rule.ports)): rule for rule in rules}
    found: list[RouteDraft] = []
    taken: set[str] = set()
    for ports in sorted({tuple(rule.ports) for rule in rules}, key=lambda one: (not one, one)):
        ranked = [match for rule in rules if tuple(rule.ports) == ports for match in rule.matches]
        for group in in_order(ranked):
            rule = by_place[group[0].route, group[0].rule, ports]
            name = route_name(rule.name, parent.draft.name, taken)
            taken.add(name)
            matches = [_with_ports(one.match, parent, ports) for one in group]
            draft = RouteDraft(name, rule.origin, [] if {} in matches else matches, rule.to, dict(rule.rest))
            found.append(draft)
    if all(route.matches for route in found):
        name = route_name("no-route", parent.draft.name, taken)
        found.append(RouteDraft(name, "", [], {}, {"respond": {"status": 404}}))
    return found


def _with_ports(match: dict[str, Plain], parent: Kept, ports: tuple[int, ...]) -> dict[str, Plain]:
    if not ports:
        return dict(match)
    hosts = [*parent.draft.fronts[0].hosts]
    return {"host": [f"{host}:{port}" for host in hosts for port in ports], **match}
