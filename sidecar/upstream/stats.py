"""
What is counted of an upstream. *Hot path: plain integers.*

One flat row of integers, so that counting is an attribute and a scrape is a loop. Where a thing is counted by cause,
each cause has a counter of its own whose name ends in the cause: `retry_skipped_budget`, `ejections_latency`.
"""

from __future__ import annotations

from typing import Final

COUNTS: Final = (
    "concurrency_limit",
    "connect_failures",
    "connect_timeouts",
    "connections_closed",
    "connections_closed_by",
    "connections_opened",
    "connections_reused",
    "discovery_failures",
    "discovery_last_success",
    "discovery_updates",
    "dns_failures",
    "dns_last_success",
    "dns_successes",
    "ejected",
    "ejections",
    "ejections_broken_answers",
    "ejections_consecutive_5xx",
    "ejections_consecutive_connect_failures",
    "ejections_consecutive_gateway_errors",
    "ejections_latency",
    "ejections_prevented",
    "ejections_probation",
    "ejections_success_rate",
    "health_check_failures",
    "health_checks",
    "mirror_skipped_answered_early",
    "mirror_skipped_body_too_large",
    "mirror_skipped_client_left",
    "mirror_skipped_no_endpoint",
    "mirror_skipped_overloaded",
    "mirror_skipped_too_many",
    "overflow_connections",
    "overflow_pending",
    "overflow_requests",
    "overflow_retries",
    "panic",
    "panics",
    "pending",
    "pending_timeouts",
    "requests",
    "requests_active",
    "resets",
    "resolve_failures_failed",
    "resolve_failures_refused",
    "resolve_failures_timeout",
    "retries",
    "retries_exhausted",
    "retries_successful",
    "retry_skipped_attempts_used",
    "retry_skipped_body_too_large",
    "retry_skipped_budget",
    "retry_skipped_deadline",
    "retry_skipped_max_retries",
    "retry_skipped_no_endpoint",
    "retry_skipped_not_idempotent",
    "retry_skipped_overloaded",
    "retry_skipped_response_started",
    "unhealthy",
)
"""The names of all counts."""


class ClusterStats:
    """
    What happened in a cluster; counts only go up, but for the gauges. Written by `pool`, `proxy` and this room.

    Attributes:
        connections_opened: Connects that succeeded.
        connections_closed: Of those, the ones that are closed again.
        connections_closed_by: The same by what closed them: `proxy.server.http1` and callers of `close_idle` say.
        connections_reused: Exchanges that found an idle connection.
        connect_failures: Connects that were refused or failed otherwise.
        connect_timeouts: Connects that took longer than `connect_timeout_s`.
        requests: Exchanges that were given an endpoint, each attempt counted.
        requests_active: Of those, the ones in flight (gauge).
        pending: Exchanges that wait for a connection (gauge).
        resolve_failures_*: Connects that were not begun, by what became of the endpoint's name: it has no address, the
            name servers did not answer in time, or as many names were being looked up as may be at once.
        resets: Exchanges that the upstream cut off.
        dns_successes: Lookups that gave at least one address.
        dns_failures: Lookups that failed, timed out or gave none.
        dns_last_success: When the last one succeeded, in seconds since the Unix epoch; 0 for never.
        discovery_updates: Times that other endpoints were discovered.
        discovery_failures: Times that the source of discovered endpoints could not be read.
        discovery_last_success: When other endpoints were last discovered, in seconds since the Unix epoch; 0 for never.
        overflow_connections: Connects that `max_connections` forbade.
        overflow_pending: Requests refused because `max_pending_requests` waited already.
        overflow_requests: Requests refused because `max_requests`, or the adaptive limit, were in flight already.
        overflow_retries: Retries not made because `max_retries` were under way already.
        pending_timeouts: Requests that waited for a connection longer than `pending_timeout_s`.
        concurrency_limit: Requests that may be in flight now (gauge), those not counted that have settled in an
            adaptive limit; 0 without a circuit breaker.
        retries: Attempts after an exchange's first.
        retries_successful: Exchanges that were retried and then answered with less than 500.
        retries_exhausted: Exchanges that were retried and failed all the same.
        retry_skipped_*: Retries that the policy names and that were not made, by `retry.SkipReason`.
        mirror_skipped_*: Copies of requests that a mirror was to send here and that were not made, by why not: the body
            was longer than the mirror's `max_body`; too many were under way; the request was answered before its body
            was complete, or its client left; the circuit breaker let none in; there was no endpoint.
        ejections: Times that an endpoint was ejected.
        ejections_*: The same by `outlier.Cause`.
        ejections_prevented: Times that an endpoint would have been, but for `max_ejection_percent`.
        ejected: Endpoints that are ejected or on probation (gauge).
        health_checks: Active checks that are over.
        health_check_failures: Of those, the ones that failed.
        unhealthy: Endpoints that the checks found unhealthy (gauge).
        panics: Times that too few endpoints were usable, so that all were used.
        panic: 1 while that is so (gauge).
    """

    __slots__ = COUNTS

    def __init__(self) -> None:
        self.connections_opened = 0
        self.connections_closed = 0
        self.connections_closed_by: dict[str, int] = {}
        self.connections_reused = 0
        self.connect_failures = 0
        self.connect_timeouts = 0
        self.requests = 0
        self.requests_active = 0
        self.pending = 0
        self.resets = 0
        self.resolve_failures_failed = 0
        self.resolve_failures_refused = 0
        self.resolve_failures_timeout = 0
        self.dns_successes = 0
        self.dns_failures = 0
        self.dns_last_success = 0
        self.discovery_updates = 0
        self.discovery_failures = 0
        self.discovery_last_success = 0
        self.overflow_connections = 0
        self.overflow_pending = 0
        self.overflow_requests = 0
        self.overflow_retries = 0
        self.pending_timeouts = 0
        self.concurrency_limit = 0
        self.retries = 0
        self.retries_successful = 0
        self.retries_exhausted = 0
        self.retry_skipped_attempts_used = 0
        self.retry_skipped_body_too_large = 0
        self.retry_skipped_budget = 0
        self.retry_skipped_deadline = 0
        self.retry_skipped_max_retries = 0
        self.retry_skipped_no_endpoint = 0
        self.retry_skipped_not_idempotent = 0
        self.retry_skipped_overloaded = 0
        self.retry_skipped_response_started = 0
        self.mirror_skipped_answered_early = 0
        self.mirror_skipped_body_too_large = 0
        self.mirror_skipped_client_left = 0
        self.mirror_skipped_no_endpoint = 0
        self.mirror_skipped_overloaded = 0
        self.mirror_skipped_too_many = 0
        self.ejections = 0
        self.ejections_consecutive_5xx = 0
        self.ejections_consecutive_gateway_errors = 0
        self.ejections_consecutive_connect_failures = 0
        self.ejections_broken_answers = 0
        self.ejections_success_rate = 0
        self.ejections_latency = 0
        self.ejections_probation = 0
        self.ejections_prevented = 0
        self.ejected = 0
        self.health_checks = 0
        self.health_check_failures = 0
        self.unhealthy = 0
        self.panics = 0
        self.panic = 0
