"""HTTP/2 and gRPC from the file to the plan: what the data path reads, and what people are shown of it."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import at_once
from sidecar.config.problems import ConfigError
from sidecar.http1.head import parse_request_head
from sidecar.insight.warnings.of_plan import warnings_of
from sidecar.message import RequestHead
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward
from tests.support.compiling import compiled, draft_of, frames_of, loaded

TEXT = """
service: s
inbound:
  app: {address: "h:1", protocol: http2}
  listen:
    - {address: "h:15000", name: http}
    - address: "h:15100"
      name: old
      app: {address: "h:2", protocol: http1}
    - {address: "h:15101", name: plain, app: "h:3"}
outbound:
  routes:
    - {name: list, match: {grpc: {service: shop.Recommendations, method: List}}, to: a}
    - name: service
      match: {grpc: {service: shop.Recommendations}}
      to: a
      retry: {on: [grpc_unavailable, grpc_internal, refused], methods: [POST]}
      fault: {abort: {percent: 5%, grpc_status: UNAVAILABLE}}
    - {name: calls, match: [{grpc: {}, headers: {x-a: "1"}}, {grpc: {}}], to: a}
    - {name: rest, to: a}
upstreams:
  a: {endpoints: ["h:4"], protocol: http2, http2: {max_concurrent_streams: 7, ping_interval: 5m, ping_timeout: 3s}}
  b: {endpoints: ["h:5"], health_check: {grpc: {service: shop.X}}}
  c: {endpoints: ["h:6"], protocol: tcp}
