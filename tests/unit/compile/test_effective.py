"""`/routes` and `/upstreams`: every value in force, and the line that set it or `default`."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin.coverage import coverage_of
from sidecar.compile.deserialize import plain
from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import at_once
from sidecar.config.values import unsupported
from sidecar.redact import Secrets
from tests.support.compiling import compiled, draft_of
from tests.support.keeping import Keeping

TEXT = """
service: s
inbound:
  app: "h:1"
  rate_limit: {requests: 9}
outbound:
  routes:
    - name: first
      match: {host: a}
      to: a
      timeout: 2s
      retry:
        attempts: 2
        backoff: {base: 10ms}
      mirror: b
    - {name: second, match: {host: b}, to: b}
    - {name: third, redirect: {path: /x}}
upstreams:
  a:
    endpoints: [{address: "h:2", zone: z}]
    connect_timeout: 3s
    load_balancing: {hash: {header: x-user}}
    circuit_breaker: {max_requests: 5}
  b: {dns: "h:3"}
limits:
  idle_timeout: 1m
  tunnel_idle_timeout: 1h
"""


def pages(text: str = TEXT) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both pages as a client reads them."""
    effective = Effective("f.yaml", draft_of(text).written)
    plan = compiled(text).plan
    routes, upstreams = at_once(effective.routes(plan)), at_once(effective.upstreams(plan))
    return json.loads(json.dumps(routes)), json.loads(json.dumps(upstreams))


@pytest.fixture(autouse=True)
def everything_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are not in force yet are shown already."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())


def setting(settings: dict[str, Any], name: str) -> tuple[Any, str]:
    return settings[name]["value"], settings[name]["from"]


def test_values_of_a_route_name_their_line() -> None:
    """Those of sections within it, too, and defaults beside them."""
    first = pages()[0]["outbound"]["routes"][0]
    assert (first["name"], first["from"]) == ("first", "f.yaml:8")
    settings = first["settings"]
    assert setting(settings, "timeout") == (2.0, "f.yaml:11")
    assert setting(settings, "retry.attempts") == (2, "f.yaml:13")
    assert setting(settings, "retry.backoff.base") == (0.01, "f.yaml:14")
    assert setting(settings, "retry.backoff.max") == (0.25, "default")
    assert setting(settings, "retry.on") == (["connect_failure", "reset_before_response", "refused"], "default")
    assert setting(settings, "mirror.to") == ("b", "f.yaml:15")
    assert setting(settings, "mirror.percent") == (100.0, "default")
    assert setting(settings, "fault") == (None, "default")


def test_sides_show_what_is_rewritten_and_where_they_redirect() -> None:
    """Their own rewriting or else the route's; and a template is shown as `http_route`."""
    text = """
service: s
outbound:
  routes:
    - match: {path: {template: "/a/{b}"}}
      to: [{upstream: a, weight: 3}, {upstream: b, rewrite: {path: /x}}, {redirect: {host: y, status: 302}}]
      rewrite: {host: inner, regex: {pattern: "^/a/", substitution: /}}
    - {to: a}
upstreams: {a: {endpoints: ["h:1"]}, b: {endpoints: ["h:2"]}}
"""
    first, last = pages(text)[0]["outbound"]["routes"][:2]
    assert first["http_route"] == "/a/{b}"
    assert first["to"] == [
        {
            "upstream": "a",
            "weight": 3.0,
            "rewrite": {"host": "inner", "regex": {"pattern": "^/a/", "substitution": "/"}},
        },
        {"upstream": "b", "weight": 1.0, "rewrite": {"path": "/x"}},
        {"redirect": 302, "weight": 1.0},
    ]
    assert "http_route" not in last
    assert last["to"] == [{"upstream": "a", "weight": 1.0}]


def test_several_mirrors_are_shown_one_by_one() -> None:
    """With the line of each; one alone is shown as if there could be no other, however it is written."""
    text = """
service: s
outbound:
  routes:
    - to: a
      mirror:
        - b
        - to: a
          percent: 5%
    - {to: a, mirror: [b]}
upstreams: {a: {endpoints: ["h:1"]}, b: {endpoints: ["h:2"]}}
"""
    first, second = (one["settings"] for one in pages(text)[0]["outbound"]["routes"][:2])
    assert setting(first, "mirror[0].to") == ("b", "f.yaml:7")
    assert setting(first, "mirror[0].percent") == (100.0, "default")
    assert setting(first, "mirror[1].to") == ("a", "f.yaml:8")
    assert setting(first, "mirror[1].percent") == (5.0, "f.yaml:9")
    assert setting(second, "mirror.to") == ("b", "f.yaml:10")


