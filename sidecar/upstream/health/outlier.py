"""
Endpoints that fail or are slow though they are there: found by what real requests see, and taken out for a while.
*Hot path: `on_result`, O(1). Pure.*

    IN SERVICE --- too many failures in a row or broken answers, at once; worse than the others, at a sweep --> EJECTED
    EJECTED    --- its time is up, at a sweep ---------------------------------------------------------> ON PROBATION
    ON PROBATION --- one real request, answered well --------------------------------------------------> IN SERVICE
    ON PROBATION --- failed ---------------------------------------------------------------------------> EJECTED, longer

The rules are Envoy's (`envoy.config.cluster.v3.OutlierDetection`) with three differences: a way back by probation as in
Linkerd's failure accrual, where Envoy lets the full share of traffic find out; at least one endpoint may be ejected
whatever `max_ejection_percent` says (Envoy's `always_eject_one_host`, App Mesh's only way); and the last usable
endpoint never is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import median
from typing import Literal, Protocol

from sidecar.errors import Phase, Reason, Source
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.stats import ClusterStats

logger = logging.getLogger("sidecar.upstream")

Cause = Literal[
    "consecutive_5xx",
    "consecutive_gateway_errors",
    "consecutive_connect_failures",
    "broken_answers",
    "success_rate",
    "latency",
    "probation",
]


@dataclass(frozen=True, slots=True)
class SuccessRateSpec:
    """
    Ejection of endpoints that fail more often than the others: below `mean - stdev_factor * standard deviation`.

    Attributes:
        minimum_hosts: Endpoints with enough results that are needed to compare.
        request_volume: Results of an endpoint in an interval that are enough.
        stdev_factor: Standard deviations below the mean; 1.9 is Envoy's.
    """

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: float = 1.9


@dataclass(frozen=True, slots=True)
class LatencySpec:
    """
    Ejection of endpoints that are slower than the others: mean latency above `factor` times the median of theirs.

    Attributes:
        factor: How many times slower.
        minimum_hosts: Endpoints with enough results that are needed to compare.
        request_volume: Results of an endpoint in an interval that are enough.
        min_latency_s: An endpoint with a mean below this is never too slow.
    """

    factor: float = 3.0
    minimum_hosts: int = 3
    request_volume: int = 100
    min_latency_s: float = 0.05


@dataclass(frozen=True, slots=True)
class OutlierSpec:
    """
    When an endpoint is ejected, and for how long.

    Attributes:
        consecutive_5xx: Answers of 500 and above, and attempts without an answer, in a row; also, answers that broke
            off in an interval, if they are most of its answers. 0 for off.
        consecutive_gateway_errors: 502, 503, 504, and attempts without an answer, in a row; 0 for off.
        consecutive_connect_failures: Connects that fail in a row; 0 for off.
        interval_s: Seconds between two comparisons with the others.
        base_ejection_time_s: Seconds of the first ejection; the n-th in a row lasts n times as long.
        max_ejection_time_s: Seconds of an ejection at most (but not less than `base_ejection_time_s`).
        max_ejection_percent: Of the endpoints that may be ejected at the same time; one may always be, unless it is 0.
        success_rate: Comparison by success, or None for off.
        latency: Comparison by latency, or None for off.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    consecutive_connect_failures: int = 0
    interval_s: float = 10.0
    base_ejection_time_s: float = 30.0
    max_ejection_time_s: float = 300.0
    max_ejection_percent: float = 50.0
    success_rate: SuccessRateSpec | None = None
    latency: LatencySpec | None = None

    def __post_init__(self) -> None:
        if min(self.consecutive_5xx, self.consecutive_gateway_errors, self.consecutive_connect_failures) < 0:
            raise ValueError("expected numbers of consecutive failures of at least 0")
        if not all(isfinite(seconds) and seconds > 0 for seconds in (self.interval_s, self.base_ejection_time_s)):
            raise ValueError("expected an interval and a base ejection time above 0")
        if not 0 <= self.max_ejection_percent <= 100:
            raise ValueError(f"expected a percentage from 0 to 100, found {self.max_ejection_percent}")


class Owner(Protocol):
    """What a detector needs of its cluster."""

    name: str
    stats: ClusterStats
    endpoints: tuple[Endpoint, ...]

    def rebalance(self, now: float) -> None:
        """Choose among the endpoints that are usable from now on."""


