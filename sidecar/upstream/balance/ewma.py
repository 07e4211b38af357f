"""
Choosing by latency: peak EWMA, as in Finagle and Linkerd. *Hot path.*

An endpoint's latency is an average that leaps up to a slow answer at once and comes down over ten seconds. Of two
endpoints drawn at random the one with the lower latency times the requests that it would then have wins: what it will
probably take.

An endpoint that loses always would never be measured again, so whatever is not measured is taken to become faster, by
`age`, until it wins one. An answer that is an error tells nothing good: one that is fast would draw all requests to the
endpoint that fails them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp, inf
from typing import Final

from sidecar.message import RequestHead
from sidecar.upstream.endpoint import Endpoint

DECAY_S: Final = 10.0
"""Seconds in which a measurement loses all but 1/e of its weight (Linkerd's default)."""

FLOOR_S: Final = 0.001
"""Added to every latency, so that between fast endpoints the requests in flight decide."""


class PeakEwma:
    """The one of two endpoints drawn at random that is likely to answer first, for equal weights."""

    __slots__ = ("_endpoints", "_others", "_pairs", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Callable[[], float]) -> None:
        self._endpoints = tuple(endpoints)
        self._others = len(endpoints) - 1
        self._pairs = len(endpoints) * self._others
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The one of the two with the lower latency times load; at a tie the first drawn."""
        pair = int(self._random() * self._pairs)  # One draw numbers the ordered pairs, as in LeastRequest.
        first = pair // self._others
        second = pair % self._others
        if second >= first:
            second += 1
        one = self._endpoints[first]
        other = self._endpoints[second]
        if (one.latency_s + FLOOR_S) * (one.active + 1) <= (other.latency_s + FLOOR_S) * (other.active + 1):
            return one
        return other


class WeightedPeakEwma:
    """As `PeakEwma`; both are drawn by weight, and a heavy endpoint may have more in flight."""

    __slots__ = ("_bounds", "_endpoints", "_loads", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Callable[[], float]) -> None:
        self._endpoints = tuple(endpoints)
        self._bounds = list(accumulate(endpoint.share for endpoint in endpoints))
        mean = self._bounds[-1] / len(endpoints)
        self._loads = [mean / endpoint.share for endpoint in endpoints]  # Of one request in flight.
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The one of the two with the lower latency times load for its weight."""
        endpoints, bounds, loads, random = self._endpoints, self._bounds, self._loads, self._random
        last = len(endpoints) - 1
        first = min(bisect_right(bounds, random() * bounds[-1]), last)
        second = min(bisect_right(bounds, random() * bounds[-1]), last)
        one, other = endpoints[first], endpoints[second]
        cost = (one.latency_s + FLOOR_S) * (one.active * loads[first] + 1)
        return one if cost <= (other.latency_s + FLOOR_S) * (other.active * loads[second] + 1) else other


def observe(endpoint: Endpoint, latency_s: float, is_good: bool, now: float) -> None:
    """
    Take one measurement in.

    Args:
        latency_s: Seconds to the response's head, or until the attempt was given up.
        is_good: Whether it was an answer below 500; others can only make an endpoint look slower.
        now: Seconds of loop time.
    """
    before = endpoint.latency_s
    if latency_s >= before or endpoint.latency_at == -inf:
        if not is_good and latency_s < before:
            return
        endpoint.latency_s = latency_s
    elif is_good:
        endpoint.latency_s = latency_s + (before - latency_s) * exp((endpoint.latency_at - now) / DECAY_S)
    else:
        return
    endpoint.latency_at = now


def age(endpoints: Sequence[Endpoint], now: float) -> None:
    """Let what was not measured for a second become faster; call it about once a second. O(endpoints)."""
    for endpoint in endpoints:
        idle_s = now - endpoint.latency_at
        if 1.0 <= idle_s < inf:
            endpoint.latency_s *= exp(-idle_s / DECAY_S)
            endpoint.latency_at = now


def expect(endpoints: Sequence[Endpoint]) -> None:
    """Take endpoints that were never measured to be like the others, lest they draw every request."""
    known = [endpoint.latency_s for endpoint in endpoints if endpoint.latency_at > -inf]
    if known:
        mean = sum(known) / len(known)
        for endpoint in endpoints:
            if endpoint.latency_at == -inf:
                endpoint.latency_s = mean