def test_a_route_that_says_nothing_shows_what_happens_all_the_same() -> None:
    """No timeout, and the one safe retry; so do implicit routes and the way to the app."""
    routes = pages()[0]
    second, implicit = routes["outbound"]["routes"][1], routes["outbound"]["routes"][3]
    assert second["from"] == "f.yaml:16"
    assert "from" not in implicit
    for entry in (second, implicit, routes["inbound"]["unmatched"]):
        assert setting(entry["settings"], "timeout") == (None, "default")
        assert setting(entry["settings"], "retry.attempts") == (1, "default")
        assert setting(entry["settings"], "rate_limit") == (None, "default")
    assert "settings" not in routes["outbound"]["routes"][2]


def test_settings_of_a_side_and_of_all_connections_are_shown() -> None:
    """Limits, drain, and what inbound limits as a whole."""
    routes = pages()[0]
    assert setting(routes["inbound"]["settings"], "rate_limit.requests") == (9, "f.yaml:5")
    assert setting(routes["inbound"]["settings"], "forwarded") == (None, "default")
    trusting = TEXT.replace(
        "  rate_limit: {requests: 9}", "  rate_limit: {requests: 9}\n  forwarded: {trusted_hops: 2}"
    )
    shown = pages(trusting)[0]["inbound"]["settings"]
    assert setting(shown, "forwarded") == ({"trusted_hops": 2}, "f.yaml:6")
    assert setting(routes["settings"], "limits.idle_timeout") == (60.0, "f.yaml:26")
    assert setting(routes["settings"], "limits.header_timeout") == (10.0, "default")
    assert setting(routes["settings"], "limits.on_client_reset") == ("cancel", "default")
    assert setting(routes["settings"], "drain.timeout") == (20.0, "default")


def test_a_timeout_whose_default_is_another_s_value_shows_that_and_its_line() -> None:
    """Nobody has to know which of two settings is in force."""
    settings = pages()[0]["settings"]
    assert setting(settings, "limits.client_idle_timeout") == (60.0, "f.yaml:26")
    assert setting(settings, "limits.stream_idle_timeout") == (60.0, "f.yaml:26")
    assert setting(settings, "limits.tunnel_idle_timeout") == (3600.0, "f.yaml:27")
    bare = pages(TEXT.partition("limits:")[0])[0]["settings"]
    assert setting(bare, "limits.client_idle_timeout") == (300.0, "default")


def test_what_a_request_may_switch_to_says_whose_it_is() -> None:
    """The route's own, that of `inbound`, or nobody's; the way to the app included."""
    text = TEXT.replace('  app: "h:1"', '  app: "h:1"\n  upgrades: [tcp]\n  routes: [{timeout: 1s}, {upgrades: []}]')
    routes = pages(text)[0]
    inbound = [*routes["inbound"]["routes"], routes["inbound"]["unmatched"]]
    assert [setting(entry["settings"], "upgrades") for entry in inbound] == [
        (["tcp"], "f.yaml:5"), ([], "f.yaml:6"), (["tcp"], "f.yaml:5"),
    ]  # fmt: skip
    assert setting(routes["inbound"]["settings"], "upgrades") == (["tcp"], "f.yaml:5")
    for entry in (routes["outbound"]["routes"][1], routes["outbound"]["routes"][3]):
        assert setting(entry["settings"], "upgrades") == (["websocket"], "default")
    assert setting(pages("via: off" + TEXT)[0]["settings"], "via") == ("off", "f.yaml:1")
    assert setting(pages()[0]["settings"], "via") == ("on", "default")


def test_a_side_that_never_had_an_endpoint_is_shown_as_left_out() -> None:
    """Beside the weight that the file gives it."""
    text = TEXT.replace('b: {dns: "h:3"}', "b: {discover: b}").replace("      to: a\n", "      to: {a: 9, b: 1}\n")
    assert pages(text)[0]["outbound"]["routes"][0]["to"] == [
        {"upstream": "a", "weight": 9.0},
        {"upstream": "b", "weight": 1.0, "left_out": "it has never had an endpoint"},
    ]


