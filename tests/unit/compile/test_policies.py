"""Protection in the file reaches the data path with its numbers, and rate limits outlive reloads."""

from __future__ import annotations

import gc
from math import inf

import pytest

from sidecar.compile.plan import Compiler
from sidecar.config.problems import ConfigError
from sidecar.config.values import unsupported
from sidecar.exchange import Direction
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.proxy.exchange.policies import BothLimits, Fault, Mirror, RateLimit, RateLimiter
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward
from sidecar.upstream.health.outlier import LatencySpec, OutlierSpec, SuccessRateSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudgetSpec
from sidecar.upstream.retry import NO_POLICY, RetryPolicy
from tests.support.compiling import compiled, compiler, draft_of

UPSTREAMS = 'upstreams: {a: {endpoints: ["h:1"]}, b: {endpoints: ["h:2"]}}\n'


@pytest.fixture(autouse=True)
def everything_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are not in force yet are compiled already."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())


def plan_of(text: str, by: Compiler | None = None) -> Plan:
    """Compile as a reload does."""
    return compiled(text, by).plan


def forward(text: str, by: Compiler | None = None) -> Forward:
    """The action of the only route, which has these settings."""
    plan = plan_of(f"service: s\noutbound: {{routes: [{{name: r, to: a, {text}}}]}}\n{UPSTREAMS}", by)
    action = plan.sides[Direction.OUTBOUND].table.routes[0].action
    assert isinstance(action, Forward)
    return action


def head(*fields: str) -> RequestHead:
    return parse_request_head("\r\n".join(("GET / HTTP/1.1", "Host: x", *fields)).encode(), 100)


def test_a_route_that_says_nothing_has_no_policy() -> None:
    """The data path then does what is safe."""
    action = forward("timeout: 1s")
    assert (action.retry, action.fault, action.mirrors, action.rate_limit) == (None, None, (), None)


def test_retries_reach_the_data_path() -> None:
    """Words apart from statuses, methods as octets, times in seconds."""
    action = forward(
        "retry: {attempts: 3, on: [gateway_error, 429], per_try_timeout: 250ms, backoff: {base: 10ms, max: 1s}, "
        "methods: [GET, POST], max_body: 1KiB}"
    )
    assert action.retry == RetryPolicy(
        3, frozenset({"gateway_error"}), frozenset({429}), 0.25, 0.01, 1.0, frozenset({b"GET", b"POST"}), 1024
    )


def test_defaults_of_retries_are_those_of_the_data_path() -> None:
    """Written twice, once for the file and once for the code; this keeps them equal."""
    assert forward("retry: {on: []}").retry == RetryPolicy(per_try_timeout_s=inf)
    assert NO_POLICY.attempts == 1


def test_faults_reach_the_data_path() -> None:
    """With their header test bound."""
    fault = forward("fault: {delay: {percent: 1%, duration: 2s}, abort: {percent: 0.5, status: 418}}").fault
    assert fault == Fault(1.0, 2.0, 0.5, 418)
    fault = forward("fault: {abort: {}, header: {x-fault: {prefix: a}}}").fault
    assert isinstance(fault, Fault)
    assert (fault.delay_percent, fault.abort_percent, fault.abort_status) == (0.0, 100.0, 503)
    assert fault.decide(lambda: 0.5, head("X-Fault: abc")) == (0.0, 503)
    assert fault.decide(lambda: 0.5, head("X-Fault: bc")) == (0.0, None)


def test_mirrors_reach_the_data_path() -> None:
    """With the cluster itself."""
    (mirror,) = forward("mirror: {to: b, percent: 10%, max_body: 2KiB}").mirrors
    assert isinstance(mirror, Mirror)
    assert (mirror.upstream.name, mirror.percent, mirror.max_body_bytes) == ("b", 10.0, 2048)


