"""Retries: which occasions, which requests, when, how many, and the reason when there is none."""

from __future__ import annotations

from math import inf

import pytest

from sidecar import errors
from sidecar.message import Field, RequestHead
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudget, RetryBudgetSpec
from sidecar.upstream.retry import (
    CONDITIONS,
    MAX_RETRY_AFTER_S,
    NO_POLICY,
    SKIP_REASONS,
    Condition,
    Retry,
    RetryPolicy,
    Skip,
    decide,
    parse_retry_after,
    skipped,
)
from sidecar.upstream.stats import COUNTS

UPSTREAM_FAILURES = [reason for reason in errors.REASONS if reason.source is errors.Source.UPSTREAM]
OTHER_FAILURES = [reason for reason in errors.REASONS if reason.source is not errors.Source.UPSTREAM]


def request(method: bytes = b"GET", key: bytes | None = None) -> RequestHead:
    head = RequestHead(method, b"/", None, 1)
    if key is not None:
        head.fields = [Field(b"idempotency-key", key, 0, b"Idempotency-Key: " + key)]
    return head


def cluster_of(**settings: object) -> Cluster:
    return Cluster(ClusterSpec("web", (("a:80", 1),), **settings))  # type: ignore[arg-type]


def ask(policy: RetryPolicy = NO_POLICY, cluster: Cluster | None = None, **facts: object) -> Retry | Skip | None:
    """Decide about a GET without a body whose first attempt was reset, but for what is given."""
    given: dict[str, object] = {
        "head": request(), "failure": errors.UPSTREAM_RESET, "retries": 0, "is_kept": True, "now": 100.0,
        "random": lambda: 1.0,
    }  # fmt: skip
    given.update(facts)
    return decide(policy, cluster or cluster_of(), **given)  # type: ignore[arg-type]


ALL = RetryPolicy(3, frozenset(CONDITIONS))  # type: ignore[arg-type]


class TestWithoutPolicy:
    """One retry on the two occasions on which it is safe."""

    def test_request_that_was_never_sent_is_retried_whatever_it_is(self) -> None:
        """No connection could be made: a POST with any body goes elsewhere at once."""
        facts = {"failure": errors.CONNECT_FAILED, "is_unsent": True}
        assert ask(head=request(b"POST"), **facts) == Retry(0.0)
        assert ask(head=request(b"POST"), **facts, retries=1) is None

    def test_request_on_a_connection_that_had_died_is_retried_if_it_may_be_repeated(self) -> None:
        """The keep-alive race: a GET goes again at once, a POST only with the client's word for it."""
        assert ask(is_stale=True) == Retry(0.0)
        assert ask(is_stale=True, failure=errors.UPSTREAM_CLOSED) == Retry(0.0)
        assert ask(is_stale=True, head=request(b"POST")) is None
        assert ask(is_stale=True, head=request(b"POST", b"abc")) == Retry(0.0)
        assert ask(is_stale=True, is_kept=False) is None
        assert ask(is_stale=True, retries=1) is None

    @pytest.mark.parametrize("failure", errors.REASONS, ids=lambda reason: reason.name)
    def test_nothing_else_is_retried(self, failure: errors.Reason) -> None:
        """A fresh connection that breaks may have processed the request."""
        assert ask(failure=failure) is None

    def test_statuses_are_not_retried(self) -> None:
        """A response is a response."""
        assert all(ask(failure=None, status=status) is None for status in range(400, 600))

    def test_nothing_is_counted_for_what_nobody_asked_for(self) -> None:
        """A skipped retry is one that a policy names."""
        cluster = cluster_of()
        ask(cluster=cluster, is_stale=True, head=request(b"POST"))
        assert all(getattr(cluster.stats, f"retry_skipped_{reason}") == 0 for reason in SKIP_REASONS)
        assert cluster.stats.retries == 0


TLS_FAILURES = {
    "upstream_certificate_expired", "upstream_certificate_not_yet_valid", "upstream_certificate_untrusted",
    "upstream_identity_mismatch", "upstream_refused_certificate", "upstream_tls_alpn", "upstream_tls_failed",
    "upstream_tls_timeout",
}  # fmt: skip
"""The server's part; that we hold no certificate is nobody's failure but ours."""


