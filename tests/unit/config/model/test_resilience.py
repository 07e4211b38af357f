"""Retries, limits, ejection, health, copies, faults and rates: what is written and what it means."""

from __future__ import annotations

import pathlib
from typing import get_args

import pytest

from sidecar.config.load import load_text
from sidecar.config.model import resilience
from sidecar.config.model.root import Config, Route, Upstream
from sidecar.config.schema import json_schema
from sidecar.config.values import unsupported
from sidecar.config.values.words import parse_method
from sidecar.upstream import retry as data_path

ROOT = pathlib.Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "config" / "resilience").glob("*.yaml"))


@pytest.fixture(autouse=True)
def everything_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are not in force yet have their meaning already."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())


def load(text: str) -> Config:
    return load_text(text.encode(), "f", {})


def route(text: str) -> Route:
    """An outbound route to `a` with these settings."""
    upstreams = 'upstreams: {a: {endpoints: ["h:1"]}, b: {dns: "h:2"}}'
    config = load(f"service: s\n{upstreams}\noutbound: {{routes: [{{to: a, {text}}}]}}\n")
    assert config.outbound is not None
    return config.outbound.routes[0]


def upstream(text: str) -> Upstream:
    return load(f"service: s\noutbound: {{}}\nupstreams: {{a: {{dns: 'h:1', {text}}}}}\n").upstreams["a"]


def test_retry_of_the_design_means_what_it_says() -> None:
    """The example of the design's section 4."""
    retry = route(
        "retry: {attempts: 2, on: [connect_failure, reset_before_response, gateway_error], per_try_timeout: 500ms}"
    ).retry
    assert retry is not None
    assert (retry.attempts, retry.per_try_timeout) == (2, 0.5)
    assert retry.on == ["connect_failure", "reset_before_response", "gateway_error"]
    assert (retry.backoff.base, retry.backoff.max, retry.max_body) == (0.025, 0.25, 65536)
    assert retry.methods == ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]


def test_retry_without_a_word_retries_what_was_not_processed() -> None:
    """The default adds no occasion on which a server may have answered."""
    retry = route("retry: {attempts: 3}").retry
    assert retry is not None
    assert retry.on == ["connect_failure", "reset_before_response", "refused"]
    assert retry.per_try_timeout is None


def test_conditions_may_be_words_and_statuses() -> None:
    """`on:` is a word in YAML 1.2, `5xx` a word, `503` a number."""
    retry = route("retry: {on: [5xx, 429, timeout]}").retry
    assert retry is not None
    assert retry.on == ["5xx", 429, "timeout"]
    retry = route("retry: {on: 503}").retry
    assert retry is not None
    assert retry.on == [503]


def test_words_of_retries_are_those_of_the_data_path() -> None:
    """The two lists cannot import each other; this keeps them equal."""
    assert set(resilience.RETRY_CONDITIONS) == set(get_args(data_path.Condition))
    assert {method.encode() for method in resilience.IDEMPOTENT_METHODS} == data_path.IDEMPOTENT_METHODS
    assert all(parse_method(method) == method for method in resilience.IDEMPOTENT_METHODS)


def test_mirror_may_be_a_name() -> None:
    """All requests, bodies up to 64 KiB."""
    for written in ("b", "{to: b}"):
        (mirror,) = route(f"mirror: {written}").mirror or ()
        assert (mirror.to, mirror.percent, mirror.max_body) == ("b", 100.0, 65536)
    (mirror,) = route("mirror: [{to: b, percent: 10%, max_body: 1MiB}]").mirror or ()
    assert (mirror.percent, mirror.max_body) == (10.0, 1048576)


def test_fault_of_the_design_means_what_it_says() -> None:
    """Shares with and without a fraction; a header test as in a match."""
    fault = route(
        "fault: {delay: {percent: 1%, duration: 2s}, abort: {percent: 0.5%, status: 503}, header: {X-Fault: yes}}"
    ).fault
    assert fault is not None
    assert fault.delay is not None
    assert fault.abort is not None
    assert (fault.delay.percent, fault.delay.duration) == (1.0, 2.0)
    assert (fault.abort.percent, fault.abort.status) == (0.5, 503)
    assert fault.header["x-fault"].exact == "yes"