def test_several_mirrors_reach_the_data_path_in_their_order() -> None:
    """Each with its own share; a name alone is one that takes everything."""
    mirrors = forward("mirror: [a, {to: b, percent: 5%}]").mirrors
    assert [(mirror.upstream.name, mirror.percent) for mirror in mirrors] == [("a", 100.0), ("b", 5.0)]


class TestRateLimits:
    """Counts belong to the limit, not to the plan."""

    TEXT = "rate_limit: {requests: 2, per: 10s, key: {header: x-key}}"

    def test_limits_reach_the_data_path(self) -> None:
        """The burst is the number of requests unless it is said."""
        limiter = forward(self.TEXT).rate_limit
        assert isinstance(limiter, RateLimiter)
        assert limiter.limit == RateLimit(2, 10.0, 2, ("header", "x-key"))
        assert limiter.key_of(head("x-key: me"), "ip") == b"me"
        limiter = forward("rate_limit: {requests: 2, burst: 1, key: source_ip}").rate_limit
        assert isinstance(limiter, RateLimiter)
        assert limiter.limit == RateLimit(2, 1.0, 1, ("source_ip", ""))
        assert limiter.key_of(head(), "10.1.1.1") == b"10.1.1.1"

    def test_an_unchanged_limit_keeps_its_counts_through_a_reload(self) -> None:
        """Whatever else changed."""
        process = compiler()
        first = forward(self.TEXT, process)
        self._use_up(first)
        again = forward(self.TEXT + ", timeout: 1s", process)
        assert self._waits_s(again) == self._waits_s(first) > 0.0

    def test_a_changed_limit_begins_anew(self) -> None:
        """Its old counts mean nothing under the new numbers."""
        process = compiler()
        first = forward(self.TEXT, process)
        self._use_up(first)
        assert self._waits_s(forward("rate_limit: {requests: 3, per: 10s, key: {header: x-key}}", process)) is None

    def test_a_reload_that_is_refused_leaves_the_counts(self) -> None:
        """As long as the live plan holds the limiter its counts are found again, and after that they are forgotten."""
        process = compiler()
        live = forward(self.TEXT, process)
        self._use_up(live)
        forward("rate_limit: {requests: 3, per: 10s}", process)
        gc.collect()
        assert self._waits_s(forward(self.TEXT, process)) == self._waits_s(live) > 0.0
        del live
        gc.collect()
        assert self._waits_s(forward(self.TEXT, process)) is None

    def _use_up(self, action: Forward) -> None:
        """Two requests, the burst."""
        assert isinstance(action.rate_limit, RateLimiter)
        assert [action.rate_limit.allow(b"me", 1.0) for _ in range(2)] == [None, None]

    def _waits_s(self, action: Forward) -> float | None:
        """What a third one is told."""
        assert isinstance(action.rate_limit, RateLimiter)
        return action.rate_limit.allow(b"me", 1.0)

    def test_inbound_as_a_whole_has_a_limit_that_every_route_shares(self) -> None:
        """Beside the route's own, and for what no route matches; outbound has none."""
        limits = "rate_limit: {requests: 7}, routes: [{name: r, match: {host: r}, rate_limit: {requests: 5}}, {}]"
        plan = plan_of(f"service: s\ninbound: {{app: 'h:1', {limits}}}\noutbound: {{}}\n{UPSTREAMS}")
        side = plan.sides[Direction.INBOUND]
        own, other, fallback = (
            route.action.rate_limit
            for route in (*side.table.routes, side.fallback)
            if route is not None and isinstance(route.action, Forward)
        )
        assert isinstance(own, BothLimits)
        assert (own.own.limit.requests, own.common.limit.requests) == (5, 7)
        assert own.common is other is fallback
        outbound = plan.sides[Direction.OUTBOUND].table.routes[0].action
        assert isinstance(outbound, Forward)
        assert outbound.rate_limit is None