class TestOccasions:
    """`on` means what it says."""

    @pytest.mark.parametrize(
        ("condition", "failures"),
        [
            (
                "connect_failure",
                {"connect_failed", "connect_timeout", "resolve_failed", "resolve_timeout"} | TLS_FAILURES,
            ),
            ("reset_before_response", {"upstream_closed", "upstream_reset", "stream_refused"}),
            ("timeout", {"response_timeout", "try_timeout"}),
            ("retriable_4xx", set()),
            ("refused", {"stream_refused"}),
        ],
    )
    def test_failures_by_condition(self, condition: str, failures: set[str]) -> None:
        """Each condition names exactly these rows of the table of reasons."""
        policy = RetryPolicy(1, frozenset((condition,)))  # type: ignore[arg-type]
        assert {reason.name for reason in errors.REASONS if policy.names(reason)} == failures

    @pytest.mark.parametrize("condition", ["5xx", "gateway_error"])
    def test_every_way_of_not_answering_is_a_5xx_and_a_gateway_error(self, condition: Condition) -> None:
        """As in Envoy: no response at all is no better than a 503, but half of one is not retried."""
        policy = RetryPolicy(1, frozenset((condition,)))
        for reason in UPSTREAM_FAILURES:
            assert policy.names(reason) == (reason.phase is not errors.Phase.RESPONSE_BODY)
        others = {reason for reason in OTHER_FAILURES if policy.names(reason)}
        assert others == {errors.RESOLVE_TIMEOUT}  # Nobody's fault behind us, and no connection either.

    @pytest.mark.parametrize(
        ("condition", "statuses"),
        [
            ("gateway_error", {502, 503, 504}),
            ("5xx", set(range(500, 600))),
            ("retriable_4xx", {409}),
            ("refused", {408, 421}),
            ("connect_failure", set()),
            ("reset_before_response", set()),
            ("timeout", set()),
        ],
    )
    def test_statuses_by_condition(self, condition: str, statuses: set[int]) -> None:
        """Each condition names exactly these statuses; numbers come on top."""
        policy = RetryPolicy(1, frozenset((condition,)), frozenset((425,)))  # type: ignore[arg-type]
        assert policy.statuses == statuses | {425}
        for status in range(100, 600):
            found = ask(policy, failure=None, status=status)
            assert (found is not None) == (status in policy.statuses)


