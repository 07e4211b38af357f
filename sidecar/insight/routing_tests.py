"""
The promises that a file makes about itself, `tests:`, kept by the code that routes live traffic. *Cold, pure.*

A test's request is taken through the plan as `walk` takes any, so that what passes here is what happens there.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar import errors
from sidecar.compile.routes import APP, app_of
from sidecar.compile.security.authorization import spiffe_id
from sidecar.config.authorization_rules import trust_domain_of
from sidecar.config.load import Loaded
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Decision, Direction
from sidecar.insight.question import head_of, question_of
from sidecar.insight.walk import Visitor, Walk, walk
from sidecar.proxy.plan import Listener, Plan, Side
from sidecar.routing.actions import Forward, Route


def run_tests(loaded: Loaded, plan: Plan) -> None:
    """
    Try all tests of a file.

    Raises:
        ConfigError: With every test that fails: what it expected and what would happen instead.
    """
    hint = "the test is wrong, or a route is"
    problems = [
        loaded.problem_at(("tests", one.index), f"the test `{one.name}` fails: {one.why}", hint)
        for one in failures(loaded, plan)
    ]
    if problems:
        raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A test that does not hold.

    Attributes:
        index: Of the test.
        name: Of the test.
        why: What it expected and what would happen instead.
        route: Which route its request takes; empty for none.
    """

    index: int
    name: str
    why: str
    route: str


def failures(loaded: Loaded, plan: Plan) -> list[Failure]:
    """All tests of a file that fail, in its order."""
    side_of = _SideOf(loaded, plan)
    trust_domain = trust_domain_of(loaded.config) or ""
    found = (_failure(index, test, side_of(test), plan, trust_domain) for index, test in enumerate(loaded.config.tests))
    return [one for one in found if one is not None]


def _failure(index: int, test: RoutingTest, side: Side, plan: Plan, trust_domain: str) -> Failure | None:
    try:
        walked = walked_by(test, side, _listener_of(plan, side), trust_domain)
    except ProtocolError as error:
        return Failure(index, test.name, f"the request is not valid: {error.detail or error.reason.text}", "")
    taken, decision = walked.found, walked.decision
    why = _misjudged(test, decision) or _difference(test, taken, decision)
    return None if why is None else Failure(index, test.name, why, "" if isinstance(taken, Reason) else taken.name)


def walked_by(test: RoutingTest, side: Side, listener: Listener | None = None, trust_domain: str = "") -> Walk:
    """
    What becomes of a test's request.

    Args:
        listener: By which it comes; None where that makes no difference.
        trust_domain: Of the service that it says it is `from`.

    Raises:
        ProtocolError: The data path would answer 400.
    """
    requester = test.request.requester
    question = question_of(test.request, spiffe_id(requester, trust_domain) if requester is not None else "")
    return walk(side, listener, head_of(question), Visitor(question.source_ip, question.requester, question.claims))


def _listener_of(plan: Plan, side: Side) -> Listener | None:
    """By which a test's request comes: one for any host, for its own host is what it is about."""
    found = [one for one in plan.listeners if plan.side_of.get(one.side) is side]
    return next((one for one in found if one.host is None), None)


class _SideOf:
    """
    The direction that a test is about: outbound, unless only inbound can be meant.

    That is so when it says who asks or what the rules say of it, when it expects the app or a name that only an inbound
    route has, or when there is no outbound. Of the
    app's ports the one is meant whose app it expects, else those without an app of their own.
    """

    __slots__ = ("_inbound", "_only", "_only_inbound", "_outbound", "_ports")

    def __init__(self, loaded: Loaded, plan: Plan) -> None:
        self._inbound, self._outbound = plan.sides[Direction.INBOUND], plan.sides[Direction.OUTBOUND]
        config = loaded.config
        self._only: Side | None = None
        if config.inbound is None or config.outbound is None:
            self._only = self._outbound if config.inbound is None else self._inbound
        inbound = {route.name for route in self._inbound.table.routes} | ({APP} if self._inbound.fallback else set())
        self._ports = {name: side for name, side in plan.side_of.items() if name.startswith(app_of(""))}
        self._only_inbound = inbound - {route.name for route in self._outbound.table.routes}

    def __call__(self, test: RoutingTest) -> Side:
        port = self._ports.get(test.expect.to or "") or self._ports.get(test.expect.route or "")
        if port is not None:
            return port
        if self._only is not None:
            return self._only
        request, expect = test.request, test.expect
        if any(one is not None for one in (request.requester, request.jwt, expect.authorization, expect.rule)):
            return self._inbound
        means_inbound = test.expect.to == APP or test.expect.route in self._only_inbound
        return self._inbound if means_inbound else self._outbound


def _misjudged(test: RoutingTest, decision: Decision | None) -> str | None:
    """What the rules say otherwise than expected; what is in audit counts as if it were enforced."""
    expect = test.expect
    if expect.authorization is None and expect.rule is None:
        return None
    wanted = [f"`{expect.authorization}`"] if expect.authorization is not None else []
    wanted += [f"by `{expect.rule}`"] if expect.rule is not None else []
    if decision is None:
        if expect.authorization == "allowed" and expect.rule is None:
            return (
                None  # without rules all may pass: so what a mesh compiled of a service that is open keeps its promise
            )
        return f"expected {' '.join(wanted)}, found no `inbound.authorization`"
    outcome = "allowed" if decision.outcome == "allowed" else "denied"
    if expect.authorization in (None, outcome) and expect.rule in (None, decision.rule):
        return None
    return f"expected {' '.join(wanted)}, found `{outcome}` by `{decision.rule}`"


def _difference(test: RoutingTest, found: Route | Reason, decision: Decision | None) -> str | None:
    expect = test.expect
    if expect.route is None and expect.to is None and expect.status is None:
        return None
    if isinstance(found, Reason):
        is_met = expect.route is None and expect.to is None and expect.status == found.status
        why = "no route, so"
        if found is errors.AUTHORIZATION_DENIED and decision is not None:
            who = test.request.requester or "nobody known"
            why = f"that `{decision.rule}` refuses it to {who}, so"
        return None if is_met else f"expected {_expected(test)}, found {why} {found.status}"
    action = found.action
    if isinstance(action, Forward):
        names = [target.name for target in action.targets if target.weight > 0]
        met_to = expect.to is None or expect.to in names
        met_status = expect.status is None
        happens = f"the route `{found.name}` to {' or '.join(f'`{name}`' for name in names)}"
    else:
        met_to = expect.to is None
        met_status = expect.status in (None, action.status)
        happens = f"the route `{found.name}`, which answers {action.status}"
    if met_to and met_status and expect.route in (None, found.name):
        return None
    return f"expected {_expected(test)}, found {happens}"


def _expected(test: RoutingTest) -> str:
    expect = test.expect
    parts = [f"the route `{expect.route}`"] if expect.route is not None else []
    parts += [f"to `{expect.to}`"] if expect.to is not None else []
    parts += [f"status {expect.status}"] if expect.status is not None else []
    return " ".join(parts)