def test_protection_of_upstreams_reaches_their_clusters() -> None:
    """Every number of the file."""
    spec = draft_of(
        """
        service: s
        zone: a1
        outbound: {}
        upstreams:
          u:
            endpoints: [{address: "h:1", zone: a1}, "h:2"]
            load_balancing: peak_ewma
            retry_budget: {percent: 10%, min_per_second: 1.5}
            circuit_breaker: {max_connections: 1, max_pending_requests: 2, max_requests: 3, max_retries: 4,
                              pending_timeout: 5s, adaptive: true}
            outlier_detection: {consecutive_5xx: 1, consecutive_gateway_errors: 2, consecutive_connect_failures: 3,
                                interval: 4s, base_ejection_time: 5s, max_ejection_time: 6s, max_ejection_percent: 7,
                                success_rate: {minimum_hosts: 8, request_volume: 9, stdev_factor: 10},
                                latency: {factor: 11, minimum_hosts: 12, request_volume: 13, min_latency: 14ms}}
            health_check: {path: /é?x=1, port: 81, host: h.example, headers: {x-a: b}, interval: 1s, jitter: 20%,
                           timeout: 2s, healthy_threshold: 3, unhealthy_threshold: 4, expected_statuses: [200, 3xx],
                           expected_body: ok}
            slow_start: 30s
            panic_threshold: 40%
        """
    ).clusters[0]
    assert (spec.zone, spec.zones, spec.policy) == ("a1", (("h:1", "a1"),), "peak_ewma")
    assert spec.retry_budget == RetryBudgetSpec(10.0, 1.5)
    assert spec.breaker == BreakerSpec(1, 2, 3, 4, 5.0, True)
    assert spec.outlier == OutlierSpec(
        1, 2, 3, 4.0, 5.0, 6.0, 7.0, SuccessRateSpec(8, 9, 10.0), LatencySpec(11.0, 12, 13, 0.014)
    )
    health = spec.health
    assert health is not None
    assert (health.path, health.port, health.host, health.headers) == ("/%C3%A9?x=1", 81, "h.example", (("x-a", "b"),))
    assert (health.interval_s, health.jitter, health.timeout_s) == (1.0, 0.2, 2.0)
    assert (health.healthy_threshold, health.unhealthy_threshold) == (3, 4)
    assert (health.statuses, health.body) == (((200, 200), (300, 399)), b"ok")
    assert (spec.slow_start_s, spec.panic_threshold) == (30.0, 40.0)


def test_defaults_of_upstreams_are_those_of_the_data_path() -> None:
    """`{}` in the file and no argument in the code mean the same."""
    text = "service: s\noutbound: {}\nupstreams: {u: {dns: 'h:1', circuit_breaker: {}, outlier_detection: {}}}\n"
    (spec,) = draft_of(text).clusters
    assert (spec.breaker, spec.outlier) == (BreakerSpec(), OutlierSpec())
    assert (spec.retry_budget, spec.health, spec.panic_threshold, spec.slow_start_s) == (RetryBudgetSpec(), None, 50, 0)


def test_the_app_has_a_breaker_if_inbound_says_so() -> None:
    """It is an upstream as others, but has no name in the file."""
    (app,) = draft_of("service: s\ninbound: {app: 'h:1', circuit_breaker: {adaptive: true}}\n").clusters
    assert app.breaker == BreakerSpec(adaptive=True)


def test_a_check_that_http_cannot_carry_is_a_problem_at_its_upstream() -> None:
    """Not an exception at the first check."""
    with pytest.raises(ConfigError, match=r"f\.yaml:3:.*upstreams\.u"):
        draft_of("service: s\noutbound: {}\nupstreams: {u: {dns: 'h:1', health_check: {headers: {x-a: é}}}}\n")


def test_the_drains_delay_reaches_the_plan() -> None:
    """In seconds."""
    assert plan_of("service: s\ninbound: {app: 'h:1'}\ndrain: {delay: 3s}\n").drain_delay_s == 3.0