class TestReasons:
    """When a retry that the policy names is not made, there is one reason, and it is counted."""

    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ({"has_started": True}, "response_started"),
            ({"retries": 3}, "attempts_used"),
            ({"head": request(b"POST")}, "not_idempotent"),
            ({"head": request(b"POST", b"")}, "not_idempotent"),
            ({"head": request(b"GRPC", b"key")}, "not_idempotent"),
            ({"is_kept": False}, "body_too_large"),
            ({"deadline": 100.0}, "deadline"),
            ({"deadline": 100.02}, "deadline"),
            ({"retry_after_s": MAX_RETRY_AFTER_S + 1}, "deadline"),
            ({"retry_after_s": 2.0, "deadline": 101.0}, "deadline"),
        ],
    )
    def test_reason(self, facts: dict[str, object], reason: str) -> None:
        """Each alone is enough."""
        cluster = cluster_of()
        assert ask(ALL, cluster, **facts) == Skip(reason)  # type: ignore[arg-type]
        assert getattr(cluster.stats, f"retry_skipped_{reason}") == 1
        assert cluster.stats.retries == 0

    def test_non_idempotent_request_is_never_sent_twice_once_sent(self) -> None:
        """Whatever the occasion: only a request that was not sent, or that may be repeated, goes again."""
        for method in (b"POST", b"PATCH", b"CONNECT", b"PROPFIND"):
            for failure in (*UPSTREAM_FAILURES, None):
                for is_stale in (False, True):
                    found = ask(ALL, head=request(method), failure=failure, status=503, is_stale=is_stale)
                    assert not isinstance(found, Retry)

    def test_file_may_name_methods(self) -> None:
        """Whoever writes `methods: [POST]` knows the app."""
        policy = RetryPolicy(1, frozenset(("5xx",)), methods=frozenset((b"POST",)))
        assert isinstance(ask(policy, head=request(b"POST")), Retry)
        assert ask(policy, head=request(b"GET")) == Skip("not_idempotent")

    def test_too_many_retries_under_way(self) -> None:
        """The circuit breaker's limit: a retry that ends makes room."""
        cluster = cluster_of(breaker=BreakerSpec(max_retries=1))
        assert isinstance(ask(ALL, cluster), Retry)
        assert ask(ALL, cluster) == Skip("max_retries")
        assert cluster.breaker is not None
        cluster.breaker.leave_retry()
        assert isinstance(ask(ALL, cluster), Retry)
        assert (cluster.stats.retries, cluster.stats.retry_skipped_max_retries) == (2, 1)

    def test_budget_that_is_spent(self) -> None:
        """A retry refused by the budget does not stay counted by the breaker."""
        cluster = cluster_of(breaker=BreakerSpec(), retry_budget=RetryBudgetSpec(0, 0.1))
        assert isinstance(ask(ALL, cluster), Retry)
        assert ask(ALL, cluster) == Skip("budget")
        assert cluster.breaker is not None
        assert cluster.breaker.retries == 1

    def test_safe_occasions_are_not_refused_by_the_budget_but_charged(self) -> None:
        """What no upstream notices needs no protection of it; yet it is a retry like others."""
        cluster = cluster_of(retry_budget=RetryBudgetSpec(0, 0.1))
        assert isinstance(ask(NO_POLICY, cluster, is_stale=True), Retry)
        assert isinstance(ask(NO_POLICY, cluster, is_stale=True), Retry)
        assert ask(ALL, cluster) == Skip("budget")

    def test_no_budget_is_no_limit(self) -> None:
        """An upstream may be configured without."""
        cluster = cluster_of(retry_budget=None)
        assert all(isinstance(ask(ALL, cluster), Retry) for _ in range(1000))

    def test_no_attempts_turn_every_retry_off(self) -> None:
        """`attempts: 0` is the switch, for the safe occasions too."""
        assert ask(RetryPolicy(0, frozenset(("5xx",)))) is None
        assert ask(RetryPolicy(0), failure=errors.CONNECT_FAILED, is_unsent=True) is None

    def test_every_reason_has_its_counter(self) -> None:
        """The closed list and the counters agree."""
        cluster = cluster_of()
        for reason in SKIP_REASONS:
            skipped(cluster, reason)
            assert getattr(cluster.stats, f"retry_skipped_{reason}") == 1
        assert {name for name in COUNTS if name.startswith("retry_skipped_")} == {
            f"retry_skipped_{reason}" for reason in SKIP_REASONS
        }


