"""
Protection in the file becomes what the data path asks: retries, limits, ejection, health, faults, rates. *Cold.*
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from sidecar.compile.matches import key_of, values
from sidecar.exchange import Direction
from sidecar.proxy.exchange.policies import Fault, Mirror, RateLimit, RateLimiter
from sidecar.routing.match import make_match
from sidecar.routing.split import key_reader
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.health.checks import HealthSpec
from sidecar.upstream.health.outlier import LatencySpec, OutlierSpec, SuccessRateSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudgetSpec
from sidecar.upstream.retry import Condition, RetryPolicy

if TYPE_CHECKING:
    from sidecar.config.model import root as model

# --- of routes -------------------------------------------------------------------------------------------------


def retry_policy(retry: model.Retry) -> RetryPolicy:
    """What a route tries again."""
    words = frozenset(condition for condition in retry.on if isinstance(condition, str))
    return RetryPolicy(
        attempts=retry.attempts,
        on=cast("frozenset[Condition]", words),
        on_statuses=frozenset(condition for condition in retry.on if isinstance(condition, int)),
        per_try_timeout_s=inf if retry.per_try_timeout is None else retry.per_try_timeout,
        backoff_base_s=retry.backoff.base,
        backoff_max_s=retry.backoff.max,
        methods=frozenset(method.encode() for method in retry.methods),
        max_body_bytes=retry.max_body,
    )


def fault(settings: model.Fault) -> Fault:
    """What is done to requests on purpose."""
    delay, abort = settings.delay, settings.abort
    return Fault(
        delay_percent=delay.percent if delay is not None else 0.0,
        delay_s=delay.duration if delay is not None else 0.0,
        abort_percent=abort.percent if abort is not None else 0.0,
        abort_status=abort.status if abort is not None else 503,
        abort_grpc_status=abort.grpc_status if abort is not None else None,
        header=make_match(headers=values(settings.header)).matches if settings.header else None,
    )


def mirror(settings: model.Mirror, clusters: Mapping[str, Cluster]) -> Mirror:
    """Where copies go."""
    return Mirror(clusters[settings.to], settings.percent, settings.max_body)


class RateLimiters:
    """
    The counts of the limiters that plans hold, found again by a reload that leaves their limit as it was.

    They are known by where they stand and what they say, and only for as long as a plan's limiter holds them: a reload
    that is refused changes nothing, one that takes a limit away forgets its counts.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        # Of the counts and not of the limiters: a compiled class cannot be referred to weakly.
        self._counts: weakref.WeakValueDictionary[tuple[Direction, str, RateLimit], OrderedDict[bytes, float]] = (
            weakref.WeakValueDictionary()
        )

    def limiter(self, direction: Direction, route: str, settings: model.RateLimit) -> RateLimiter:
        """
        The limiter of a route, or of a whole direction.

        Args:
            route: Its name, or what else tells limits apart; empty for the direction.
        """
        key = key_of(settings.key) if settings.key is not None else None
        burst = settings.requests if settings.burst is None else settings.burst
        limit = RateLimit(settings.requests, settings.per, burst, key)
        counts = self._counts.setdefault((direction, route, limit), OrderedDict())
        return RateLimiter(limit, key_reader(*key) if key is not None else None, full_at=counts)


# --- of upstreams ----------------------------------------------------------------------------------------------


def breaker_spec(settings: model.CircuitBreaker | None) -> BreakerSpec | None:
    """How much may be under way."""
    if settings is None:
        return None
    return BreakerSpec(
        max_connections=settings.max_connections,
        max_pending_requests=settings.max_pending_requests,
        max_requests=settings.max_requests,
        max_retries=settings.max_retries,
        pending_timeout_s=settings.pending_timeout,
        adaptive=settings.adaptive,
    )


def budget_spec(settings: model.RetryBudget) -> RetryBudgetSpec:
    """How much of the traffic retries may be."""
    return RetryBudgetSpec(settings.percent, settings.min_per_second)


def outlier_spec(settings: model.OutlierDetection | None) -> OutlierSpec | None:
    """When an endpoint is ejected."""
    if settings is None:
        return None
    rate, latency = settings.success_rate, settings.latency
    return OutlierSpec(
        consecutive_5xx=settings.consecutive_5xx,
        consecutive_gateway_errors=settings.consecutive_gateway_errors,
        consecutive_connect_failures=settings.consecutive_connect_failures,
        interval_s=settings.interval,
        base_ejection_time_s=settings.base_ejection_time,
        max_ejection_time_s=settings.max_ejection_time,
        max_ejection_percent=settings.max_ejection_percent,
        success_rate=(
            SuccessRateSpec(rate.minimum_hosts, rate.request_volume, rate.stdev_factor) if rate is not None else None
        ),
        latency=(
            LatencySpec(latency.factor, latency.minimum_hosts, latency.request_volume, latency.min_latency)
            if latency is not None
            else None
        ),
    )


def health_spec(settings: model.HealthCheck | None) -> HealthSpec | None:
    """
    How endpoints are asked.

    Raises:
        ValueError: HTTP cannot carry the request, such as a header value beyond ASCII.
    """
    if settings is None:
        return None
    return HealthSpec(
        path=quote(settings.path, safe="/%:@!$&'()*+,;=~-._[]?"),
        interval_s=settings.interval,
        timeout_s=settings.timeout,
        healthy_threshold=settings.healthy_threshold,
        unhealthy_threshold=settings.unhealthy_threshold,
        jitter=settings.jitter / 100,
        statuses=tuple(settings.expected_statuses),
        body=settings.expected_body.encode() if settings.expected_body is not None else None,
        port=settings.port,
        host=settings.host,
        headers=tuple(settings.headers.items()),
        grpc_service=settings.grpc.service if settings.grpc is not None else None,
    )
