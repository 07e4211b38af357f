"""
Scopes by name, and when they go: those that no plan in force has are forgotten after a grace period. *Cold.*

Counters must survive reloads, also one that takes a route away and another that brings it back; and a scraper must see
the last value of what is gone. But a file that is rewritten every minute with new names must not fill memory, nor every
scrape. So a scope that the live plan does not have is given ten minutes. A refused file's scopes are no exception.

An exchange that outlives even that, such as a WebSocket of an old plan, is recorded all the same: its scope comes back
for another grace period, with counters that begin anew, as after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar import clock
from sidecar.exchange import Direction
from sidecar.telemetry.metrics.instruments import RequestMetrics
from sidecar.telemetry.scope import Forms, Scope

GRACE_NS = 600 * 1_000_000_000
"""Ten minutes: forty scrapes of a slow Prometheus."""

ScopeKey = tuple[Direction, str, str, str, str]
"""Direction, route, upstream, server address, and what `http.route` says."""


class Scopes:
    """
    All scopes of a process.

    Args:
        metrics: Where they count.
        forms: How their outcomes are bound.
        grace_ns: How long a scope outlives the last plan that had it.
    """

    def __init__(self, metrics: RequestMetrics, forms: Forms, grace_ns: int = GRACE_NS) -> None:
        self._metrics = metrics
        self._forms = forms
        self._grace_ns = grace_ns
        self._scopes: dict[ScopeKey, Scope] = {}
        self._live: set[Scope] = set()
        self._bound: set[Scope] = set()
        self._leaving: dict[Scope, int] = {}
        """When each may go, in the order in which they do."""
        self.unrouted = (
            self.get(Direction.INBOUND, "", "", ""),
            self.get(Direction.OUTBOUND, "", "", ""),
        )
        """For what reached no route; they stay."""
        self._permanent = frozenset(self.unrouted)

    def __len__(self) -> int:
        return len(self._scopes)

    def __iter__(self) -> Iterator[Scope]:
        return iter(list(self._scopes.values()))

    def get(self, direction: Direction, route: str, upstream: str, server_address: str, http_route: str = "") -> Scope:
        """The scope of these names, made if need be, for the plan that is being compiled."""
        key = (direction, route, upstream, server_address, http_route or route)
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = Scope(self._metrics, self._forms, *key, returned=self._on_returned)
            # Two go for one that comes, so that memory is bounded even where nobody scrapes.
            for _ in zip(range(2), self.expire(), strict=False):
                pass
        self._bound.add(found)
        self._leaving.pop(found, None)
        return found

    def settle(self, *, is_live: bool) -> None:
        """The plan for which scopes were bound is live, or was refused."""
        bound, self._bound = self._bound, set()
        if is_live:
            gone, self._live = self._live - bound, bound
        else:
            gone = bound - self._live
        deadline = clock.monotonic_ns() + self._grace_ns
        for scope in gone - self._permanent:
            self._leaving[scope] = deadline

    def rebind(self) -> None:
        """The forms changed: outcomes are bound anew when they come next; their series stay."""
        for scope in self._scopes.values():
            scope.outcomes.clear()
            scope.streams.clear()

    def expire(self) -> Iterator[None]:
        """Forget the scopes whose time is over, one at each step."""
        now = clock.monotonic_ns()
        while self._leaving:
            scope, deadline = next(iter(self._leaving.items()))
            if deadline > now:
                return
            del self._leaving[scope]
            if self._scopes.get(scope.key) is scope:
                del self._scopes[scope.key]
            scope.forget()
            yield

    def _on_returned(self, scope: Scope) -> None:
        """Something is recorded in a scope that may have been forgotten."""
        self._scopes.setdefault(scope.key, scope)
        if scope not in self._live and scope not in self._bound and scope not in self._permanent:
            self._leaving.setdefault(scope, clock.monotonic_ns() + self._grace_ns)
