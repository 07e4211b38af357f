"""From the file to the plan: routes in order, implicit ones last, edits merged, tests run, problems at their place."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from sidecar.compile.listener_spec import Role
from sidecar.compile.time_slices import in_slices
from sidecar.config.problems import ConfigError
from sidecar.exchange import Direction
from sidecar.http1.forward import NO_VIA, VIA
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.proxy.exchange.steps import find_route
from sidecar.proxy.plan import Plan, Side
from sidecar.routing.actions import REDIRECT, Forward, Respond, Route
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.upstream.cluster import Cluster
from tests.support.compiling import compiled, compiler, draft_of

BASE = """
service: {name: storefront, version: "7", namespace: shop}
inbound: {app: "127.0.0.1:8080", routes: [{name: hello, match: {path: /hello}, respond: {status: 204}}]}
outbound:
  listen: ["127.0.0.1:15001", {address: "127.0.0.1:9101", host: Catalogue}]
  routes:
    - name: canary
      match: [{host: svc, cookies: {beta: "1"}}, {host: svc, path: {prefix: /v2}, methods: [GET]}]
      to:
        - {upstream: one, weight: 95, request_headers: {set: {x-side: one}}}
        - {upstream: two, weight: 5, response_headers: {set: {x-by: target}}}
      sticky: {cookie: uid}
      timeout: 2s
      rewrite: {host: inner}
      request_headers: {set: {x-env: prod, x-side: route}}
      response_headers: {set: {x-by: route}}
    - {match: {host: gone}, redirect: {host: here, status: 308}}
upstreams:
  one: {hosts: [svc, svc.shop], endpoints: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 2}], connect_timeout: 250ms}
  two: {dns: "two.shop:8080", load_balancing: {hash: {header: x-user}}}
  hidden: {hosts: [], endpoints: ["10.0.0.3:80"]}
