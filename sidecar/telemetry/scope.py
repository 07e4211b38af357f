"""
What is bound in advance: a scope for each (direction, route, upstream), an outcome for each way to end in it.

*Hot path: the lookup in `Scope.outcomes`; binding happens once for each outcome.*
"""

from __future__ import annotations

from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.telemetry import access_log, spans
from sidecar.telemetry.metrics import RequestMetrics, code_label, method_label
from sidecar.telemetry.spans import SpanTemplate

_MAX_OUTCOMES = 1024  # of a scope; methods and status codes may be invented


class Outcome:
    """What is known about an exchange's record once method, status and reason are."""

    __slots__ = ("duration", "line", "requests", "span")

    def __init__(self, scope: Scope, method: bytes | None, minor: int, status: int, reason: Reason | None) -> None:
        direction, route, upstream = scope.direction, scope.route, scope.upstream
        metrics = scope.metrics
        flag = reason.flag if reason is not None else "-"
        code = code_label(status)
        self.requests = metrics.requests.child(direction.label, route, upstream, code, flag)
        durations = metrics.server_duration if direction is Direction.INBOUND else metrics.client_duration
        error = spans.error_type(direction, status, reason)
        self.duration = durations.child(method_label(method), code, route, scope.server_address, error)
        details = reason.name if reason is not None else "via_upstream" if upstream else "direct_response"
        self.line = access_log.line_pattern(
            direction=direction.label, method=method, minor=minor, status=status, flag=flag, details=details,
            route=route, upstream=upstream,
        )  # fmt: skip
        self.span = SpanTemplate(
            direction=direction,
            method=method,
            minor=minor,
            route=route,
            upstream=upstream,
            status=status,
            reason=reason,
        )


OutcomeKey = tuple[bytes | None, int, int, Reason | None]


class Scope:
    """
    Telemetry of one (direction, route, upstream), shared by all plans that have it.

    Attributes:
        route: Name of the route; empty if none was reached.
        upstream: Name of the upstream; empty if none was chosen.
        server_address: The upstream's address or name as configured.
        outcomes: What was bound so far, by `(method, minor, status, reason)`.
    """

    __slots__ = ("direction", "metrics", "outcomes", "overhead", "route", "server_address", "upstream")

    def __init__(
        self, metrics: RequestMetrics, direction: Direction, route: str, upstream: str, server_address: str
    ) -> None:
        self.metrics = metrics
        self.direction = direction
        self.route = route
        self.upstream = upstream
        self.server_address = server_address
        self.overhead = metrics.overhead.child(direction.label)
        self.outcomes: dict[OutcomeKey, Outcome] = {}

    def bind(self, key: OutcomeKey) -> Outcome:
        """Make the outcome for a key that `outcomes` does not have."""
        if len(self.outcomes) >= _MAX_OUTCOMES:
            self.outcomes.clear()
        method, minor, status, reason = key
        outcome = self.outcomes[key] = Outcome(self, method, minor, status or (reason.status if reason else 0), reason)
        return outcome

    def __repr__(self) -> str:
        return f"<Scope {self.direction.label} route={self.route!r} upstream={self.upstream!r}>"
