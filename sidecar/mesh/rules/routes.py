"""Rules of routes and tests: what they may name. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence, Set

from sidecar.config.check import check_tests
from sidecar.config.model.routes import Route
from sidecar.config.model.routing_tests import Case, Expectation, RoutingTest
from sidecar.config.problems import At, did_you_mean
from sidecar.config.route_rules import check_route
from sidecar.mesh.hosts import authority_of, find_host, hosts_of, port_names
from sidecar.mesh.mesh import callees
from sidecar.mesh.model.service import Service
from sidecar.mesh.model.words import PORT_MARK
from sidecar.mesh.rules.scope import Others, Scope

_OF_REQUESTS = ("path", "grpc", "methods", "headers", "cookies", "query")
"""What a route may ask of requests, and of a connection nobody can."""
_UNKNOWN = "there are no instances `{}`"


def check_routes(scope: Scope, others: Others) -> None:
    """Check a service's own routes, those of its calls, and its tests."""
    _check_producer(scope)
    _check_callers(scope, others)
    _check_tests(scope, others)


def named(service: Service) -> dict[str, int]:
    """Routes of a service that have a name, with their index."""
    return {route.name: index for index, route in enumerate(service.routes) if route.name is not None}


def _check_producer(scope: Scope) -> None:
    service = scope.service
    known = {scope.name, *service.instances}
    for index, route in enumerate(service.routes):
        at = ("routes", index)
        check_route(route, at, known, scope, needs_action=False, earlier=service.routes[:index], unknown=_UNKNOWN)
        _check_hosts(route, at, scope.name, service, scope)
        _check_questions(route, at, scope.name, service, scope)
        _check_name(route, at, service.routes[:index], scope)


def _check_callers(scope: Scope, others: Others) -> None:
    """Names of a caller's routes share one list: its file has them all."""
    if not any(call.routes for call in (scope.service.calls or {}).values()):
        return
    own = callees(scope.name, {**others.services, scope.name: scope.service}, others.access)
    elsewhere = {
        name
        for other in own
        for name in (other, *(f"{other}.{instance}" for instance in others.services[other].instances))
    }
    earlier: list[Route] = []
    for name, call in (scope.service.calls or {}).items():
        callee = others.services.get(name)
        for index, route in enumerate(call.routes):
            at = ("calls", name, "routes", index)
            _check_name(route, at, earlier, scope)
            earlier.append(route)
            if callee is None:
                continue  # that there is no such service is told once
            known = {name, *callee.instances, *elsewhere}
            known |= _check_called(route, at, known, scope, others)
            before = call.routes[:index]
            check_route(route, at, known, scope, needs_action=False, earlier=before, unknown=_UNKNOWN)
            _check_hosts(route, at, name, callee, scope)
            _check_questions(route, at, name, callee, scope)
            tests = [test.name for test in callee.tests]
            for position, test in enumerate(route.overrides):
                if test not in tests:
                    message = f"`{name}` has no test `{test}`"
                    scope((*at, "overrides", position), message, did_you_mean(test, tests))


def _check_called(route: Route, at: At, known: Set[str], scope: Scope, others: Others) -> set[str]:
    """A service that there is, but that is not called, is told as such; returns these names."""
    found: set[str] = set()
    called = scope.service.calls or {}
    for index, destination in enumerate(route.to or []):
        if destination.upstream is None:
            continue
        service = destination.upstream.partition(".")[0]
        if destination.upstream not in known and service in others.services and service not in called:
            found.add(destination.upstream)
            here = (*at, "to", index, "upstream")
            scope(here, f"`{service}` is not called by this service", f"add `{service}: {{}}` to `calls`")
    return found