limits: {max_headers: 50, header_timeout: 3s}
drain: {timeout: 7s}
telemetry: {access_log: {path: /tmp/log}, traces: {sample: 50%}}
"""


def head(method: str, host: str, target: str, *fields: str) -> RequestHead:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    return parse_request_head("\r\n".join(lines).encode(), 100)


def route(plan: Plan, request: RequestHead, direction: Direction = Direction.OUTBOUND) -> Route:
    found = find_route(plan.sides[direction], request, "127.0.0.1")
    assert isinstance(found, Route)
    return found


def test_everything_that_the_data_path_reads_comes_from_the_file() -> None:
    """Limits, drain, listeners, hash, telemetry."""
    result = compiled(BASE, generation=3)
    plan = result.plan
    assert (plan.generation, plan.drain_timeout_s) == (3, 7.0)
    assert plan.config_hash == hashlib.sha256(BASE.encode()).hexdigest()[:12]
    assert (plan.limits.max_headers, plan.limits.header_timeout_s, plan.limits.max_header_bytes) == (50, 3.0, 65536)
    assert [(one.direction, one.address, one.host) for one in plan.listeners] == [
        (Direction.INBOUND, "0.0.0.0:15000", None),
        (Direction.OUTBOUND, "127.0.0.1:15001", None),
        (Direction.OUTBOUND, "127.0.0.1:9101", b"catalogue"),
    ]
    assert result.telemetry == TelemetrySettings("storefront", "7", "shop", None, 0.5, "/tmp/log")


@pytest.mark.parametrize(
    ("written", "client", "stream", "tunnel"),
    [
        ("{}", 300.0, 300.0, 300.0),
        ("{idle_timeout: 7s}", 7.0, 7.0, 7.0),
        ("{client_idle_timeout: 620s}", 620.0, 300.0, 300.0),
        ("{idle_timeout: 7s, stream_idle_timeout: 8s, tunnel_idle_timeout: 9s}", 7.0, 8.0, 9.0),
    ],
)
def test_a_time_of_its_own_goes_before_the_one_for_all(
    written: str, client: float, stream: float, tunnel: float
) -> None:
    """`limits.idle_timeout` is what client connections, streams and tunnels have unless the file says."""
    limits = compiled(f"service: s\noutbound: {{}}\nlimits: {written}\n").plan.limits
    found = (limits.client_idle_timeout_s, limits.stream_idle_timeout_s, limits.tunnel_idle_timeout_s)
    assert found == (client, stream, tunnel)


@pytest.mark.parametrize(("written", "finishes"), [("{}", False), ("{on_client_reset: cancel}", False),
                                                   ("{on_client_reset: finish}", True)])  # fmt: skip
def test_what_becomes_of_a_request_without_its_client_is_said_once(written: str, finishes: bool) -> None:
    """It is given up unless the file wants it finished."""
    limits = compiled(f"service: s\noutbound: {{}}\nlimits: {written}\n").plan.limits
    assert limits.finishes_without_client is finishes


def test_explicit_routes_come_first_and_upstreams_by_their_hosts_after_them() -> None:
    """An upstream without hosts has no implicit route."""
    plan = compiled(BASE).plan
    assert [one.name for one in plan.sides[Direction.OUTBOUND].table.routes] == ["canary", "routes[1]", "one", "two"]
    assert route(plan, head("GET", "svc", "/v2/x")).name == "canary"
    assert route(plan, head("POST", "svc", "/v2/x")).name == "one"
    assert route(plan, head("POST", "svc.shop:81", "/", "Cookie: beta=1")).name == "one"
    assert route(plan, head("POST", "svc", "/", "Cookie: beta=1")).name == "canary"
    assert route(plan, head("GET", "two", "/")).name == "two"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("", None),
        (", forwarded: {trusted_hops: 2}", "203.0.113.7"),
        (", forwarded: {trusted_networks: [10.0.0.0/8, unix]}", "192.0.2.1"),
    ],
)
def test_who_is_believed_about_the_client_comes_from_the_file(forwarded: str, client: str | None) -> None:
    """Of requests to the app only; by default nobody."""
    inbound, outbound = compiled(f"service: s\ninbound: {{app: 'h:1'{forwarded}}}\noutbound: {{}}\n").plan.sides
    assert outbound.client_address is None
    if client is None:
        assert inbound.client_address is None
        return
    assert inbound.client_address is not None
    asked = head("GET", "x", "/", "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 192.0.2.1")
    assert inbound.client_address.of(("10.0.0.5", 1), asked) == (client, 0)


def test_what_matches_no_inbound_route_goes_to_the_app() -> None:
    """Through the implicit upstream `app`."""
    plan = compiled(BASE).plan
    assert isinstance(route(plan, head("GET", "x", "/hello"), Direction.INBOUND).action, Respond)
    action = route(plan, head("GET", "x", "/other"), Direction.INBOUND).action
    assert isinstance(action, Forward)
    assert action.targets[0].upstream is plan.clusters["app"]
    assert [endpoint.label for endpoint in plan.clusters["app"].endpoints] == ["127.0.0.1:8080"]


def test_edits_of_route_and_destination_are_merged_once() -> None:
    """Requests pass the route first, responses the destination first; whoever is later has the last word."""
    action = route(compiled(BASE).plan, head("GET", "svc", "/v2")).action
    assert isinstance(action, Forward)
    one, two = action.targets
    assert one.request_edits is not None
    assert [field.wire for field in one.request_edits.apply([])] == [b"x-env: prod", b"x-side: one"]
    assert two.request_edits is not None
    assert [field.wire for field in two.request_edits.apply([])] == [b"x-env: prod", b"x-side: route"]
    assert two.response_edits is not None
    assert [field.wire for field in two.response_edits.apply([])] == [b"x-by: route"]
    assert (action.timeout_s, one.weight, two.weight) == (2.0, 95.0, 5.0)
    for target in action.targets:
        assert target.rewrite is not None
        assert target.rewrite.apply(head("GET", "svc", "/v2"))[0] == b"inner"


SIDES = """
service: s
outbound:
  routes:
    - name: sides
      match: {host: x, path: {prefix: /v1}}
      to:
        - {upstream: a, weight: 2}
        - {upstream: b, rewrite: {prefix: /v2}}
        - {upstream: a, rewrite: {host: inner}}
        - {redirect: {host: y, prefix: /v3, status: 307}, response_headers: {set: {x-side: gone}}}
      rewrite: {path: /whole, host: outer}
      response_headers: {set: {x-route: sides}}