def test_rate_limit_of_the_issue_means_what_it_says() -> None:
    """On routes and on inbound; a key is one of `sticky`'s."""
    limit = route("rate_limit: {requests: 100, per: 1s, burst: 50, key: {header: X-Api-Key}}").rate_limit
    assert limit is not None
    assert (limit.requests, limit.per, limit.burst) == (100, 1.0, 50)
    assert limit.key is not None
    assert limit.key.header == "x-api-key"
    inbound = load("service: s\ninbound: {app: 'h:1', rate_limit: {requests: 5, key: source_ip}}\n").inbound
    assert inbound is not None
    assert inbound.rate_limit is not None
    assert inbound.rate_limit.burst is None
    assert inbound.rate_limit.key is not None
    assert inbound.rate_limit.key.source_ip is True


def test_breaker_ejection_and_checks_of_the_design_mean_what_they_say() -> None:
    """The example of the design's section 4, and `{}` for all defaults."""
    one = upstream(
        "circuit_breaker: {max_connections: 1024, max_pending_requests: 1024, max_requests: 4096, max_retries: 16}, "
        "outlier_detection: {consecutive_5xx: 5, interval: 10s, base_ejection_time: 30s, max_ejection_percent: 50}, "
        "health_check: {path: /ping, interval: 5s, timeout: 2s, healthy_threshold: 2, unhealthy_threshold: 3}"
    )
    two = upstream("circuit_breaker: {}, outlier_detection: {}, health_check: {path: /ping}")
    assert one.circuit_breaker == two.circuit_breaker
    assert one.outlier_detection == two.outlier_detection
    assert one.health_check == two.health_check
    assert one.circuit_breaker is not None
    assert (one.circuit_breaker.pending_timeout, one.circuit_breaker.adaptive) == (1.0, False)
    assert one.outlier_detection is not None
    assert (one.outlier_detection.success_rate, one.outlier_detection.latency) == (None, None)
    assert one.health_check is not None
    assert one.health_check.expected_statuses == [(200, 299)]


def test_checks_may_expect_statuses_and_classes() -> None:
    """One, or a list."""
    for written, expected in (("204", [(204, 204)]), ("3xx", [(300, 399)]), ("[200, 4xx]", [(200, 200), (400, 499)])):
        check = upstream(f"health_check: {{expected_statuses: {written}}}").health_check
        assert check is not None
        assert check.expected_statuses == expected


def test_what_no_upstream_says_is_off_or_safe() -> None:
    """Nothing is ejected, checked or slowed; retries have a budget."""
    one = upstream("")
    assert (one.circuit_breaker, one.outlier_detection, one.health_check, one.slow_start) == (None, None, None, None)
    assert (one.retry_budget.percent, one.retry_budget.min_per_second, one.panic_threshold) == (20.0, 3.0, 50.0)


def test_zones_of_sidecar_and_endpoints() -> None:
    """A word each."""
    config = load(
        "service: s\nzone: a1\noutbound: {}\nupstreams: {a: {endpoints: [{address: 'h:1', zone: a1}, 'h:2']}}\n"
    )
    assert config.zone == "a1"
    assert [endpoint.zone for endpoint in config.upstreams["a"].endpoints or []] == ["a1", None]


def test_a_base_ejection_longer_than_the_default_bound_is_no_mistake() -> None:
    """Only a bound that is written can contradict it."""
    detection = upstream("outlier_detection: {base_ejection_time: 10m}").outlier_detection
    assert detection is not None
    assert detection.base_ejection_time == 600.0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_of_each_mechanism_load(path: pathlib.Path) -> None:
    """Each shows its mechanism, whole files that can be run."""
    assert load_text(path.read_bytes(), str(path), {}).service.name


def test_each_mechanism_has_an_example() -> None:
    """Whoever looks for one finds a file of its name."""
    assert {path.stem for path in EXAMPLES} >= {
        "adaptive", "circuit_breaker", "drain", "fault", "health_check", "load_balancing", "mirror",
        "outlier_detection", "rate_limit", "retry",
    }  # fmt: skip


def test_an_editor_marks_what_is_not_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema has no value for such a key."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset({"route.retry", "load_balancing.peak_ewma"}))
    schema = json_schema()
    assert schema["$defs"]["Route"]["properties"]["retry"]["not"] == {}
    assert "peak_ewma" not in str(schema["$defs"]["Upstream"]["properties"]["load_balancing"])
    assert "not" not in schema["$defs"]["Route"]["properties"]["mirror"]