def _check_name(route: Route, at: At, earlier: Sequence[Route], scope: Scope) -> None:
    if route.name is None:
        return
    for other in earlier:
        if other.name == route.name:
            hint = "names tell routes apart in metrics, logs and tests"
            scope((*at, "name"), f"the name `{route.name}` is already that of another route of this service", hint)
            return
    if route.name.startswith(PORT_MARK):
        scope(
            (*at, "name"), f"names that begin with `{PORT_MARK}` are those of further ports", "name the route otherwise"
        )
    if route.name == scope.name and at[0] == "routes":
        scope((*at, "name"), "a route may not be called as its service", "that name is the default route's")


def _check_hosts(route: Route, at: At, name: str, service: Service, scope: Scope) -> None:
    """A route holds for calls to its service, so a host that it names must be one of that service's."""
    hosts = hosts_of(name, service)
    for number, match in enumerate(route.match):
        for position, host in enumerate(match.host):
            if find_host(host, hosts) is None:
                hint = did_you_mean(host, hosts) or "leave `host` out: the route holds for all of them"
                scope((*at, "match", number, "host", position), f"`{host}` is no host of `{name}`", hint)


def _check_questions(route: Route, at: At, name: str, service: Service, scope: Scope) -> None:
    """Of a service that speaks no HTTP at any port a route can ask nothing but the host."""
    if not all(service.speaks_tcp(port) for port in port_names(service)):
        return
    for number, match in enumerate(route.match):
        asked = [key for key in _OF_REQUESTS if getattr(match, key)]
        if asked:
            message = f"`{asked[0]}` cannot be asked of a connection: `{name}` speaks no HTTP"
            hint = "remove it: its routes can only share connections out"
            scope((*at, "match", number, asked[0]), message, hint, at_key=True)


def _check_tests(scope: Scope, others: Others) -> None:
    service = scope.service
    check_tests(service.tests, scope)
    for index, test in enumerate(service.tests):
        owner = find_host(authority_of(test), others.hosts)
        at = ("tests", index, "request", "url")
        if owner is None and not others.unread:
            hint = did_you_mean(authority_of(test), others.hosts)
            if any(_needs_host(case.expect) for case in test.cases()):
                scope(at, f"no service is called by the host `{authority_of(test)}`", hint)
        elif owner == scope.name and not is_about_inbound(test, service):
            for case in test.cases():
                _check_expectation(case, index, scope)


def _needs_host(expect: Expectation) -> bool:
    """Whether a request must be for a service, to meet this."""
    is_denied = expect.status is not None and expect.route is None and expect.to is None
    return not is_denied and expect.to != "passthrough" and expect.route != "passthrough"


def is_about_inbound(test: RoutingTest, service: Service) -> bool:
    """Whether a test for a service's own host is about what its own sidecars do, not about what callers' do."""
    inbound = {route.name for route in service.inbound.routes} if service.inbound is not None else set()
    apps = {"app", *(f"app.{port}" for port in service.listens)}
    return bool(service.listens) and any(_means_inbound(case, apps, inbound) for case in test.cases())


def _means_inbound(case: Case, apps: set[str], inbound: set[str | None]) -> bool:
    expect = case.expect
    if expect.authorization is not None or expect.rule is not None or case.request.requester is not None:
        return True
    return expect.to in apps or expect.route in (apps | inbound) - {None}


def _check_expectation(case: Case, index: int, scope: Scope) -> None:
    """What a producer's test expects is by the producer's own names."""
    service, expect, at = scope.service, case.expect, ("tests", index, *(case.at or ("expect",)))
    targets = [scope.name, *service.instances]
    if expect.to is not None and expect.to not in targets:
        scope((*at, "to"), _UNKNOWN.format(expect.to), did_you_mean(expect.to, targets))
    for target in expect.split or ():
        if target not in targets:
            scope((*at, "split", target), _UNKNOWN.format(target), did_you_mean(target, targets), at_key=True)
    routes = [*named(service), scope.name]
    if expect.route is not None and expect.route not in routes:
        scope((*at, "route"), f"there is no route `{expect.route}`", did_you_mean(expect.route, routes))
