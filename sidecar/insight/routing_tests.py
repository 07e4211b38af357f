"""
The promises that a file makes about itself, `tests:`, kept by the code that routes live traffic. *Cold, pure.*

A test's request is taken through the plan as `walk` takes any, so that what passes here is what happens there.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.compile.routes import APP, app_of
from sidecar.compile.security.authorization import spiffe_id
from sidecar.config.authorization_rules import trust_domain_of
from sidecar.config.load import Loaded
from sidecar.config.model.routing_tests import Case, RoutingTest, TestRequest
from sidecar.config.problems import ConfigError
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Direction
from sidecar.insight.expectations import difference
from sidecar.insight.question import head_of, question_of
from sidecar.insight.walk import Visitor, Walk, listener_of, listener_of_any_host, walk
from sidecar.proxy.plan import Listener, Plan, Side


def run_tests(loaded: Loaded, plan: Plan) -> None:
    """
    Try all tests of a file.

    Raises:
        ConfigError: With every test that fails: what it expected and what would happen instead.
    """
    hint = "the test is wrong, or a route is"
    problems = [
        loaded.problem_at(("tests", one.index, *one.at), f"the test `{one.name}` fails: {one.why}", hint)
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
        at: Of the row of its table, below the test; empty for the test itself.
        name: Of the test.
        why: What it expected and what would happen instead.
        route: Which route its request takes; empty for none.
    """

    index: int
    at: tuple[int | str, ...]
    name: str
    why: str
    route: str


def failures(loaded: Loaded, plan: Plan) -> list[Failure]:
    """All tests of a file that fail, in its order."""
    side_of = _SideOf(loaded, plan)
    trust_domain = trust_domain_of(loaded.config) or ""
    found = (
        _failure(index, test, case, side_of(case), plan, trust_domain)
        for index, test in enumerate(loaded.config.tests)
        for case in test.cases()
    )
    return [one for one in found if one is not None]


def _failure(index: int, test: RoutingTest, case: Case, side: Side, plan: Plan, trust_domain: str) -> Failure | None:
    try:
        walked = walked_by(case.request, side, listener_of_any_host(plan, side), trust_domain)
    except ProtocolError as error:
        return Failure(index, case.at, test.name, f"the request is not valid: {error.detail or error.reason.text}", "")
    found = walked.found
    why = difference(case, walked, listener_of(plan, side))
    route = "" if isinstance(found, Reason) else found.name
    return None if why is None else Failure(index, case.at, test.name, why, route)


def walked_by(request: TestRequest, side: Side, listener: Listener | None = None, trust_domain: str = "") -> Walk:
    """
    What becomes of a test's request.

    Args:
        listener: By which it comes; None where that makes no difference.
        trust_domain: Of the service that it says it is `from`.

    Raises:
        ProtocolError: The data path would answer 400.
    """
    requester = request.requester
    question = question_of(request, spiffe_id(requester, trust_domain) if requester is not None else "")
    return walk(side, listener, head_of(question), Visitor(question.source_ip, question.requester, question.claims))


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

    def __call__(self, case: Case) -> Side:
        port = self._ports.get(case.expect.to or "") or self._ports.get(case.expect.route or "")
        if port is not None:
            return port
        if self._only is not None:
            return self._only
        request, expect = case.request, case.expect
        if any(one is not None for one in (request.requester, request.jwt, expect.authorization, expect.rule)):
            return self._inbound
        means_inbound = expect.to == APP or expect.route in self._only_inbound
        return self._inbound if means_inbound else self._outbound