upstreams: {a: {endpoints: ["h:1"]}, b: {endpoints: ["h:2"]}}
"""


def test_what_a_destination_rewrites_takes_the_place_of_the_route_s() -> None:
    """Whole: what it does not say is not the route's either, but the request's."""
    asked = head("GET", "x", "/v1/things")
    action = route(compiled(SIDES).plan, asked).action
    assert isinstance(action, Forward)
    rewrites = [target.rewrite for target in action.targets]
    assert [one.apply(asked) if one is not None else None for one in rewrites] == [
        (b"outer", b"/whole"), (None, b"/v2/things"), (b"inner", b"/v1/things"), None,
    ]  # fmt: skip


def test_a_side_that_redirects_is_chosen_by_its_weight_and_has_no_upstream() -> None:
    """Its scope is the route's without one, its edits are those of responses."""
    plan = compiled(SIDES).plan
    asked = head("GET", "x", "/v1/things")
    found = route(plan, asked)
    action = found.action
    assert isinstance(action, Forward)
    side = action.targets[3]
    assert (side.name, side.upstream, side.weight, side.scope) == (REDIRECT, None, 1.0, found.scope)
    assert side.redirect is not None
    assert (side.redirect.status, side.redirect.location(asked)) == (307, b"http://y/v3/things")
    assert side.response_edits is not None
    assert [field.wire for field in side.response_edits.apply([])] == [b"x-side: gone", b"x-route: sides"]
    assert {action.choose(asked, "").name for _ in range(200)} == {"a", "b", REDIRECT}


def test_a_redirect_keeps_its_keys_whatever_it_leads_to() -> None:
    """Keys that stick to a side stick to it when the place changes that it leads to."""
    text = (
        "service: s\nupstreams: {a: {endpoints: ['h:1']}}\n"
        "outbound: {routes: [{sticky: {cookie: c}, to: [a, {redirect: %s}]}]}\n"
    )
    sides = []
    for redirect in ("{host: x}", "{path: /y, status: 308}"):
        action = route(compiled(text % redirect).plan, head("GET", "x", "/")).action
        assert isinstance(action, Forward)
        assert action.split is not None
        sides.append([action.split.side(b"%d" % number) for number in range(200)])
    assert sides[0] == sides[1]
    assert 60 < sum(sides[0]) < 140


@pytest.mark.parametrize(
    ("expect", "is_met"),
    [("{status: 307}", True), ("{to: b}", True), ("{status: 301}", False), ("{to: b, status: 307}", False)],
)
def test_a_test_may_expect_the_redirect_of_a_side(expect: str, is_met: bool) -> None:
    """As it may expect any of the upstreams that may be chosen."""
    text = f"{SIDES}tests: [{{name: t, request: {{url: 'http://x/v1'}}, expect: {expect}}}]\n"
    if is_met:
        compiled(text)
        return
    with pytest.raises(ConfigError, match="expected "):
        compiled(text)


def test_settings_of_upstreams_reach_their_clusters() -> None:
    """Weights, timeouts, DNS, policy."""
    clusters = compiled(BASE).plan.clusters
    one, two = clusters["one"], clusters["two"]
    assert [(endpoint.label, endpoint.weight) for endpoint in one.endpoints] == [("10.0.0.1:80", 1), ("10.0.0.2:80", 2)]
    assert (one.connect_timeout_s, one.idle_timeout_s, one.spec.policy) == (0.25, 4.0, "least_request")
    assert (one.max_age_s, one.spec.max_age_s) == (600.0, 600.0)
    assert (two.spec.dns, two.spec.policy, two.server_address) == (("two.shop", 8080), "hash", "two.shop")
    assert two.spec.hash_key is not None
    assert two.spec.hash_key.reader()(head("GET", "x", "/", "x-user: eve"), "") == b"eve"


def test_scopes_say_route_upstream_and_address() -> None:
    """What metrics, log and spans will show."""
    plan = compiled(BASE).plan
    action = route(plan, head("GET", "svc", "/v2")).action
    assert isinstance(action, Forward)
    scope = action.targets[1].scope
    assert (scope.route, scope.upstream) == ("canary", "two")
    assert plan.sides[Direction.OUTBOUND].unrouted.route == ""


def test_unmatched_passthrough_keeps_one_cluster_through_reloads() -> None:
    """Its pools are the process's, not the plan's."""
    text = 'service: x\noutbound: {unmatched: passthrough}\nadmin: {listen: "127.0.0.1:0"}\n'
    by = compiler()
    first, second = (compiled(text, by, number).plan.sides[1] for number in (1, 2))
    assert first.passthrough is not None
    assert first.passthrough is second.passthrough
    assert first.passthrough_route is not None
    assert first.passthrough_route.name == "passthrough"


def test_a_direction_that_is_not_configured_has_no_routes_and_no_listener() -> None:
    """Both sides are there, so that the data path never asks."""
    plan = compiled('service: x\ninbound: {app: "127.0.0.1:1"}\n').plan
    side = plan.sides[Direction.OUTBOUND]
    assert (side.table.routes, side.fallback, side.passthrough_route) == ((), None, None)
    assert [one.direction for one in plan.listeners] == [Direction.INBOUND]


