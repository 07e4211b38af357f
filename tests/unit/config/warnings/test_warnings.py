"""What each rule of the configuration warns of, where, and what it leaves alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.load import Loaded, load_source
from sidecar.config.source import make_source
from sidecar.config.warnings.rules import RULES
from sidecar.config.warnings.upstreams import named_by_routes

ROOT = Path(__file__).parents[4]


def load(text: str, env: dict[str, str] | None = None) -> Loaded:
    """A file that is good."""
    return load_source(make_source("f.yaml", text.encode()), env or {})


def told(text: str, env: dict[str, str] | None = None) -> list[str]:
    """Line, column and rule of each warning."""
    return [f"{one.line}:{one.column} {one.rule}" for one in load(text, env).warnings]


def routed(route: str, more: str = "") -> str:
    """A file with one outbound route, on its fourth line."""
    return (
        "service: s\nupstreams: {shop: {dns: 'a:1'}, shop-beta: {dns: 'b:1'}}\noutbound: {routes: [\n"
        + f"{route}\n]}}\n{more}"
    )


class TestSplits:
    """`weights-one-sided` and `split-without-sticky`."""

    @pytest.mark.parametrize(
        ("to", "expected"),
        [
            ("{shop: 100, shop-beta: 0}", ["4:6 weights-one-sided"]),
            ("[{upstream: shop, weight: 0}, shop-beta]", ["4:6 weights-one-sided"]),
            ("{shop: 95, shop-beta: 5}", ["4:6 split-without-sticky"]),
            ("{shop: 50, shop-beta: 50}", ["4:6 split-without-sticky"]),
            ("{shop: 5, shop-beta: 95}", []),  # hardly anybody is left on the old version
            ("shop-beta", []),
        ],
    )
    def test_sides_of_a_split_are_looked_at(self, to: str, expected: list[str]) -> None:
        """One side with everything, or a beta that users meet by chance."""
        assert told(routed(f"{{to: {to}}}")) == expected

    def test_a_beta_that_is_sticky_is_meant(self) -> None:
        """Who is on a side stays there."""
        assert told(routed("{to: {shop: 95, shop-beta: 5}, sticky: {cookie: uid}}")) == []

    def test_a_split_among_equals_is_meant(self) -> None:
        """Nobody sees which of two regions answers."""
        text = "service: s\noutbound: {routes: [{to: {east: 9, west: 1}}]}\n"
        assert told(text + "upstreams: {east: {dns: 'a:1'}, west: {dns: 'b:1'}}\n") == []

    def test_the_upstream_that_gets_nothing_is_named(self) -> None:
        """A reader knows which one without counting."""
        (warning,) = load(routed("{to: {shop: 1, shop-beta: 0}}")).warnings
        assert str(warning) == (
            "f.yaml:4:6: warning: outbound.routes[0].to: all of the weight is on `shop`: no request goes to"
            " `shop-beta`; give each a share, or remove the ones that have none"
        )


class TestMatches:
    """`cookie-header-regex`."""

    @pytest.mark.parametrize("test", ["a=1", "{regex: '.*a=1.*'}", "{contains: a=1}", "{prefix: a}", "{suffix: '1'}"])
    def test_the_header_is_no_cookie(self, test: str) -> None:
        """`Cookie` holds all of them, in an order that the browser chooses."""
        text = routed(f"{{match: {{headers: {{Cookie: '{test}'}}}}, to: shop}}".replace(f"'{test}'", test))
        assert told(text) == ["4:20 cookie-header-regex"]

    def test_whether_there_is_any_cookie_may_be_asked(self) -> None:
        """Only the header can answer that."""
        assert told(routed("{match: {headers: {cookie: {present: true}}}, to: shop}")) == []

    def test_what_the_regex_was_is_not_repeated(self) -> None:
        """A cookie may be a secret."""
        (warning,) = load(routed("{match: {headers: {cookie: {regex: '.*sid=hunter2.*'}}}, to: shop}")).warnings
        assert "hunter2" not in str(warning)

    def test_rules_of_authorization_are_asked_the_same(self) -> None:
        """They have matches, too."""
        text = (
            "service: s\ninbound:\n  app: 'h:8'\n  authorization:\n    default: deny\n"
            "    rules: [{name: r, allow: [{headers: {cookie: {regex: a}}}]}]\n"
        )
        assert told(text) == ["6:42 cookie-header-regex"]


class TestRetries:
    """`retries-exceed-timeout`, and what goes with it."""

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ("timeout: 2s, retry: {attempts: 2, per_try_timeout: 1s}", ["4:46 retries-exceed-timeout"]),
            ("timeout: 3s, retry: {attempts: 2, per_try_timeout: 1s}", []),
            ("timeout: 300ms, retry: {attempts: 2, per_try_timeout: 100ms}", []),  # 0.1 * 3 is above 0.3
            ("timeout: 1s, retry: {attempts: 0, per_try_timeout: 1s}", []),
            ("timeout: 1s, retry: {attempts: 3}", []),  # what fails at once leaves time
            ("retry: {attempts: 3, per_try_timeout: 1s}", []),
            ("retry: {on: timeout}", ["4:24 setting-without-effect"]),
            ("retry: {on: [timeout], per_try_timeout: 1s}", []),
        ],
    )
    def test_attempts_must_fit(self, values: str, expected: list[str]) -> None:
        """All attempts together, each as long as it may take."""
        assert told(routed(f"{{to: shop, {values}}}")) == expected

    def test_figures_are_told(self) -> None:
        """So that nobody has to calculate."""
        (warning,) = load(routed("{to: shop, timeout: 1s, retry: {attempts: 3, per_try_timeout: 400ms}}")).warnings
        assert warning.message == (
            "4 attempts of 400ms take 1.6s, and the route's `timeout` of 1s has room for 2 of them"
        )

    @pytest.mark.parametrize(
        ("more", "expected"),
        [(", connect_timeout: 5s", ["3:20 retries-exceed-timeout"]), (", connect_timeout: 500ms", []), ("", [])],
    )
    def test_a_connect_may_not_outlast_the_route(self, more: str, expected: list[str]) -> None:
        """Its end would never come; what nobody wrote is not held against anybody."""
        text = f"service: s\noutbound:\n  routes: [{{to: a, timeout: 500ms}}]\nupstreams: {{a: {{dns: 'a:1'{more}}}}}\n"
        assert told(text) == expected


class TestLimits:
    """`limits-contradict`."""

    @pytest.mark.parametrize(
        ("upstream", "count"),
        [
            ("circuit_breaker: {max_requests: 10, max_pending_requests: 20}", 1),
            ("circuit_breaker: {max_requests: 10, max_pending_requests: 20, max_retries: 11}", 2),
            ("circuit_breaker: {max_requests: 10}", 0),
            ("circuit_breaker: {max_pending_requests: 9999}", 0),
            ("circuit_breaker: {max_requests: 10, max_connections: 20}", 0),  # idle ones count among them
            ("outlier_detection: {consecutive_5xx: 0}", 1),
            ("outlier_detection: {consecutive_5xx: 0, latency: {}}", 0),
            ("outlier_detection: {max_ejection_percent: 0}", 1),
            ("outlier_detection: {}", 0),
        ],
    )
    def test_limits_of_an_upstream(self, upstream: str, count: int) -> None:
        """One that another keeps from being reached; defaults are not held against anybody."""
        text = f"service: s\noutbound: {{}}\nupstreams: {{a: {{dns: 'a:1', {upstream}}}}}\n"
        assert [one.rule for one in load(text).warnings] == ["limits-contradict"] * count

    @pytest.mark.parametrize(
        ("own", "expected"),
        [("{requests: 200}", 1), ("{requests: 100}", 1), ("{requests: 50}", 0), ("{requests: 200, burst: 5}", 0),
         ("{requests: 200, key: {header: x}}", 0)],
    )  # fmt: skip
    def test_a_route_s_rate_beyond_that_of_all(self, own: str, expected: int) -> None:
        """Every request passes both."""
        text = f"service: s\ninbound: {{app: 'h:1', rate_limit: {{requests: 100}}, routes: [{{rate_limit: {own}}}]}}\n"
        assert [one.rule for one in load(text).warnings] == ["limits-contradict"] * expected

    @pytest.mark.parametrize(
        ("timeout", "limits", "expected"),
        [("10m", "", True), ("5m", "", False), ("10m", "limits: {stream_idle_timeout: 15m}\n", False),
         ("2s", "limits: {idle_timeout: 1s}\n", True)],
    )  # fmt: skip
    def test_a_timeout_that_idleness_ends_first(self, timeout: str, limits: str, expected: bool) -> None:
        """Who waits for an answer is idle."""
        found = load(routed(f"{{to: shop, timeout: {timeout}}}", limits)).warnings
        assert [one.rule for one in found] == ["limits-contradict"] * expected

    def test_retries_that_the_upstream_refuses(self) -> None:
        """A policy beside a limit of none."""
        text = "service: s\noutbound: {routes: [{to: a, retry: {attempts: 2}}]}\n"
        text += "upstreams: {a: {dns: 'a:1', circuit_breaker: {max_retries: 0}}}\n"
        assert told(text) == ["2:29 limits-contradict"]


class TestAddresses:
    """`own-listener`."""

    @pytest.mark.parametrize(
        ("app", "is_own"),
        [
            ("127.0.0.1:15000", True), ("localhost:15000", True), ("0.0.0.0:15000", True), ("127.0.0.1:15001", True),
            ("127.0.0.1:9901", True), ("127.0.0.1:8080", False), ("10.0.0.1:15000", False), ("[::1]:15000", False),
            ("unix:/run/s.sock", True), ("unix:/run/app.sock", False),
        ],
    )  # fmt: skip
    def test_the_app_is_not_the_sidecar(self, app: str, is_own: bool) -> None:
        """A request would come back for ever."""
        text = f"service: s\ninbound: {{app: '{app}', listen: ['0.0.0.0:15000', 'unix:/run/s.sock']}}\noutbound: {{}}\n"
        assert [one.rule for one in load(text).warnings] == ["own-listener"] * is_own

    @pytest.mark.parametrize(
        ("source", "place"),
        [("endpoints: ['10.0.0.1:1', '127.0.0.1:15001']", "3:43"), ("dns: 'localhost:15001'", "3:22")],
    )
    def test_nor_is_an_upstream(self, source: str, place: str) -> None:
        """By address and by name; the endpoint is pointed at."""
        assert told(f"service: s\noutbound: {{}}\nupstreams: {{a: {{{source}}}}}\n") == [f"{place} own-listener"]


class TestUpstreams:
    """`upstream-unused`."""

    @pytest.mark.parametrize(
        ("side", "hosts", "is_unused"),
        [
            ("outbound: {}", "[]", True),
            ("outbound: {}", "[x]", False),
            ("outbound: {routes: [{to: a}]}", "[]", False),
            ("outbound: {routes: [{to: b, mirror: a}]}", "[]", False),
            ("inbound: {app: 'h:1'}", "[x]", True),
            ("inbound: {routes: [{to: a}]}", "[x]", False),
            ("outbound: {}\ncapture: {}", "[]", False),
        ],
    )
    def test_somebody_must_lead_there(self, side: str, hosts: str, is_unused: bool) -> None:
        """A route, a copy, or a host that the app calls; what is captured comes by address."""
        text = f"service: s\n{side}\nupstreams: {{a: {{dns: 'a:1', hosts: {hosts}}}, b: {{dns: 'b:1'}}}}\n"
        loaded = load(text)
        found = [one.path for one in loaded.warnings if one.rule == "upstream-unused"]
        assert ("upstreams.a" in found) is is_unused
        assert set(named_by_routes(loaded.config)) <= {"a", "b"}


def test_what_a_control_plane_tells_may_be_unused() -> None:
    """The file was made of a mesh's, and has a service whether or not its routes leave it any calls."""
    text = "service: s\noutbound: {}\nupstreams: {a: {discover: a, hosts: []}, b: {discover: {file: /f}, hosts: []}}\n"
    assert [one.path for one in load(text).warnings] == ["upstreams.b"]


