"""
Where a request would go, decided by the code that decides on live ones, whether it is admitted there, and what is done
with it there. *Cold, pure.*
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError, Problem
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Direction
from sidecar.insight.routing_tests import walked_by
from sidecar.mesh.access.admission import caller_text
from sidecar.mesh.arrival import Arrival, arrival, match_texts
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.hosts import authority_of, find_host, hosts_of
from sidecar.mesh.mesh import Mark, Mesh
from sidecar.mesh.verify import tried
from sidecar.routing.actions import Forward


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
        arrivals: What the sidecars of those services do with it; without those that have no sidecars.
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
    arrivals: tuple[Arrival, ...] = ()

    @property
    def is_answered(self) -> bool:
        """Whether the request reaches who may answer it: sent on and, where the mesh knows it, admitted and sent on."""
        is_passed = all(one.status is None for one in self.arrivals)
        return self.status is None and is_passed and all(one.is_admitted for one in self.unjudged)

    @property
    def unjudged(self) -> list[Admission]:
        """Of services whose own rules say nothing of the request: there `callers` are what is asked of people."""
        judged = {one.service for one in self.arrivals if one.verdict is not None}
        return [one for one in self.admissions if one.service not in judged]


def explain(mesh: Mesh, caller: str, request: RoutingTest, version: str = "") -> Explanation:
    """
    Decide on one request.

    Args:
        caller: Who sends it.
        request: A test of which only the request counts.
        version: Of the caller's app.

    Raises:
        ConfigError: There is no such caller, its compiled file or a callee's is not good, or this is no request.
    """
    compiled = compile_service(mesh, caller, version)
    _, plan = tried(compiled)
    try:
        found = walked_by(request.request, plan.sides[Direction.OUTBOUND]).found
    except ProtocolError as error:
        message = f"the request is not valid: {error.detail or error.reason.text}"
        raise ConfigError([Problem("<request>", 1, 1, "", message)]) from None
    untold, note = _untold(mesh, caller, request, compiled.callees)
    if isinstance(found, Reason):
        return Explanation(caller, "", None, (), (), found.status, None, untold, note)
    origin = compiled.origin_of_route(found.name)
    match = match_texts(found)
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
    arrivals = [
        arrival(mesh, caller, plan, request, target, compiled.discovers[target.name])
        for target in action.targets
        if target.weight > 0 and target.name in compiled.discovers
    ]
    return Explanation(
        caller, found.name, origin, match, destinations, None, action.timeout_s, admissions or untold, note,
        tuple(dict.fromkeys(one for one in arrivals if one is not None)),
    )  # fmt: skip


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
    named = ", ".join(map(caller_text, placed.service.callers)) or "nobody"
    return Admission(callee, is_admitted, f"its `callers` are {named}", placed.mark("callers", at_key=True))