def test_values_of_an_upstream_name_their_line() -> None:
    """And those of the app, which the file has no section for."""
    upstreams = pages()[1]
    settings = upstreams["a"]["settings"]
    assert setting(settings, "connect_timeout") == (3.0, "f.yaml:21")
    assert setting(settings, "idle_timeout") == (4.0, "default")
    assert setting(settings, "load_balancing") == ({"hash": {"header": "x-user"}}, "f.yaml:22")
    assert setting(settings, "circuit_breaker.max_requests") == (5, "f.yaml:23")
    assert setting(settings, "circuit_breaker.max_retries") == (16, "default")
    assert setting(settings, "retry_budget.percent") == (20.0, "default")
    assert setting(upstreams["app"]["settings"], "connect_timeout") == (1.0, "default")
    assert setting(upstreams["app"]["settings"], "circuit_breaker") == (None, "default")


def test_endpoints_say_how_they_are() -> None:
    """Zone, health, ejection, and the share that they get now."""
    (endpoint,) = pages()[1]["a"]["endpoints"]
    assert (endpoint["address"], endpoint["zone"], endpoint["share"]) == ("h:2", "z", 1)
    assert (endpoint["health"], endpoint["ejected"], endpoint["probation"]) == ("unknown", False, False)


def test_every_timeout_of_the_documentation_is_shown() -> None:
    """The table `Timeouts, all of them` and the pages agree."""
    routes, upstreams = pages()
    shown = {*routes["settings"], *routes["outbound"]["routes"][0]["settings"], *upstreams["a"]["settings"]}
    assert shown >= {
        "limits.header_timeout", "limits.idle_timeout", "drain.timeout", "drain.delay", "via", "timeout",
        "retry.per_try_timeout", "connect_timeout", "idle_timeout", "max_age", "circuit_breaker.pending_timeout",
        "limits.client_idle_timeout", "limits.stream_idle_timeout", "limits.tunnel_idle_timeout",
    }  # fmt: skip


SECRETIVE = """
service: s
inbound:
  app: "h:1"
  authorization:
    default: deny
    rules:
      - {name: one, allow: {headers: {x-api-key: hunter2hunter2, x-tenant: acme}}}
      - {name: authorization, deny: {headers: {authorization: "Bearer hunter2hunter2"}, path: {prefix: /x}}}
outbound:
  routes:
    - {match: {headers: {authorization: "Basic hunter2hunter2"}, query: {token: hunter2hunter2}}, to: api-key}
    - {match: {cookies: {session: hunter2hunter2}}, redirect: {host: "h.example", path: "/?token=hunter2hunter2"}}
upstreams: {api-key: {endpoints: ["h:2"]}, token: {dns: "h:3"}}
tests:
  - {name: one, request: {url: "http://api-key/", headers: {authorization: hunter2hunter2}}, expect: {to: api-key}}
"""


FULL = Path(__file__).parents[3] / "config" / "examples" / "full.yaml"


@pytest.mark.parametrize("text", [TEXT, SECRETIVE, FULL.read_text()], ids=["text", "secrets", "full"])
def test_all_of_a_file_is_shown_in_steps_as_at_once(text: str) -> None:
    """What is hidden in a whole file is hidden where its parts are shown one by one."""
    written, secrets = draft_of(text).written, Secrets(["acmeacme"])

    page = at_once(Effective("f.yaml", written, secrets).everything())

    assert page == secrets.shown(plain(at_once(written.config())))
    assert "hunter2" not in json.dumps(page)


def test_no_step_of_a_page_is_about_more_than_a_few_routes() -> None:
    """However many there are: traffic goes on between two steps."""
    count = 300
    routes = "".join(f"    - {{name: r{n}, match: {{host: h{n}}}, to: a}}\n" for n in range(count))
    rules = "".join(f"      - {{name: r{n}, deny: {{path: /p{n}}}}}\n" for n in range(count))
    keeping = Keeping(
        f"service: s\ninbound:\n  app: 'h:1'\n  authorization:\n    default: allow\n    rules:\n{rules}"
        f"outbound:\n  routes:\n{routes}upstreams: {{a: {{endpoints: []}}}}\n"
    )
    effective = Effective("f.yaml", keeping.written)

    def steps_of(work: Generator[None, None, Any]) -> tuple[int, Any]:
        steps = 0
        while True:
            try:
                next(work)
            except StopIteration as done:
                return steps, done.value
            steps += 1

    steps, page = steps_of(effective.routes(keeping.plan))
    assert (steps > count, len(page["outbound"]["routes"])) == (True, count + 1)
    steps, everything = steps_of(effective.everything())
    assert (steps > 2 * count, len(everything["outbound"]["routes"])) == (True, count)
    steps, coverage = steps_of(coverage_of(keeping.telemetry.numbers.scopes))
    assert (steps > count // 20, len(coverage.routes) > count) == (True, True)
    assert steps_of(coverage.annotate(page))[0] >= count
    assert steps_of(effective.local())[0] > count // 20