class TestSubstitutions:
    """`dollar-in-substitution`."""

    @pytest.mark.parametrize(
        ("substitution", "expected"), [("/$1", True), ("/$${1}", True), ("\\1$", False), ("/a$b", False)]
    )
    def test_groups_are_written_with_a_backslash(self, substitution: str, expected: bool) -> None:
        """A dollar is sent as it is, which nobody means before a digit."""
        text = routed(f"{{to: shop, rewrite: {{regex: {{pattern: '(.*)', substitution: '{substitution}'}}}}}}")
        assert [one.rule for one in load(text).warnings] == ["dollar-in-substitution"] * expected


class TestPlaces:
    """Where a warning points."""

    def test_a_variable_keeps_its_place_and_its_secret(self) -> None:
        """What it holds is not shown."""
        text = "service: s\noutbound: {}\nupstreams:\n  a:\n    dns: ${WHERE}\n"
        (warning,) = load(text, {"WHERE": "localhost:15001"}).warnings
        assert (warning.line, warning.column, warning.path) == (5, 10, "upstreams.a.dns")
        assert "localhost" not in str(warning)

    def test_an_anchor_is_where_the_value_is_written(self) -> None:
        """An alias points there, where it is put right for all."""
        text = (
            "service: s\noutbound:\n  routes:\n    - &r\n      to: {shop: 1, shop-beta: 0}\n"
            "    - {match: {host: x}, to: shop}\n"
            "    - *r\nupstreams: {shop: {dns: 'a:1'}, shop-beta: {dns: 'b:1'}}\n"
        )
        assert told(text) == ["5:11 weights-one-sided"] * 2

    def test_lines_after_a_text_of_several_are_counted(self) -> None:
        """A block of text takes as many lines as it has."""
        text = (
            "service: s\noutbound:\n  routes:\n    - match: {path: /t}\n      respond:\n        status: 200\n"
            "        body: |\n          one\n          two\n    - to: {shop: 1, shop-beta: 0}\n"
            "upstreams: {shop: {dns: 'a:1'}, shop-beta: {dns: 'b:1'}}\n"
        )
        assert told(text) == ["10:11 weights-one-sided"]


