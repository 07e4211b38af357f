"""
Endpoints that fail fast get no more than their share for it. *Hot path, but only while an endpoint fails.*

A refusal takes a millisecond where an answer takes fifty, so an endpoint that refuses everything has nothing in flight:
the idlest by `least_request`, the quickest by `peak_ewma`, and of three endpoints two thirds of all requests went to
it. Envoy and HAProxy leave that to ejection, which may be off or forbidden (`max_ejection_percent`); Netflix' balancer,
whose two choices these are, weighs failures in ("Rethinking Netflix's Edge Load Balancing", 2018), as is done here.

`Endpoint.failing` is the part of its latest results that were failures, an average over some eight. Of two endpoints
drawn by weight the one that would win may owe that to its failures; then, as surely as it fails, the first drawn is
taken instead, which is each as often as its weight says. So what fails is chosen at random, never for being idle, and
neither starves nor has to be waited for when it recovers.

While nothing fails, nobody is told of good results and the policy is the plain one: this costs a request nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from sidecar.errors import Phase, Reason, Source
from sidecar.message import RequestHead
from sidecar.upstream.balance.ewma import FLOOR_S
from sidecar.upstream.endpoint import Endpoint

POLICIES: Final = frozenset(("least_request", "peak_ewma"))
"""Those that an endpoint could win by failing."""

MEMORY: Final = 0.125
"""Part of `Endpoint.failing` that the latest result makes: after 18 failures in a row it is 0.9."""

NEGLIGIBLE: Final = 0.02
"""Below this an endpoint does not fail any more: after 31 good answers."""

TELLING_STATUS: Final = 429
"""Statuses below this are told to nobody while nothing fails."""

# However it fails, what an endpoint has in flight weighs at most ten times as much: with one it is not out for good.
_LEAST_SUCCESS: Final = 0.1


def is_failure(status: int, failure: Reason | None) -> bool | None:
    """
    Whether a result says that the endpoint does not do its work; None if it says nothing.

    Args:
        status: Of the response; 0 if none came. 429 is a failure here: it draws requests like any other refusal.
        failure: As for `Cluster.report`. A name that has no address counts, whoever is to blame.
    """
    if failure is None:
        return None if status == 0 else status >= 500 or status == 429
    if failure.source is Source.UPSTREAM or failure.phase is Phase.RESOLVE:
        return True
    return None


def learn(endpoint: Endpoint, is_bad: bool) -> None:
    """Take one result in."""
    if is_bad:
        endpoint.failing += (1.0 - endpoint.failing) * MEMORY
    elif endpoint.failing:
        left = endpoint.failing * (1.0 - MEMORY)
        endpoint.failing = left if left >= NEGLIGIBLE else 0.0


class FailureAware:
    """
    As `least_request` or `peak_ewma` with weights, and with failures.

    Args:
        endpoints: At least two.
        random: Source of chance.
        is_by_latency: For `peak_ewma`.
    """

    __slots__ = ("_bounds", "_endpoints", "_is_by_latency", "_loads", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Callable[[], float], is_by_latency: bool) -> None:
        self._endpoints = tuple(endpoints)
        self._bounds = list(accumulate(endpoint.share for endpoint in endpoints))
        mean = self._bounds[-1] / len(endpoints)
        self._loads = [mean / endpoint.share for endpoint in endpoints]  # Of one request in flight.
        self._random = random
        self._is_by_latency = is_by_latency

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The better of two, unless it is better only because it fails."""
        endpoints, bounds, random = self._endpoints, self._bounds, self._random
        last = len(endpoints) - 1
        first = min(bisect_right(bounds, random() * bounds[-1]), last)
        one = endpoints[first]
        # Two different ones, as in WeightedLeastRequest.
        start = bounds[first - 1] if first else 0.0
        point = random() * (bounds[-1] - one.share)
        if point >= start:
            point += one.share
        second = min(bisect_right(bounds, point), last)
        if second == first:
            second = first - 1 if first else 1
        other = endpoints[second]
        if self._cost(one, self._loads[first]) <= self._cost(other, self._loads[second]):
            return one
        excess = other.failing - one.failing
        return one if excess > 0 and random() < excess else other

    def _cost(self, endpoint: Endpoint, load: float) -> float:
        # Of its requests only those that succeed stay for a while: it would have so many in flight, did all of them.
        in_flight = endpoint.active * load / max(1.0 - endpoint.failing, _LEAST_SUCCESS)
        if self._is_by_latency:
            return (endpoint.latency_s + FLOOR_S) * (in_flight + 1)
        return in_flight
