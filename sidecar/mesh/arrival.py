"""
What the sidecar of a called service does with a request that a caller's sends it. *Cold, pure.*

The request is made as the caller's sidecar writes it, with what its route rewrites and edits, read again as the
callee's reads it, and looked up in the callee's own compiled file: the code of live traffic at every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from sidecar.compile.matches import shown
from sidecar.compile.routes import app_of
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError, Problem
from sidecar.errors import AUTHORIZATION_DENIED, ProtocolError, Reason
from sidecar.exchange import Direction, Exchange
from sidecar.http1.forward import request_bytes
from sidecar.http1.head import parse_request_head
from sidecar.insight.question import head_of, question_of
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import Compiled, compile_service
from sidecar.mesh.mesh import Mark, Mesh, Placed
from sidecar.mesh.verify import tried
from sidecar.message import RequestHead
from sidecar.peer import Peer
from sidecar.proxy.exchange.policies import BothLimits, RateLimiter
from sidecar.proxy.exchange.steps import find_route, judge, request_to_send
from sidecar.proxy.plan import Plan, Side
from sidecar.routing.actions import Forward, Route, Target
from sidecar.security.tokens.rules import supposed
from sidecar.upstream.limits.breaker import BreakerSpec

_MAX_HEADERS = 1000
_NO_BREAKER = BreakerSpec()


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What the rules of a called service say of the request.

    Attributes:
        outcome: `allowed`, `denied`, or `audit_denied`: it passes, for what would refuse it is in audit.
        rule: That says so, and `origin` where it is written; None for what is made where nothing is.
        identity: By which the caller is known; empty for none.
        why: What differed, for who was refused; empty for who is allowed.
    """

    outcome: str
    rule: str
    origin: Mark | None
    identity: str
    why: str = ""


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
        verdict: What its rules say of it; None where it has none.
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
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request as the callee's sidecar reads it, the address that it comes from, and what its token claims."""

    head: RequestHead
    ip: str
    claims: Mapping[str, object] | None


def arrival(
    mesh: Mesh, name: str, caller: Plan, request: RoutingTest, target: Target, at: EndpointsOrigin
) -> Arrival | None:
    """
    What becomes of a request at one of the upstreams that the caller's sidecar may send it to.

    Args:
        name: Of the service that calls.
        caller: The plan of its sidecars, of whose route `target` is a side.
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
    compiled = compile_service(mesh, at.service)
    loaded, plan = tried(compiled)
    side = plan.side_of.get(app_of(at.port), plan.sides[Direction.INBOUND])
    # The client's address is the caller's, which only the running mesh knows.
    ip = request.request.source_ip or "127.0.0.1"
    try:
        head = _sent(caller, head_of(question_of(request.request)), target)
        verdict = _verdict(mesh, name, compiled, plan, side, _Sent(head, ip, request.request.jwt))
        if verdict is not None and verdict.outcome == "denied":
            status = AUTHORIZATION_DENIED.status
            return Arrival(at.service, at.port, "", None, (), (), status, None, (), verdict)
        found = find_route(side, head, ip)
    except ProtocolError as error:
        message = f"the request is not valid where it goes: {error.detail or error.reason.text}"
        raise ConfigError([Problem("<request>", 1, 1, "", message)]) from None
    if isinstance(found, Reason):
        return Arrival(at.service, at.port, "", None, (), (), found.status, None, (), verdict)
    inbound = loaded.config.inbound
    named = enumerate(inbound.routes) if inbound is not None else ()
    names = [one.name if one.name is not None else f"routes[{index}]" for index, one in named]
    origin = _origin(placed, names, found)
    match = match_texts(found)
    if not isinstance(found.action, Forward):
        return Arrival(at.service, at.port, found.name, origin, match, (), found.action.status, None, (), verdict)
    to = tuple(one.name for one in found.action.targets if one.weight > 0)
    limits = tuple(_limits(found.action))
    return Arrival(at.service, at.port, found.name, origin, match, to, None, found.action.timeout_s, limits, verdict)


def _verdict(mesh: Mesh, caller: str, compiled: Compiled, plan: Plan, side: Side, sent: _Sent) -> Verdict | None:
    """By any of the identities that the caller may have; the worst, for no one knows which of its instances asks."""
    if side.authorization is None:
        return None
    is_known = mesh.speaks_tls(compiled.service) and caller in mesh.placed
    listener = next((one for one in plan.listeners if plan.side_of.get(one.side) is side), None)
    found: list[Verdict] = []
    for identity in mesh.identities(caller) if is_known else [""]:
        client = Peer("1.3", "", identity=identity) if identity else None
        exchange = Exchange(side.direction, 0, sent.head, (sent.ip, 0), client=client)
        if sent.claims is not None:
            exchange.token = supposed(side.authorization.token_rules, sent.claims)
        decision = judge(side.authorization, side, listener, exchange, sent.head)
        why = exchange.detail
        for rule in filter(attrgetter("position"), side.authorization.rules):
            # A place in the compiled file, where nobody writes anything.
            why = why.replace(f"({rule.position})", f"({compiled.origin_of_rule(rule.name)})")
        found.append(Verdict(decision.outcome, decision.rule, compiled.origin_of_rule(decision.rule), identity, why))
    return max(found, key=lambda one: ("allowed", "audit_denied", "denied").index(one.outcome))


def match_texts(route: Route) -> tuple[str, ...]:
    """What a route asks of requests; values of secrets are not shown."""
    return tuple(", ".join(f"{part.part} {shown(part)}" for part in match.parts()) for match in route.matches)


def _sent(plan: Plan, head: RequestHead, target: Target) -> RequestHead:
    """The request as it reaches the callee's sidecar."""
    listener = next(one for one in plan.listeners if one.direction is Direction.OUTBOUND and one.host is None)
    sent = request_to_send(head, target, listener, b"", b"", b"")
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
        if target.redirect is not None:
            continue
        breaker = target.upstream.spec.breaker if target.redirect is None else None
        said = [
            f"{each.name} {getattr(breaker, each.name)}"
            for each in fields(BreakerSpec)
            if breaker is not None and getattr(breaker, each.name) != getattr(_NO_BREAKER, each.name)
        ]
        if said:
            yield f"circuit_breaker: {', '.join(said)}"
    if action.fault is not None:
        yield "fault: on purpose"
