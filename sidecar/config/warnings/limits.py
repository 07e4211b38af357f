"""Warnings of limits of which one makes that another is never reached. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.config.model.resilience import CircuitBreaker, OutlierDetection, RateLimit
from sidecar.config.model.root import Config, Upstream, UpstreamPolicy
from sidecar.config.model.routes import Route
from sidecar.config.problems import At, Reporter
from sidecar.config.warnings.routes import seconds

_RULE: Final = "limits-contradict"


def warn_of_policy(policy: UpstreamPolicy, at: At, report: Reporter) -> None:
    """Warn of limits of one upstream that contradict each other."""
    if policy.circuit_breaker is not None:
        warn_of_breaker(policy.circuit_breaker, (*at, "circuit_breaker"), report)
    if policy.outlier_detection is not None:
        _warn_of_outliers(policy.outlier_detection, (*at, "outlier_detection"), report)


def warn_of_breaker(breaker: CircuitBreaker, at: At, report: Reporter) -> None:
    """Warn of what `max_requests`, which counts all attempts, keeps from ever being reached."""
    if "max_requests" not in breaker.model_fields_set:
        return
    # Not `max_connections`: one that waits for its next request counts, too.
    for key, what in (("max_pending_requests", "those that wait"), ("max_retries", "retries")):
        value: int = getattr(breaker, key)
        if key in breaker.model_fields_set and value > breaker.max_requests:
            message = f"never reached: `max_requests` lets {breaker.max_requests} in, {what} included"
            report((*at, key), message, "raise `max_requests`, or lower this one", at_key=True, rule=_RULE)


def _warn_of_outliers(outlier: OutlierDetection, at: At, report: Reporter) -> None:
    counted = (outlier.consecutive_5xx, outlier.consecutive_gateway_errors, outlier.consecutive_connect_failures)
    if not any(counted) and outlier.success_rate is None and outlier.latency is None:
        message = "nothing is looked for: all of `consecutive_...` are 0, and neither `success_rate` nor `latency` is"
        report(at, f"{message} there", "remove it, or say what ejects an endpoint", at_key=True, rule=_RULE)
    elif outlier.max_ejection_percent == 0:
        message = "with 0% no endpoint is ever ejected, whatever it does"
        report((*at, "max_ejection_percent"), message, "raise it", at_key=True, rule=_RULE)


def warn_of_limits(config: Config, report: Reporter) -> None:
    """Warn of limits of a whole file that contradict each other."""
    inbound = config.inbound
    if inbound is not None:
        if inbound.circuit_breaker is not None:
            warn_of_breaker(inbound.circuit_breaker, ("inbound", "circuit_breaker"), report)
        if inbound.rate_limit is not None:
            _warn_of_rates(inbound.routes, inbound.rate_limit, report)
    for side, routes in (
        ("inbound", inbound.routes if inbound is not None else []),
        ("outbound", config.outbound.routes if config.outbound is not None else []),
    ):
        for index, route in enumerate(routes):
            _warn_of_timeouts(route, (side, "routes", index), config, report)


def _warn_of_rates(routes: Sequence[Route], common: RateLimit, report: Reporter) -> None:
    """A request must pass both limits, so one of a route that is wider never refuses any."""
    if common.key is not None:
        return
    for index, route in enumerate(routes):
        own = route.rate_limit
        if own is None or own.key is not None:
            continue
        if own.requests / own.per >= common.requests / common.per and _burst(own) >= _burst(common):
            at = ("inbound", "routes", index, "rate_limit")
            message = (
                f"never reached: `inbound.rate_limit` lets {common.requests} in {seconds(common.per)} pass, all routes"
                " together"
            )
            report(at, message, "raise that one, or lower this", at_key=True, rule=_RULE)


def _burst(limit: RateLimit) -> int:
    return limit.requests if limit.burst is None else limit.burst


def _warn_of_timeouts(route: Route, at: At, config: Config, report: Reporter) -> None:
    limits = config.limits
    idle, key = limits.stream_idle_timeout, "stream_idle_timeout"
    if idle is None:
        idle, key = limits.idle_timeout, "idle_timeout"
    if route.timeout is not None and route.timeout > idle:
        message = f"an answer that has not begun after {seconds(idle)} is not waited for: `limits.{key}` ends it first"
        hint = f"raise `limits.{key}` as well, or shorten this one"
        report((*at, "timeout"), message, hint, at_key=True, rule=_RULE)
    upstreams = {
        one: config.upstreams.get(one) for one in (side.upstream for side in route.to or ()) if one is not None
    }
    for name, upstream in upstreams.items():
        if upstream is not None:
            _warn_of_attempts(route, at, name, upstream, report)


def _warn_of_attempts(route: Route, at: At, name: str, upstream: Upstream, report: Reporter) -> None:
    """What an upstream does not let a route do. Defaults are not held against anybody."""
    connect = upstream.connect_timeout
    if route.timeout is not None and "connect_timeout" in upstream.model_fields_set and connect > route.timeout:
        message = f"shorter than `connect_timeout` of `{name}`, {seconds(connect)}, which so never ends an attempt"
        report((*at, "timeout"), message, "shorten `connect_timeout`", at_key=True, rule="retries-exceed-timeout")
    breaker = upstream.circuit_breaker
    if route.retry is not None and route.retry.attempts and breaker is not None and not breaker.max_retries:
        message = f"nothing is tried again: `circuit_breaker.max_retries` of `{name}` is 0"
        report((*at, "retry"), message, "raise that one, or remove `retry`", at_key=True, rule=_RULE)