class Outlier:
    """
    The detector of one cluster.

    Args:
        spec: Its rules.
        owner: The cluster.
    """

    __slots__ = ("_next_interval", "_owner", "spec")

    def __init__(self, spec: OutlierSpec, owner: Owner) -> None:
        self.spec = spec
        self._owner = owner
        self._next_interval = 0.0

    def __repr__(self) -> str:
        return f"<Outlier {self._owner.stats.ejected} of {len(self._owner.endpoints)} ejected>"

    # --- the hot path ----------------------------------------------------------------------------------------

    def on_result(self, endpoint: Endpoint, status: int, failure: Reason | None, latency_s: float, now: float) -> None:
        """Note how an attempt ended; see `Cluster.report` for the arguments."""
        if failure is None and 0 < status < 500:
            endpoint.consecutive_5xx = endpoint.consecutive_gateway_errors = endpoint.consecutive_connect_failures = 0
            endpoint.results += 1
            endpoint.successes += 1
            endpoint.latency_sum_s += latency_s
            if endpoint.is_on_probation:
                self._on_probation_result(endpoint, True, latency_s, now)
        elif status == 0 and (failure is None or failure.source is not Source.UPSTREAM):
            if endpoint.is_on_probation:  # Nobody knows how that would have ended: the next request tells.
                endpoint.is_probed = False
                self._owner.rebalance(now)
        else:
            self._on_failure(endpoint, status, failure, latency_s, now)

    def _on_failure(
        self, endpoint: Endpoint, status: int, failure: Reason | None, latency_s: float, now: float
    ) -> None:
        if failure is not None and failure.phase is Phase.RESPONSE_BODY:
            self._on_broken_answer(endpoint, now)
            return
        spec = self.spec
        endpoint.results += 1
        endpoint.consecutive_5xx += 1
        if failure is not None or 502 <= status <= 504:
            endpoint.consecutive_gateway_errors += 1
        else:
            endpoint.consecutive_gateway_errors = 0
        if failure is not None and failure.phase in (Phase.CONNECT, Phase.TLS, Phase.RESOLVE):
            endpoint.consecutive_connect_failures += 1
        else:
            endpoint.consecutive_connect_failures = 0
        if endpoint.is_on_probation:
            self._on_probation_result(endpoint, False, latency_s, now)
        elif endpoint.ejected_until == 0:
            cause: Cause
            if spec.consecutive_connect_failures and (
                endpoint.consecutive_connect_failures >= spec.consecutive_connect_failures
            ):
                cause = "consecutive_connect_failures"
            elif spec.consecutive_gateway_errors and (
                endpoint.consecutive_gateway_errors >= spec.consecutive_gateway_errors
            ):
                cause = "consecutive_gateway_errors"
            elif spec.consecutive_5xx and endpoint.consecutive_5xx >= spec.consecutive_5xx:
                cause = "consecutive_5xx"
            else:
                return
            if self._eject(endpoint, cause, now):
                self._owner.rebalance(now)

    def _on_broken_answer(self, endpoint: Endpoint, now: float) -> None:
        # Its head was told as a success and ended every row, so these are counted by the interval.
        endpoint.broken_answers += 1
        endpoint.successes = max(0, endpoint.successes - 1)
        limit = self.spec.consecutive_5xx
        if endpoint.ejected_until == 0 and 0 < limit <= endpoint.broken_answers > endpoint.successes:
            endpoint.broken_answers = 0
            if self._eject(endpoint, "broken_answers", now):
                self._owner.rebalance(now)

    # --- probation -------------------------------------------------------------------------------------------

    def _on_probation_result(self, endpoint: Endpoint, is_good: bool, latency_s: float, now: float) -> None:
        # What was sent before the ejection and ends only now proves nothing.
        if not endpoint.is_probed or now - latency_s < endpoint.ejected_until:
            return
        endpoint.is_on_probation = endpoint.is_probed = False
        endpoint.ejected_until = 0.0
        endpoint.joined_at = now
        if is_good:
            logger.info("endpoint_returned upstream=%s endpoint=%s", self._owner.name, endpoint.label)
        else:
            self._eject(endpoint, "probation", now)
        self._owner.rebalance(now)

    # --- the sweep -------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """End ejections whose time is up and, once an interval, compare. O(endpoints); call it about once a second."""
        changed = False
        for endpoint in self._owner.endpoints:
            if endpoint.ejected_until == 0 or now < endpoint.ejected_until:
                continue
            # The one request has ended and told nothing, or does not end, being hung or a stream: ask another.
            is_lost = endpoint.is_probed and (
                endpoint.active == 0 or now >= endpoint.ejected_until + 2 * self.spec.base_ejection_time_s
            )
            if not endpoint.is_on_probation or is_lost:
                if is_lost:
                    endpoint.ejected_until = now
                endpoint.is_on_probation = True
                endpoint.is_probed = False
                _forget(endpoint)
                changed = True
        if now >= self._next_interval:
            if self._next_interval:
                changed |= self._compare(now)
            self._next_interval = now + self.spec.interval_s
        if changed:
            self._owner.rebalance(now)

    def _compare(self, now: float) -> bool:
        """Eject those that do worse than the others, and let those that did well forget an ejection."""
        candidates = [endpoint for endpoint in self._owner.endpoints if endpoint.ejected_until == 0]
        changed = False
        for endpoint in self._fail_more(candidates):
            changed |= self._eject(endpoint, "success_rate", now)
        for endpoint in self._are_slower(candidates):
            if endpoint.ejected_until == 0:
                changed |= self._eject(endpoint, "latency", now)
        for endpoint in self._owner.endpoints:
            if endpoint.ejected_until == 0 and endpoint.ejections:
                endpoint.ejections -= 1
            endpoint.results = endpoint.successes = endpoint.broken_answers = 0
            endpoint.latency_sum_s = 0.0
        return changed

    def _fail_more(self, candidates: Iterable[Endpoint]) -> list[Endpoint]:
        spec = self.spec.success_rate
        if spec is None:
            return []
        rates = [
            (endpoint.successes / endpoint.results, endpoint)
            for endpoint in candidates
            if endpoint.results >= max(1, spec.request_volume)
        ]
        if len(rates) < max(2, spec.minimum_hosts):
            return []
        mean = sum(rate for rate, _ in rates) / len(rates)
        deviation = sqrt(sum((rate - mean) ** 2 for rate, _ in rates) / len(rates))
        threshold = mean - spec.stdev_factor * deviation
        return [endpoint for rate, endpoint in sorted(rates, key=_first) if rate < threshold]

    def _are_slower(self, candidates: Iterable[Endpoint]) -> list[Endpoint]:
        spec = self.spec.latency
        if spec is None:
            return []
        means = [
            (endpoint.latency_sum_s / endpoint.successes, endpoint)
            for endpoint in candidates
            if endpoint.successes >= max(1, spec.request_volume)
        ]
        if len(means) < max(2, spec.minimum_hosts):
            return []
        slow: list[Endpoint] = []
        for mean, endpoint in sorted(means, key=_first, reverse=True):
            others = median([other_mean for other_mean, other in means if other is not endpoint])
            if mean >= spec.min_latency_s and mean > spec.factor * others:
                slow.append(endpoint)
        return slow

    # --- ejecting --------------------------------------------------------------------------------------------

    def _eject(self, endpoint: Endpoint, cause: Cause, now: float) -> bool:
        """Eject unless too many are; the caller rebalances."""
        spec, stats, name = self.spec, self._owner.stats, self._owner.name
        _forget(endpoint)
        if not self._may_eject(endpoint, self._owner.endpoints):
            stats.ejections_prevented += 1
            logger.warning("ejection_prevented upstream=%s endpoint=%s cause=%s", name, endpoint.label, cause)
            return False
        endpoint.ejections += 1
        longest_s = max(spec.max_ejection_time_s, spec.base_ejection_time_s)
        for_s = min(spec.base_ejection_time_s * endpoint.ejections, longest_s)
        endpoint.ejected_until = now + for_s
        stats.ejections += 1
        setattr(stats, f"ejections_{cause}", getattr(stats, f"ejections_{cause}") + 1)
        message = "endpoint_ejected upstream=%s endpoint=%s cause=%s for_s=%g"
        logger.warning(message, name, endpoint.label, cause, for_s)
        return True

    def _may_eject(self, endpoint: Endpoint, endpoints: Sequence[Endpoint]) -> bool:
        percent = self.spec.max_ejection_percent
        weighted = [one for one in endpoints if one.weight > 0]
        ejected = sum(one.ejected_until != 0 for one in weighted)
        if not percent or (ejected and 100 * (ejected + 1) > percent * len(weighted)):
            return False
        return any(one.ejected_until == 0 and one.health != Health.UNHEALTHY for one in weighted if one is not endpoint)


def _first(pair: tuple[float, Endpoint]) -> float:
    return pair[0]


def _forget(endpoint: Endpoint) -> None:
    endpoint.consecutive_5xx = endpoint.consecutive_gateway_errors = endpoint.consecutive_connect_failures = 0


def clear(endpoints: Iterable[Endpoint]) -> None:
    """Let every endpoint back in: the detection was taken out of the configuration."""
    for endpoint in endpoints:
        _forget(endpoint)
        endpoint.ejected_until = 0.0
        endpoint.ejections = 0
        endpoint.is_on_probation = endpoint.is_probed = False