class TestIgnored:
    """`# sidecar: ignore RULE`."""

    LINE = "    - {to: {shop: 1, shop-beta: 0}}"
    REST = "upstreams: {shop: {dns: 'a:1'}, shop-beta: {dns: 'b:1'}}\n"

    @pytest.mark.parametrize(
        ("before", "after", "is_told"),
        [
            ("", "  # sidecar: ignore weights-one-sided", False),
            ("", "  # sidecar: ignore weights-one-sided -- until Monday", False),
            ("", "  # sidecar: ignore split-without-sticky, weights-one-sided", False),
            ("    # sidecar: ignore weights-one-sided\n", "", False),
            ("    # sidecar: ignore weights-one-sided\n\n    # why\n", "", False),
            ("", "  # sidecar: ignore split-without-sticky", True),
            ("", "  # sidecar: ignore", True),
            ("", "  # ignore weights-one-sided", True),
            ("    # sidecar: ignore weights-one-sided\n    - {match: {host: x}, to: shop}\n", "", True),
        ],
    )
    def test_a_comment_takes_one_rule_off_one_line(self, before: str, after: str, is_told: bool) -> None:
        """By name only: a warning of another rule is told all the same."""
        text = f"service: s\noutbound:\n  routes:\n{before}{self.LINE}{after}\n{self.REST}"
        assert [one.rule for one in load(text).warnings] == ["weights-one-sided"] * is_told

    def test_a_file_with_other_line_ends_has_the_same_lines(self) -> None:
        """As Windows writes them."""
        text = f"service: s\noutbound:\n  routes:\n{self.LINE}  # sidecar: ignore weights-one-sided\n{self.REST}"
        assert load(text.replace("\n", "\r\n")).warnings == ()


def test_every_rule_that_is_reported_is_in_the_table() -> None:
    """And none is there that nothing reports."""
    used: set[str] = set()
    for path in (ROOT / "sidecar").rglob("*.py"):
        if path.name != "rules.py" or path.parent.name != "warnings":
            used |= set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', path.read_text())) & set(RULES)
    assert used == set(RULES)
    written = set()
    for path in (ROOT / "sidecar").rglob("*.py"):
        written |= set(re.findall(r'(?:\brule=|_RULE(?:: Final)? = )"([a-z0-9]+(?:-[a-z0-9]+)+)"', path.read_text()))
    assert written - {"test-fails"} <= set(RULES)
