"""Several ports of an app: whose requests go to which, and what a plan keeps for ports that are gone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar import errors
from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import at_once
from sidecar.config.problems import ConfigError
from sidecar.errors import Reason
from sidecar.http1.head import parse_request_head
from sidecar.proxy.exchange.steps import find_route
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward, Respond
from tests.support.compiling import compiled, compiler, draft_of, frames_of

TEXT = """
service: s
inbound:
  app: "h:1"
  listen:
    - {address: "h:15000", name: http}
    - {address: "h:15100", name: grpc, app: "h:2"}
    - {address: "h:15101", app: "unix:/x", name: other, host: fixed}
  circuit_breaker: {max_requests: 7}
  rate_limit: {requests: 9}
  routes:
    - {name: slow, match: {path: /slow}, timeout: 9s, rate_limit: {requests: 5}}
    - {name: no, match: {path: /no}, respond: {status: 204}}
    - {name: away, match: {path: /away}, to: up}
upstreams: {up: {endpoints: ["h:3"]}}
"""


def ways(plan: Plan, side: str) -> dict[str, str]:
    """Route and upstream of requests by this side, by their path."""
    found = {}
    for path in ("/", "/slow", "/no", "/away"):
        head = parse_request_head(f"GET {path} HTTP/1.1\r\nHost: x".encode(), 100)
        route = find_route(plan.side_of[side], head, "127.0.0.1")
        if isinstance(route, Reason):
            found[path] = route.name
        elif isinstance(route.action, Forward):
            found[path] = f"{route.name} to {route.action.targets[0].name}"
        else:
            assert isinstance(route.action, Respond)
            found[path] = f"{route.name} {route.action.status}"
    return found


def test_what_no_route_leads_elsewhere_goes_to_the_app_of_its_listener() -> None:
    """Requests of routes without `to`, too; and listeners without an app have that of all."""
    plan = compiled(TEXT).plan
    assert [(one.address, one.side, one.host) for one in plan.listeners] == [
        ("h:15000", "inbound", None), ("h:15100", "app.grpc", None), ("h:15101", "app.other", b"fixed"),
    ]  # fmt: skip
    elsewhere = {"/no": "no 204", "/away": "away to up"}
    assert ways(plan, "inbound") == {"/": "app to app", "/slow": "slow to app", **elsewhere}
    assert ways(plan, "app.grpc") == {"/": "app.grpc to app.grpc", "/slow": "slow to app.grpc", **elsewhere}
    assert ways(plan, "app.other") == {"/": "app.other to app.other", "/slow": "slow to app.other", **elsewhere}


def test_each_app_is_an_upstream_of_its_own() -> None:
    """With the endpoint, breaker and counters of nobody else."""
    plan = compiled(TEXT).plan
    apps = {name: cluster for name, cluster in plan.clusters.items() if name != "up"}
    assert {name: [one.label for one in cluster.endpoints] for name, cluster in apps.items()} == {
        "app": ["h:1"], "app.grpc": ["h:2"], "app.other": ["unix:/x"],
    }  # fmt: skip
    assert len({id(cluster.breaker) for cluster in apps.values()}) == 3
    assert len({id(cluster.stats) for cluster in apps.values()}) == 3
    assert {cluster.breaker.spec.max_requests for cluster in apps.values() if cluster.breaker} == {7}


def test_what_inbound_limits_it_limits_for_each_app_and_a_route_for_all() -> None:
    """Nine requests a second to each app; five to the route, by whatever listener."""
    plan = compiled(TEXT).plan
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: x", 100)
    sides = [plan.side_of[name] for name in ("inbound", "app.grpc", "app.other")]
    for side in sides:
        assert side.fallback is not None
        assert isinstance(side.fallback.action, Forward)
        waits = [side.fallback.action.rate_limit.check(head, "127.0.0.1", 0.0) for _ in range(10)]
        assert [wait is None for wait in waits] == [True] * 9 + [False]
    fresh = compiled(TEXT.replace("  rate_limit: {requests: 9}\n", "")).plan
    slow = [fresh.side_of[name].table.routes[0].action for name in ("inbound", "app.grpc", "app.other")]
    waits = [one.rate_limit.check(head, "127.0.0.1", 0.0) for one in (*slow, *slow) if isinstance(one, Forward)]
    assert [wait is None for wait in waits] == [True] * 5 + [False]


def test_where_each_listener_has_its_own_app_none_is_needed_for_all() -> None:
    """The first stands for the direction; requests without an app of their own would find nothing."""
    text = """
        service: s
        inbound:
          listen: [{address: "h:1", name: a, app: "h:2"}, {address: "h:3", name: b, app: "h:4"}]
          routes: [{name: slow, match: {path: /slow}, timeout: 1s}]
    """
    plan = compiled(text).plan
    assert set(plan.clusters) == {"app.a", "app.b"}
    assert set(plan.side_of) == {"outbound", "app.a", "app.b"}
    assert plan.sides[0] is plan.side_of["app.a"]
    assert ways(plan, "app.b")["/slow"] == "slow to app.b"


def test_a_port_that_is_gone_answers_that_it_is() -> None:
    """Whoever is still connected to it is told so, at every later plan, until its name comes again."""
    process = compiler()
    compiled(TEXT, process)
    without = "service: s\ninbound: {app: 'h:1', routes: [{match: {path: /no}, respond: {status: 204}}]}\n"
    for generation in (2, 3):
        plan = compiled(without, process, generation).plan
        assert set(ways(plan, "app.grpc").values()) == {errors.DRAINING.name}
        assert ways(plan, "inbound")["/"] == "app to app"
        assert set(plan.clusters) == {"app"}
    assert ways(compiled(TEXT, process, 4).plan, "app.grpc")["/"] == "app.grpc to app.grpc"
    own = "service: s\ninbound: {listen: {address: 'h:1', name: http, app: 'h:2'}}\n"
    assert set(ways(compiled(own, process, 5).plan, "inbound").values()) == {errors.DRAINING.name}


@pytest.mark.parametrize("port", ["app", "app.grpc", "app.other"])
def test_a_test_of_the_file_may_expect_each_app(port: str) -> None:
    """Of a route without `to` as of none; and is told what happens instead."""
    test = "{{name: t{0}, request: {{url: 'http://x{0}'}}, expect: {{to: {1}, route: {2}}}}}"
    good = f"tests: [{test.format('/', port, port)}, {test.format('/slow', port, 'slow')}]\n"
    assert frames_of(TEXT + good)
    with pytest.raises(ConfigError, match="found the route `away` to `up`"):
        frames_of(TEXT + f"tests: [{test.format('/away', port, 'slow')}]\n")


def test_pages_show_each_port_and_where_it_stands() -> None:
    """`/routes` shows what becomes of requests that no route takes; `/upstreams` the limits of each app."""
    effective, plan = Effective("f.yaml", draft_of(TEXT).written), compiled(TEXT).plan
    routes: dict[str, Any] = json.loads(json.dumps(at_once(effective.routes(plan))))
    assert routes["inbound"]["unmatched"]["name"] == "app"
    ports = routes["inbound"]["ports"]
    assert {name: (one["from"], one["unmatched"]["to"]) for name, one in ports.items()} == {
        "grpc": ("f.yaml:7", [{"upstream": "app.grpc", "weight": 1.0}]),
        "other": ("f.yaml:8", [{"upstream": "app.other", "weight": 1.0}]),
    }
    upstreams: dict[str, Any] = json.loads(json.dumps(at_once(effective.upstreams(plan))))
    for name in ("app", "app.grpc", "app.other"):
        shown = upstreams[name]["settings"]["circuit_breaker.max_requests"]
        assert shown == {"value": 7, "from": "f.yaml:9"}
    plain = "service: s\ninbound: {app: 'h:1'}\n"
    page: dict[str, Any] = at_once(Effective("f.yaml", draft_of(plain).written).routes(compiled(plain).plan))
    assert "ports" not in json.dumps(page["inbound"])