def test_metrics_and_admin_are_listeners_with_their_place_in_the_file() -> None:
    """So that a port in use can name its line."""
    draft = draft_of(BASE)
    by_role = {spec.role: spec for spec in draft.listeners}
    assert by_role[Role.ADMIN].address == "127.0.0.1:9901"
    location = by_role[Role.OUTBOUND].location
    (wanted,) = [one for one in draft.header.listeners if one.location == location]
    assert (wanted.line, wanted.path) == (5, "outbound.listen[1].address")


def test_a_listener_is_for_one_host_not_for_a_pattern() -> None:
    """A pattern could not be sent on as `Host`."""
    with pytest.raises(ConfigError, match=r"f\.yaml:2:.*listen.*host.*one host"):
        compiled('service: x\noutbound: {listen: {address: "127.0.0.1:1", host: "*.x"}}\n')


@pytest.mark.parametrize(
    ("request_", "expect", "why"),
    [
        ('{url: "http://svc/v2"}', "{route: canary, to: two}", None),
        ('{url: "http://svc/", cookies: {beta: "1", other: x}}', "{route: canary}", None),
        ('{url: "http://svc.shop:8080/x?y=1", method: POST}', "{route: one, to: one}", None),
        ('{url: "http://nobody/"}', "{status: 404}", None),
        ('{url: "http://gone/x"}', "{status: 308}", None),
        ('{url: "http://me/other"}', "{to: app}", None),
        ('{url: "http://me/hello"}', "{route: hello, status: 204}", None),
        ('{url: "http://svc/"}', "{route: canary}", "expected the route `canary`, found the route `one` to `one`"),
        ('{url: "http://svc/v2"}', "{to: hidden}", "expected to `hidden`, found the route `canary` to `one` or `two`"),
        ('{url: "http://gone/"}', "{status: 301}", r"found the route `routes\[1\]`, which answers 308"),
        ('{url: "http://nobody/"}', "{to: one}", "found no route, so 404"),
        ('{url: "http://svc/v2"}', "{status: 404}", "expected status 404, found the route `canary`"),
    ],
)
def test_the_files_own_tests_are_kept_or_refuse_it(request_: str, expect: str, why: str | None) -> None:
    """By the parser and the lookup of live traffic; a failure says what would happen, at the test's place."""
    text = BASE + f"tests: [{{name: t, request: {request_}, expect: {expect}}}]\n"
    if why is None:
        compiled(text)
        return
    with pytest.raises(ConfigError, match=why) as caught:
        compiled(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (len(text.splitlines()), "tests[0]")


def test_all_failing_tests_are_told_at_once() -> None:
    """As all problems are."""
    one = '{name: %s, request: {url: "http://svc/"}, expect: {to: two}}'
    with pytest.raises(ConfigError) as caught:
        compiled(BASE + f"tests: [{one % 'a'}, {one % 'b'}]\n")
    assert len(caught.value.problems) == 2


def test_compiling_gives_way_to_traffic() -> None:
    """A thousand routes are compiled in slices between which the loop runs."""
    routes = "\n".join(f"    - {{match: {{host: h{n}, path: {{regex: '/a{n}.*'}}}}, to: one}}" for n in range(1000))
    text = BASE.replace("  routes:\n    - name: canary", f"  routes:\n{routes}\n    - name: canary")
    draft = draft_of(text)
    clusters = {spec.name: Cluster(spec) for spec in draft.clusters}

    async def run() -> int:
        turns = 0
        task = asyncio.create_task(in_slices(compiler().compile(draft, clusters, 1)))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert len((await task).sides[1].table.routes) == 1004
        return turns

    assert asyncio.run(run()) > 3


def upgrades_of(side: Side, host: bytes, path: bytes = b"/") -> frozenset[bytes]:
    head = RequestHead(b"GET", path, None, 1)
    head.host = host
    route = side.table.find(head, "192.0.2.1") or side.fallback or side.passthrough_route
    assert route is not None
    assert isinstance(route.action, Forward)
    return route.action.upgrades


def test_what_a_request_may_switch_to_is_the_routes_or_inbounds() -> None:
    """A route's own, else that of `inbound` for inbound; WebSocket where nobody says, implicit routes included."""
    text = """
service: shop
inbound:
  app: 127.0.0.1:8080
  upgrades: [TCP, spdy]
  routes:
    - {match: {path: /none}, upgrades: []}
    - {match: {path: /own}, upgrades: WebSocket}
    - {match: {path: /theirs}}
outbound:
  unmatched: passthrough
  routes:
    - {match: {host: api, path: /exec}, to: api, upgrades: [tcp, websocket]}
    - {match: {host: api, path: /more}, to: api}
upstreams: {api: {endpoints: ["10.0.0.1:80"]}}
"""
    inbound, outbound = compiled(text).plan.sides
    websocket = frozenset((b"websocket",))
    assert upgrades_of(inbound, b"x", b"/none") == frozenset()
    assert upgrades_of(inbound, b"x", b"/own") == websocket
    assert upgrades_of(inbound, b"x", b"/theirs") == upgrades_of(inbound, b"x", b"/other") == {b"tcp", b"spdy"}
    assert upgrades_of(outbound, b"api", b"/exec") == {b"tcp", b"websocket"}
    assert upgrades_of(outbound, b"api", b"/more") == upgrades_of(outbound, b"api") == websocket
    assert upgrades_of(outbound, b"elsewhere") == websocket


@pytest.mark.parametrize(("written", "via"), [("", VIA), ("via: on\n", VIA), ("via: off\n", NO_VIA)])
def test_via_is_on_or_off_for_every_target(written: str, via: tuple[bytes, ...]) -> None:
    """Of routes of the file, of implicit ones, of the app and of what is passed through; edited or not."""
    text = """
service: shop
inbound: {app: 127.0.0.1:8080}
outbound:
  unmatched: passthrough
  routes:
    - match: {host: api, path: /edited}
      to: [{upstream: api, request_headers: {set: {x-a: "1"}}}]
      response_headers: {remove: [x-b]}
    - {match: {host: api, path: /plain}, to: api}
upstreams: {api: {endpoints: ["10.0.0.1:80"]}}
"""
    plan = compiled(text + written).plan
    routes = [route for side in plan.sides for route in (*side.table.routes, side.fallback, side.passthrough_route)]
    targets = [
        target for route in routes if route and isinstance(route.action, Forward) for target in route.action.targets
    ]
    assert len(targets) == 5
    for target in targets:
        for edits in (target.request_edits, target.response_edits):
            assert (VIA if edits is None else edits.via) == via
            assert edits is None or edits.sets or edits.removes or via == NO_VIA


PORTS = """
service: s
outbound:
  listen: [{address: "h:15001"}, {address: "h:9101", host: "Shop:9090"}, {address: "h:9102", host: "[::1]"}]
  routes:
    - {name: beta, match: {host: "shop:9090", cookies: {beta: "1"}}, to: beta}
    - {name: secure, match: {host: "*:8443"}, respond: {status: 403}}
upstreams:
  shop: {endpoints: ["h:1"]}
  beta: {hosts: [], endpoints: ["h:2"]}
  grpc: {hosts: ["shop:9090", shop.other, "*.x:1"], endpoints: ["h:3"]}
  any-x: {hosts: ["*.x"], endpoints: ["h:4"]}
"""


def test_a_host_with_a_port_is_another_than_the_host_without() -> None:
    """It comes first of the upstreams' own, wherever it stands; a pattern keeps the place of its upstream."""
    plan = compiled(PORTS).plan
    table = plan.sides[Direction.OUTBOUND].table
    assert [one.name for one in table.routes] == ["beta", "secure", "grpc", "shop", "grpc", "any-x"]
    ways = {
        "shop": "shop", "shop:80": "shop", "SHOP.:9090": "grpc", "shop:9091": "shop", "shop.other:7": "grpc",
        "a.x:1": "grpc", "a.x": "any-x", "shop:8443": "secure",
    }  # fmt: skip
    assert {host: route(plan, head("GET", host, "/")).name for host in ways} == ways
    assert route(plan, head("GET", "shop:9090", "/", "Cookie: beta=1")).name == "beta"
    assert route(plan, head("GET", "shop", "/", "Cookie: beta=1")).name == "shop"
    assert [(one.host, one.port, one.authority) for one in plan.listeners] == [
        (None, None, None), (b"shop", 9090, b"shop:9090"), (b"[::1]", None, b"[::1]"),
    ]  # fmt: skip


def test_a_test_of_the_file_is_asked_with_its_port() -> None:
    """As written in its URL."""
    test = "tests: [{{name: t, request: {{url: 'http://{}/'}}, expect: {{to: {}}}}}]\n"
    for url, upstream in (("shop:9090", "grpc"), ("shop", "shop"), ("shop:80", "shop")):
        assert compiled(PORTS + test.format(url, upstream))
    with pytest.raises(ConfigError, match="found the route `grpc` to `grpc`"):
        compiled(PORTS + test.format("shop:9090", "shop"))