limits: {http2: {max_concurrent_streams: 9, initial_window: 1MiB, max_resets: 3}}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Of the file above."""
    return compiled(TEXT).plan


def head(path: str, content_type: str = "application/grpc", method: str = "POST", extra: str = "") -> RequestHead:
    lines = [f"{method} {path} HTTP/1.1", "host: h", *([f"content-type: {content_type}"] if content_type else [])]
    return parse_request_head("\r\n".join([*lines, *([extra] if extra else [])]).encode(), 100)


def route_of(plan: Plan, asked: RequestHead) -> str:
    found = plan.sides[1].table.find(asked, "")
    assert found is not None
    return found.name


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        (head("/shop.Recommendations/List"), "list"),
        (head("/shop.Recommendations/List", "application/grpc+proto"), "list"),
        (head("/shop.Recommendations/List", "Application/gRPC;charset=x"), "list"),
        (head("/shop.Recommendations/Get"), "service"),
        (head("/shop.RecommendationsV2/List"), "calls"),
        (head("/other", extra="x-a: 1"), "calls"),
        (head("/shop.Recommendations/List", "application/grpc-web"), "rest"),
        (head("/shop.Recommendations/List", "application/grpcx"), "rest"),
        (head("/shop.Recommendations/List", "application/json"), "rest"),
        (head("/shop.Recommendations/List", ""), "rest"),
        (head("/shop.Recommendations/List", method="GET"), "rest"),
    ],
)
def test_a_call_is_a_post_of_its_path_with_its_content_type(plan: Plan, asked: RequestHead, route: str) -> None:
    """PROTOCOL-HTTP2.md: `Method`, `Path` and `Content-Type`; gRPC-Web is another protocol."""
    assert route_of(plan, asked) == route


def test_the_table_finds_a_call_by_its_path(plan: Plan) -> None:
    """An exact path, or one below a prefix: nothing that the index does not know."""
    kinds = [match.path and (match.path.kind, match.path.is_plain) for match in plan.sides[1].table.routes[0].matches]
    kinds += [match.path and (match.path.kind, match.path.is_plain) for match in plan.sides[1].table.routes[1].matches]
    assert kinds == [("exact", True), ("prefix", True)]


def test_a_cluster_knows_what_its_servers_speak(plan: Plan) -> None:
    """Apps included; of what is no HTTP nothing is said."""
    assert {name: (one.spec.protocol, one.spec.is_stream) for name, one in plan.clusters.items()} == {
        "app": ("http2", False), "app.old": ("http1", False), "app.plain": ("auto", False), "a": ("http2", False),
        "b": ("auto", False), "c": ("auto", True),
    }  # fmt: skip
    a, b = plan.clusters["a"], plan.clusters["b"]
    assert (a.max_streams, a.ping_interval_s, a.ping_timeout_s) == (7, 300.0, 3.0)
    assert (b.max_streams, b.ping_interval_s, b.ping_timeout_s) == (100, inf, 10.0)
    assert b.spec.health is not None
    assert b.spec.health.grpc_service == "shop.X"


def test_a_reload_changes_it_in_the_same_cluster(plan: Plan) -> None:
    """As it does with every other setting."""
    cluster = compiled(TEXT).plan.clusters["a"]
    text = TEXT.replace("protocol: http2, http2: {max_concurrent_streams: 7, ", "http2: {")
    spec = next(one for one in draft_of(text).clusters if one.name == "a")
    cluster.apply(spec, spec.static_addresses())
    assert (cluster.spec.protocol, cluster.max_streams, cluster.ping_interval_s) == ("auto", 100, 300.0)


def test_policies_speak_of_grpc_in_numbers(plan: Plan) -> None:
    """doc/statuscodes.md."""
    action = plan.sides[1].table.routes[1].action
    assert isinstance(action, Forward)
    assert action.retry.grpc_statuses == {13, 14}
    assert action.fault is not None
    assert (action.fault.abort_percent, action.fault.abort_grpc_status) == (5.0, 14)


def test_limits_of_http2_are_in_the_plan(plan: Plan) -> None:
    """In octets and counts."""
    limits = plan.limits
    assert (limits.h2_max_streams, limits.h2_window_bytes, limits.h2_max_resets) == (9, 1 << 20, 3)


def test_settings_in_force_say_what_is_spoken_and_where_that_stands(plan: Plan) -> None:
    """On `/upstreams` and `/routes`."""
    effective = Effective("f", draft_of(TEXT).written)
    upstreams: dict[str, Any] = at_once(effective.upstreams(plan))
    said = {name: one["settings"]["protocol"] for name, one in upstreams.items()}
    assert said == {
        "app": {"value": "http2", "from": "f:4"}, "app.old": {"value": "http1", "from": "f:9"},
        "app.plain": {"value": "auto", "from": "default"}, "a": {"value": "http2", "from": "f:22"},
        "b": {"value": "auto", "from": "default"}, "c": {"value": "tcp", "from": "f:24"},
    }  # fmt: skip
    assert upstreams["a"]["settings"]["http2.max_concurrent_streams"] == {"value": 7, "from": "f:22"}
    assert upstreams["b"]["settings"]["http2.ping_interval"] == {"value": None, "from": "default"}
    assert upstreams["b"]["settings"]["health_check.grpc.service"] == {"value": "shop.X", "from": "f:23"}
    routes: dict[str, Any] = at_once(effective.routes(plan))
    assert routes["settings"]["limits.http2.initial_window"] == {"value": 1 << 20, "from": "f:25"}
    assert routes["outbound"]["routes"][0]["match"] == [
        {
            "path": 'exact "/shop.Recommendations/List"', "methods": "POST",
            "header content-type": 'regex "application/grpc([+;].*)?" (any case)',
        }
    ]  # fmt: skip


def test_a_test_of_the_file_asks_for_a_call() -> None:
    """By its method, its content type and its path; one that expects otherwise is told."""
    test = (
        "tests: [{name: t, request: {url: 'http://h/shop.Recommendations/List', method: POST,"
        " headers: {content-type: application/grpc}}, expect: {route: %s, to: a}}]\n"
    )
    assert frames_of(TEXT + test % "list")
    with pytest.raises(ConfigError, match="list"):
        frames_of(TEXT + test % "rest")


def test_a_route_that_no_call_comes_to_is_told() -> None:
    """An earlier one takes the whole service, or all that is below its path."""
    for earlier in ("grpc: {service: s.A}", "path: {prefix: /s.A}", "grpc: {}"):
        text = (
            f"service: s\noutbound: {{routes: [{{name: one, match: {{{earlier}}}, to: a}},"
            " {name: two, match: {grpc: {service: s.A, method: M}}, to: a}]}\nupstreams: {a: {endpoints: ['h:1']}}\n"
        )
        said = warnings_of(loaded(text), compiled(text).plan)
        assert [one.rule for one in said] == ["route-never-matches"], earlier