class TestDelay:
    """Exponential with full jitter, within the deadline."""

    @pytest.mark.parametrize(("retries", "bound_s"), [(0, 0.025), (1, 0.05), (2, 0.1), (3, 0.2), (4, 0.25), (60, 0.25)])
    def test_bound_doubles_up_to_the_maximum(self, retries: int, bound_s: float) -> None:
        """Chance decides between nothing and the bound."""
        policy = RetryPolicy(99, frozenset(("5xx",)))
        assert ask(policy, retries=retries) == Retry(bound_s)
        assert ask(policy, retries=retries, random=lambda: 0.5) == Retry(bound_s / 2)
        assert ask(policy, retries=retries, random=lambda: 0.0) == Retry(0.0)

    def test_first_retry_on_a_safe_occasion_goes_at_once(self) -> None:
        """One dead connection or address says nothing about the upstream; the second time it may."""
        assert ask(ALL, is_stale=True) == Retry(0.0)
        assert ask(ALL, is_stale=True, retries=1) == Retry(0.05)

    def test_upstream_that_asks_for_patience_gets_it(self) -> None:
        """`Retry-After` is a lower bound of the wait."""
        assert ask(ALL, failure=None, status=503, retry_after_s=2.0) == Retry(2.0)
        assert ask(ALL, failure=None, status=503, retry_after_s=0.0) == Retry(0.025)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"0", 0.0),
            (b"120", 120.0),
            (b"Fri, 31 Dec 1999 23:59:59 GMT", 10.0),
            (b"Fri, 31 Dec 1999 23:59:59 -0000", 10.0),
            (b"Fri, 31 Dec 1999 23:00:00 GMT", 0.0),
            (b"", 0.0),
            (b"-1", 0.0),
            (b"1.5", 0.0),
            (b"soon", 0.0),
            (b"99999999999999999999", 0.0),
            (b"\xff\xfe", 0.0),
            (b"Fri, 99 Dec 1999 23:59:59 GMT", 0.0),
        ],
    )
    def test_retry_after_is_read_in_both_forms(self, value: bytes, seconds: float) -> None:
        """Seconds or a date (RFC 9110, 10.2.3); what is neither asks for nothing."""
        assert parse_retry_after(value, 946684789.0) == seconds

    def test_retry_after_survives_every_octet(self) -> None:
        """No value of a peer raises."""
        for octet in range(256):
            for value in (
                bytes([octet]),
                b"1" + bytes([octet]),
                b"Fri, 31 Dec 1999 23:59:5" + bytes([octet]) + b" GMT",
            ):
                assert 0 <= parse_retry_after(value, 946684789.0) < inf


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": -1},
        {"max_body_bytes": -1},
        {"on": frozenset(("never",))},
        {"on_statuses": frozenset((200,))},
        {"per_try_timeout_s": 0},
        {"per_try_timeout_s": float("nan")},
        {"backoff_base_s": 1.0, "backoff_max_s": 0.5},
        {"backoff_base_s": -1.0},
        {"backoff_max_s": inf},
    ],
)
def test_policies_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    """A policy is checked when it is made."""
    with pytest.raises(ValueError, match="expected"):
        RetryPolicy(**settings)  # type: ignore[arg-type]


class TestBudget:
    """Over ten seconds, retries are a part of the requests and a few more."""

    def test_little_traffic_has_the_minimum(self) -> None:
        """Three a second are thirty in a window, and thirty more in the next."""
        budget = RetryBudget(RetryBudgetSpec())
        assert sum(budget.take(100.0, 0) for _ in range(100)) == 30
        assert not budget.take(109.9, 0)
        assert sum(budget.take(110.1, 0) for _ in range(100)) == 30

    def test_outage_gets_a_fifth_more_requests_not_three_times_as_many(self) -> None:
        """A thousand requests a second all fail and each wants two retries: some 20 % are made."""
        budget = RetryBudget(RetryBudgetSpec(20, 0))
        requests = made = 0
        for millisecond in range(60_000):
            requests += 1
            made += sum(budget.take(100 + millisecond / 1000, requests) for _ in range(2))
        assert 0.17 * requests < made <= 0.2 * requests

    def test_requests_long_ago_allow_nothing(self) -> None:
        """A million requests in an hour before are as many a second as they were."""
        budget = RetryBudget(RetryBudgetSpec(20, 0))
        budget.take(0.0, 0)
        allowed = sum(budget.take(3600.5, 1_000_000) for _ in range(10_000))
        assert allowed == pytest.approx(0.2 * 1_000_000 / 360, rel=0.1)

    def test_history_before_the_first_retry_is_not_taken_for_a_burst(self) -> None:
        """How long those requests took is not known, so they allow nothing."""
        budget = RetryBudget(RetryBudgetSpec(20, 1))
        assert sum(budget.take(3600.0, 1_000_000) for _ in range(1000)) == 10

    def test_reload_keeps_what_is_spent(self) -> None:
        """New limits hold at once, for the same window."""
        budget = RetryBudget(RetryBudgetSpec(0, 1))
        assert sum(budget.take(5.0, 0) for _ in range(20)) == 10
        budget.configure(RetryBudgetSpec(0, 2))
        assert sum(budget.take(5.0, 0) for _ in range(20)) == 10
        assert repr(budget) == "<RetryBudget 20 of 20.0>"

    @pytest.mark.parametrize("settings", [{"percent": -1}, {"min_per_second": -1}, {"percent": inf}])
    def test_budgets_that_make_no_sense_are_refused(self, settings: dict[str, float]) -> None:
        """A spec is checked when it is made."""
        with pytest.raises(ValueError, match="expected"):
            RetryBudgetSpec(**settings)
