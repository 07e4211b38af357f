"""
Where a request would go, decided by the code that decides on live ones, and whether it is admitted there. *Cold, pure.*
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.compile.routing_tests import taken_route
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError, Problem
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Direction
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.hosts import authority_of, find_host, hosts_of
from sidecar.mesh.mesh import Mark, Mesh
from sidecar.mesh.verify import tried
from sidecar.redact import HIDDEN, is_sensitive
from sidecar.routing.actions import Forward
from sidecar.routing.match import Match


@dataclass(frozen=True, slots=True)
class Admission:
    """
    Whether a called service admits the caller.

    Attributes:
        service: Which is called.
        is_admitted: Whether it does.
        why: What says so.
        origin: Where that is written.
    """

    service: str
    is_admitted: bool
    why: str
    origin: Mark


@dataclass(frozen=True, slots=True)
class Destination:
    """
    An upstream that the request may go to.

    Attributes:
        upstream: Its name in the compiled file.
        share: Of requests like this one, 0 to 1.
        discover: Where its endpoints come from, for people; empty: the file says it.
    """

    upstream: str
    share: float
    discover: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What becomes of a request.

    Attributes:
        caller: Who sends it.
        route: Name of the route that it takes; empty for none.
        origin: Where that is written; None for an upstream's own hosts, for `passthrough` and for no route.
        match: What the route asks of requests, one text for each of its matches.
        destinations: Where it may go; empty for a route that answers itself.
        status: What it is answered with by the caller's sidecar; None if it is sent on.
        timeout_s: For the whole exchange; None: no limit.
        admissions: Of each service that it may go to, or would go to if the caller's sidecars were told of it.
        note: What else there is to say; may be empty.
    """

    caller: str
    route: str
    origin: Mark | None
    match: tuple[str, ...]
    destinations: tuple[Destination, ...]
    status: int | None
    timeout_s: float | None
    admissions: tuple[Admission, ...]
    note: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether the request reaches who may answer it: sent on and, where the mesh knows it, admitted."""
        return self.status is None and all(one.is_admitted for one in self.admissions)


def explain(mesh: Mesh, caller: str, request: RoutingTest, version: str = "") -> Explanation:
    """
    Decide on one request.

    Args:
        caller: Who sends it.
        request: A test of which only the request counts.
        version: Of the caller's app.

    Raises:
        ConfigError: There is no such caller, its compiled file is not good, or this is no request.
    """
    compiled = compile_service(mesh, caller, version)
    _, plan = tried(compiled)
    try:
        found = taken_route(request, plan.sides[Direction.OUTBOUND])
    except ProtocolError as error:
        message = f"the request is not valid: {error.detail or error.reason.text}"
        raise ConfigError([Problem("<request>", 1, 1, "", message)]) from None
    untold, note = _untold(mesh, caller, request, compiled.callees)
    if isinstance(found, Reason):
        return Explanation(caller, "", None, (), (), found.status, None, untold, note)
    origin = compiled.origin_of_route(found.name)
    match = tuple(_match_text(one) for one in found.matches)
    action = found.action
    if not isinstance(action, Forward):
        return Explanation(caller, found.name, origin, match, (), action.status, None, ())
    total = sum(target.weight for target in action.targets)
    destinations = tuple(
        Destination(target.name, target.weight / total, _found_by(target.name, compiled.discovers))
        for target in action.targets
        if target.weight > 0
    )
    services = dict.fromkeys(name for one in destinations if (name := one.upstream.partition(".")[0]) in mesh.placed)
    admissions = tuple(_admission(mesh, caller, name) for name in services)
    return Explanation(
        caller, found.name, origin, match, destinations, None, action.timeout_s, admissions or untold, note
    )


def _untold(
    mesh: Mesh, caller: str, request: RoutingTest, callees: tuple[str, ...]
) -> tuple[tuple[Admission, ...], str]:
    """Of a service whose host this is, but of which the caller's sidecars are not told: whether it would admit it."""
    owners = {host: name for name, one in mesh.services.items() for host in hosts_of(name, one)}
    owner = find_host(authority_of(request), owners)
    if owner is None or owner in callees:
        return (), ""
    if owner == caller:
        return (), "that is its own host: its sidecars are not told of their own service"
    admission = _admission(mesh, caller, owner)
    why = f"`calls` of `{caller}` does not name it" if admission.is_admitted else "it does not admit them"
    return (admission,), f"that is a host of `{owner}`, of which its sidecars are not told: {why}"


def _match_text(match: Match) -> str:
    """What a route asks of requests; values of secrets are not shown."""
    shown = []
    for condition in match.parts():
        name = condition.part.partition(" ")[2]
        shown.append(f"{condition.part} {HIDDEN if name and is_sensitive(name) else condition.text}")
    return ", ".join(shown)


def _found_by(upstream: str, discovers: Mapping[str, EndpointsOrigin]) -> str:
    return origin_text(discovers[upstream]) if upstream in discovers else ""


def origin_text(origin: EndpointsOrigin) -> str:
    """Where endpoints come from, for people: `registered, version v1`."""
    if origin.kind == "union":
        return " and ".join(origin_text(part) for part in origin.parts)
    if origin.kind == "endpoints":
        return "endpoints"
    return ", ".join([origin.kind, *(f"{key} {value}" for key, value in origin.values.items())])


def _admission(mesh: Mesh, caller: str, callee: str) -> Admission:
    placed = mesh.placed[callee]
    is_admitted = mesh.admits(callee, caller)
    if placed.service.callers is None:
        return Admission(callee, is_admitted, f"the mesh's `access` is `{mesh.access}`", mesh.mark("access"))
    named = ", ".join(placed.service.callers) or "nobody"
    return Admission(callee, is_admitted, f"its `callers` are {named}", placed.mark("callers", at_key=True))
