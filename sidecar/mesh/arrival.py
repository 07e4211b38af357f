"""
What the sidecar of a called service does with a request that a caller's sends it. *Cold, pure.*

The request is made as the caller's sidecar writes it, with what its route rewrites and edits, read again as the
callee's reads it, and looked up in the callee's own compiled file: the code of live traffic at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from sidecar.compile.routes import app_of
from sidecar.compile.routing_tests import request_head
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError, Problem
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Direction
from sidecar.http1.forward import request_bytes
from sidecar.http1.head import parse_request_head
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.mesh import Mark, Mesh, Placed
from sidecar.mesh.verify import tried
from sidecar.message import RequestHead
from sidecar.proxy.exchange.policies import BothLimits, RateLimiter
from sidecar.proxy.exchange.steps import find_route, request_to_send
from sidecar.proxy.plan import Plan
from sidecar.redact import HIDDEN, is_sensitive
from sidecar.routing.actions import Forward, Route, Target
from sidecar.routing.match import Match
from sidecar.upstream.limits.breaker import BreakerSpec

_MAX_HEADERS = 1000
_NO_BREAKER = BreakerSpec()


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    What becomes of the request at a service that it may go to.

    Attributes:
        service: Which is called, and `port` on which of its ports.
        route: Name of the inbound route that it takes, `app` where none is for it; empty for none at all.
        origin: Where that is written, or where the app is.
        match: What the route asks of requests, one text for each of its matches.
        to: Upstreams that it may go to: the app; empty for a route that answers itself.
        status: What it is answered with by this sidecar; None if it is sent on.
        timeout_s: For the whole exchange, at this sidecar; None: no limit.
        limits: What this sidecar holds it to, a text for each: rates, what may be under way, faults.
    """

    service: str
    port: str
    route: str
    origin: Mark | None
    match: tuple[str, ...]
    to: tuple[str, ...]
    status: int | None
    timeout_s: float | None
    limits: tuple[str, ...] = ()


def arrival(
    mesh: Mesh, caller: Plan, request: RoutingTest, action: Forward, target: Target, at: EndpointsOrigin
) -> Arrival | None:
    """
    What becomes of a request at one of the upstreams that the caller's sidecar may send it to.

    Args:
        caller: The plan of the caller's sidecars, and `action` with `target` what its route does.
        request: As the caller's app sends it.
        at: Where the upstream's endpoints come from.

    Returns:
        None: the service has no sidecars.

    Raises:
        ConfigError: The callee's compiled file is not good, or the request cannot be sent so.
    """
    placed = mesh.placed.get(at.service)
    if placed is None or placed.service.is_outside or not placed.service.listens:
        return None
    loaded, plan = tried(compile_service(mesh, at.service))
    side = plan.side_of.get(app_of(at.port), plan.sides[Direction.INBOUND])
    try:
        # The client's address is the caller's, which only the running mesh knows.
        found = find_route(
            side, _sent(caller, request_head(request), action, target), request.request.source_ip or "127.0.0.1"
        )
    except ProtocolError as error:
        message = f"the request is not valid where it goes: {error.detail or error.reason.text}"
        raise ConfigError([Problem("<request>", 1, 1, "", message)]) from None
    if isinstance(found, Reason):
        return Arrival(at.service, at.port, "", None, (), (), found.status, None)
    inbound = loaded.config.inbound
    named = enumerate(inbound.routes) if inbound is not None else ()
    names = [one.name if one.name is not None else f"routes[{index}]" for index, one in named]
    origin = _origin(placed, names, found)
    match = match_texts(found)
    if not isinstance(found.action, Forward):
        return Arrival(at.service, at.port, found.name, origin, match, (), found.action.status, None)
    to = tuple(one.name for one in found.action.targets if one.weight > 0)
    limits = tuple(_limits(found.action))
    return Arrival(at.service, at.port, found.name, origin, match, to, None, found.action.timeout_s, limits)


def match_texts(route: Route) -> tuple[str, ...]:
    """What a route asks of requests; values of secrets are not shown."""
    return tuple(_match_text(one) for one in route.matches)


def _match_text(match: Match) -> str:
    shown = []
    for condition in match.parts():
        name = condition.part.partition(" ")[2]
        shown.append(f"{condition.part} {HIDDEN if name and is_sensitive(name) else condition.text}")
    return ", ".join(shown)


def _sent(plan: Plan, head: RequestHead, action: Forward, target: Target) -> RequestHead:
    """The request as it reaches the callee's sidecar."""
    listener = next(one for one in plan.listeners if one.direction is Direction.OUTBOUND and one.host is None)
    sent = request_to_send(head, action, target, listener, b"", b"", b"")
    written = request_bytes(sent.head, sent.fields, sent.path, sent.host, sent.added)
    return parse_request_head(written.removesuffix(b"\r\n\r\n"), _MAX_HEADERS)


def _origin(placed: Placed, names: list[str], route: Route) -> Mark:
    if route.name in names:
        return placed.mark("inbound", "routes", names.index(route.name))
    return placed.mark("app" if placed.service.app is not None else "ports", at_key=True)


def _limits(action: Forward) -> Iterator[str]:
    limit = action.rate_limit
    for one in (limit.own, limit.common) if isinstance(limit, BothLimits) else (limit,):
        if isinstance(one, RateLimiter):
            by = f", by {' '.join(one.limit.key)}" if one.limit.key is not None else ""
            yield f"rate_limit: {one.limit.requests} in {one.limit.per_s:g}s, burst {one.limit.burst}{by}"
    for target in action.targets:
        breaker = target.upstream.spec.breaker
        said = [
            f"{each.name} {getattr(breaker, each.name)}"
            for each in fields(BreakerSpec)
            if breaker is not None and getattr(breaker, each.name) != getattr(_NO_BREAKER, each.name)
        ]
        if said:
            yield f"circuit_breaker: {', '.join(said)}"
    if action.fault is not None:
        yield "fault: on purpose"
