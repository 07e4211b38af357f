"""
How much may be under way at an upstream: the circuit breaker. *Hot path, O(1).*

Every limit is of one upstream in this sidecar. What exceeds one is refused at once, with a reason, so that the excess
is degraded and not the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from random import random as system_random
from typing import Final

from sidecar.errors import Reason, Source
from sidecar.upstream.limits.adaptive import AdaptiveLimit
from sidecar.upstream.stats import ClusterStats

_OVERLOAD_STATUSES: Final = frozenset((429, 503))


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """
    Limits of one upstream; 1024 and the like are Envoy's orders of magnitude, chosen to bound, not to shape.

    Attributes:
        max_connections: Connections open or being opened, all endpoints together.
        max_pending_requests: Requests that wait for a connection and for which none is being made.
        max_requests: Attempts in flight, those that wait included; the upper bound when `adaptive`.
        max_retries: Of those, the ones that are retries.
        pending_timeout_s: Seconds that a request waits for a connection at most (HAProxy's `timeout queue`, which is
            that of connecting unless it is set).
        adaptive: Whether the limit of requests is found from latency.
    """

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 4096
    max_retries: int = 16
    pending_timeout_s: float = 1.0
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.max_connections < 1 or self.max_requests < 1:
            raise ValueError("expected max_connections and max_requests of at least 1")
        if self.max_pending_requests < 0 or self.max_retries < 0:
            raise ValueError("expected max_pending_requests and max_retries of at least 0")
        if not self.pending_timeout_s > 0:
            raise ValueError(f"expected a pending timeout above 0, found {self.pending_timeout_s}")


class Breaker:
    """
    The circuit breaker of one cluster. A reload changes its limits in place: who has entered must still leave.

    Whoever enters keeps the breaker that it entered and leaves that one, since a reload may take it out of the cluster.

    An attempt that has entered may `settle`: it is still in flight, and `max_requests` counts it, but it is no load any
    more that an adaptive limit should count, because what the limit learns from has come, the response's head, and the
    rest may take for ever without work for the upstream: a tunnel, a stream of events.

        entered --- leave ------------------> gone
           |                                   ^
           +------- settle --> settled --------+ leave(has_settled=True)

    Attributes:
        spec: Limits in force.
        requests: Attempts in flight, settled ones included.
        settled: Of those, the ones that count for `max_requests` only.
        retries: Retries in flight.
        limit: Attempts that may be in flight now: `max_requests`, or what `adaptive` found and the settled ones on top.
        adaptive: What finds `limit`, or None when it is fixed.
        pending_timeout_s: As in the spec.
        retry_after_s: Whole seconds for `Retry-After` of what is refused: until then whoever waits now has been served
            or has given up.
    """

    __slots__ = (
        "_max_connections",
        "_max_pending",
        "_max_retries",
        "_overflows_seen",
        "_random",
        "_stats",
        "adaptive",
        "limit",
        "pending_timeout_s",
        "requests",
        "retries",
        "retry_after_s",
        "settled",
        "spec",
    )

    def __init__(self, spec: BreakerSpec, stats: ClusterStats, random: Callable[[], float] = system_random) -> None:
        self._stats = stats
        self._random = random
        self._overflows_seen = 0
        self.requests = 0
        self.settled = 0
        self.retries = 0
        self.adaptive: AdaptiveLimit | None = None
        self.configure(spec)

    def __repr__(self) -> str:
        return f"<Breaker [Requests: {self.requests} of {self.limit} | Retries: {self.retries} of {self._max_retries}]>"

    def configure(self, spec: BreakerSpec) -> None:
        """Change the limits; what is in flight stays counted, what was learnt stays known."""
        self.spec = spec
        self._max_connections = spec.max_connections
        self._max_pending = spec.max_pending_requests
        self._max_retries = spec.max_retries
        self.pending_timeout_s = spec.pending_timeout_s
        self.retry_after_s = float(max(1, ceil(spec.pending_timeout_s)))
        if not spec.adaptive:
            self.adaptive = None
        elif self.adaptive is None:
            self.adaptive = AdaptiveLimit(spec.max_requests, self._random)
        else:
            self.adaptive.set_max(spec.max_requests)
        self._set_limit()

    def _set_limit(self) -> None:
        adaptive, most = self.adaptive, self.spec.max_requests
        if adaptive is None:
            self.limit = self._stats.concurrency_limit = most
            return
        self._stats.concurrency_limit = adaptive.limit
        # Added here and not subtracted in `enter`, which every attempt calls: few ever settle.
        self.limit = min(adaptive.limit + self.settled, most)

    def enter(self) -> bool:
        """Count an attempt in, unless too many are in flight; true obliges to `leave` once."""
        if self.requests >= self.limit:
            self._stats.overflow_requests += 1
            return False
        self.requests += 1
        return True

    def leave(self, has_settled: bool = False) -> None:
        """The attempt, which may have settled, is over."""
        self.requests -= 1
        if has_settled:
            self.settled -= 1
            if self.adaptive is not None:
                self._set_limit()

    def settle(self) -> None:
        """
        The attempt, which has entered, goes on without being load; it must leave with `has_settled`. Not to be called
        twice for an attempt. O(1); without an adaptive limit it changes nothing but a count.
        """
        self.settled += 1
        if self.adaptive is not None:
            self._set_limit()

    def on_tick(self, now: float) -> None:
        """Let an adaptive limit find its way back without results, too; call it about once a second."""
        overflows, before = self._stats.overflow_requests, self._overflows_seen
        self._overflows_seen = overflows
        if self.adaptive is not None:
            self.adaptive.on_tick(self.requests - self.settled, overflows > before, now)
            self._set_limit()

    def has_room(self, open_connections: int, here: int) -> bool:
        """
        Whether another connection may be opened.

        Args:
            open_connections: Open or being opened, all endpoints of the cluster.
            here: Of those, the ones of the endpoint in question. One that has none may always open one, or requests
                would wait there for a connection that never comes back (Envoy does the same).
        """
        return open_connections < self._max_connections or here == 0

    def on_full(self) -> None:
        """A connection that a request wanted is not opened for want of room."""
        self._stats.overflow_connections += 1

    def may_wait(self, pending: int) -> bool:
        """Whether another request may wait for others' connections, when `pending` do so in the cluster."""
        if pending < self._max_pending:
            return True
        self._stats.overflow_pending += 1
        return False

    def enter_retry(self) -> bool:
        """Count a retry in, unless too many are under way; true obliges to `leave_retry` once."""
        if self.retries >= self._max_retries:
            self._stats.overflow_retries += 1
            return False
        self.retries += 1
        return True

    def leave_retry(self) -> None:
        """The retry is over."""
        self.retries -= 1

    def on_result(self, status: int, failure: Reason | None, latency_s: float, now: float) -> None:
        """
        Let an adaptive limit learn; see `Cluster.report`.

        An answer below 500 other than 429 is a sample. A timeout, 429 and 503 say "too much". Everything else says
        nothing about load.
        """
        adaptive = self.adaptive
        if adaptive is None:
            return
        if failure is None:
            did_drop = status in _OVERLOAD_STATUSES
            if not did_drop and not 0 < status < 500:
                return
        else:
            did_drop = failure.source is Source.UPSTREAM and failure.flag == "UT"
            if not did_drop:
                return
        adaptive.on_sample(latency_s, self.requests - self.settled, did_drop, now)
        if adaptive.limit != self._stats.concurrency_limit:
            self._set_limit()
