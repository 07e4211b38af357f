"""
What is bound in advance: a scope for each (direction, route, upstream), an outcome for each way to end in it.

*Hot path: the lookup in `Scope.outcomes`; binding happens once for each outcome.*
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from sidecar import clock, grpc
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.message import Version
from sidecar.telemetry.access_log import json_line
from sidecar.telemetry.access_log.line_template import LineTemplate
from sidecar.telemetry.metrics.instruments import Counter, Family, Histogram, RequestMetrics, code_label, method_label
from sidecar.telemetry.settings import LogFilter
from sidecar.telemetry.traces import spans
from sidecar.telemetry.traces.spans import SpanTemplate, request_span, stream_span

_MAX_OUTCOMES: Final = 1024  # of a scope; methods and status codes may be invented
_Child = TypeVar("_Child", Counter, Histogram)

OutcomeKey = tuple[bytes | None, int, int, Reason | None, int]
"""Method, version, status, reason, and the status of gRPC or -1."""


class Observed(Protocol):
    """Further series of one outcome; `compat.Bound` is it."""

    def observe(self, exchange: Exchange, duration_ns: int) -> None:
        """One exchange."""


class Binder(Protocol):
    """Makes them; `compat.Compat` is it."""

    def bind(
        self, scope: Scope, method: bytes | None, code: str, status: int, reason: Reason | None, grpc_status: int
    ) -> Observed:
        """The further series of one outcome."""
        ...


class Calls:
    """
    What is counted of calls of gRPC that ended alike.

    Args:
        counter: Their series.
        others: Series by other meshes' names, or None.
    """

    __slots__ = ("_counter", "_others")

    def __init__(self, counter: Counter, others: Observed | None) -> None:
        self._counter = counter
        self._others = others

    def observe(self, exchange: Exchange, duration_ns: int) -> None:
        """One call."""
        self._counter.value += 1
        if self._others is not None:
            self._others.observe(exchange, duration_ns)


class Forms:
    """
    How outcomes are bound; when one of these changes, all outcomes are bound anew.

    Attributes:
        template: Of log lines; None for JSON.
        when: Which lines are written; None for all.
        compat: Other meshes' metrics, or None.
    """

    __slots__ = ("compat", "template", "when")

    def __init__(
        self,
        template: LineTemplate | None = None,
        when: LogFilter | None = None,
        compat: Binder | None = None,
    ) -> None:
        self.compat = compat
        self.template = template
        self.when = when


class Outcome:
    """
    What is known about an exchange's record once method, status, reason and gRPC's status are.

    Attributes:
        further: Series besides, of calls of gRPC or by other meshes' names; None: there are none.
        is_call: Whether it is of gRPC.
        is_named_by_call: Whether the span has yet to have its name, of what is called.
        is_logged: Whether its lines are written whatever else the filter says.
        line: Makes the JSON; unused if there is a template.
        text: The template of the lines, or None.
    """

    __slots__ = (
        "duration", "further", "is_call", "is_logged", "is_named_by_call", "line", "requests", "span", "text"
    )  # fmt: skip

    def __init__(
        self, scope: Scope, method: bytes | None, version: int, status: int, reason: Reason | None, grpc_status: int
    ) -> None:
        direction, route, upstream = scope.direction, scope.route, scope.upstream
        http_route = scope.http_route
        metrics = scope.metrics
        flag = reason.flag if reason is not None else "-"
        code = code_label(status)
        self.requests = scope.own(metrics.requests, direction.label, route, upstream, code, flag)
        durations = metrics.server_duration if direction is Direction.INBOUND else metrics.client_duration
        name = grpc.NAMES[grpc_status] if grpc_status >= 0 else ""
        error = spans.error_type(direction, status, reason, grpc_status)
        self.duration = scope.own(
            durations, method_label(method), code, http_route, scope.server_address, error, upstream, route
        )
        details = reason.name if reason is not None else "via_upstream" if upstream else "direct_response"
        fixed = json_line.fixed_values(
            direction=direction.label, method=method, version=version, status=status, flag=flag, details=details,
            route=route, upstream=upstream, http_route=http_route, grpc_status=name,
        )  # fmt: skip
        compat, template, when = scope.forms.compat, scope.forms.template, scope.forms.when
        self.further: Observed | None = None
        if compat is not None:
            self.further = compat.bind(scope, method, code, status, reason, grpc_status)
        # A call that failed has 200 in HTTP: whoever counts failures, or asks for their lines, means its too.
        judged = grpc.counts_as(status, grpc_status)
        if name:
            calls = scope.own(metrics.grpc, direction.label, route, upstream, code, flag, code_label(judged), name)
            self.further = Calls(calls, self.further)
        self.line = json_line.JsonLine(fixed)
        self.text = template.bind(fixed) if template is not None else None
        self.is_logged = when is None or any(first <= judged <= last for first, last in when.statuses)
        self.is_call = grpc_status >= 0
        self.is_named_by_call = spans.is_named_by_call(route, http_route, grpc_status)
        self.span = SpanTemplate(
            request_span(direction, method, version, route, upstream, status, reason, http_route, grpc_status)
        )


class StreamOutcome:
    """What is known about the record of a connection that is no HTTP's, once its protocol and its end are."""

    __slots__ = ("is_logged", "line", "span", "text")

    def __init__(self, scope: Scope, protocol: str, reason: Reason | None) -> None:
        flag = reason.flag if reason is not None else "-"
        details = reason.name if reason is not None else "via_upstream"
        fixed = json_line.fixed_values(
            direction=scope.direction.label, method=None, version=Version.HTTP11, status=0, flag=flag, details=details,
            route=scope.route, upstream=scope.upstream, protocol=protocol,
        )  # fmt: skip
        template, when = scope.forms.template, scope.forms.when
        self.line = json_line.JsonLine(fixed)
        self.text = template.bind(fixed) if template is not None else None
        self.is_logged = when is None or reason is not None
        self.span = SpanTemplate(stream_span(scope.direction, protocol, scope.upstream, reason))


class Scope:
    """
    Telemetry of one (direction, route, upstream) and template, shared by all plans that have it.

    Attributes:
        route: Name of the route; empty if none was reached.
        upstream: Name of the upstream; empty if none was chosen.
        server_address: The upstream's address or name as configured.
        http_route: The template of the route's paths, where it has one; else its name.
        outcomes: What was bound so far, by `OutcomeKey`.
        request_bytes, response_bytes: Set when the first outcome is bound.
        secured: Requests by TLS, by the SPIFFE ID of whom they came from or went to; filled at first use.
        clear: Requests in clear, since there was one by TLS.
        streams: What was bound so far of connections that are no HTTP's, by `(protocol, reason)`.
        hits: Requests, or connections that are no HTTP's, which ended here since `since_ns`.
        last_ns: When the last of them ended; 0 for never. So read as `clock.monotonic_ns`.

    Args:
        metrics: Where it counts.
        forms: How outcomes are bound.
        returned: Told when something is recorded in a scope that was empty, or emptied by `forget`.
    """

    __slots__ = (
        "_owned",
        "_returned",
        "_tries",
        "clear",
        "direction",
        "forms",
        "hits",
        "http_route",
        "last_ns",
        "metrics",
        "outcomes",
        "overhead",
        "request_bytes",
        "response_bytes",
        "route",
        "secured",
        "server_address",
        "since_ns",
        "streams",
        "upstream",
    )

    clear: Counter
    request_bytes: Counter
    response_bytes: Counter

    def __init__(
        self,
        metrics: RequestMetrics,
        forms: Forms,
        direction: Direction,
        route: str,
        upstream: str,
        server_address: str,
        http_route: str,
        returned: Callable[[Scope], None],
    ) -> None:
        self.metrics = metrics
        self.forms = forms
        self._returned = returned
        self.direction = direction
        self.route = route
        self.upstream = upstream
        self.server_address = server_address
        self.http_route = http_route or route
        self.hits = self.last_ns = 0
        self.since_ns = clock.monotonic_ns()
        self.overhead = metrics.overhead.child(direction.label)
        self.outcomes: dict[OutcomeKey, Outcome] = {}
        self.secured: dict[str, Counter] = {}
        self.streams: dict[tuple[str, Reason | None], StreamOutcome] = {}
        self._tries: dict[OutcomeKey, SpanTemplate] = {}
        self._owned: set[tuple[Family[Any], tuple[str, ...]]] = set()

    def own(self, family: Family[_Child], *labels: str) -> _Child:
        """The family's series with these labels, which lives as long as a scope that asked for it."""
        child = family.child(*labels)
        if (family, labels) not in self._owned:
            self._owned.add((family, labels))
            child.owners += 1
        return child

    def stream(self, protocol: str, reason: Reason | None) -> StreamOutcome:
        """The outcome of connections that carried this and ended so; the table bounds both."""
        found = self.streams.get((protocol, reason))
        if found is None:
            found = self.streams[protocol, reason] = StreamOutcome(self, protocol, reason)
        return found

    def bind(self, key: OutcomeKey) -> Outcome:
        """Make the outcome for a key that `outcomes` does not have."""
        if len(self.outcomes) >= _MAX_OUTCOMES:
            self.outcomes.clear()
        if not self.outcomes:
            self._returned(self)
            names = (self.direction.label, self.route, self.upstream)
            self.request_bytes = self.own(self.metrics.request_bytes, *names)
            self.response_bytes = self.own(self.metrics.response_bytes, *names)
        method, version, status, reason, grpc_status = key
        status = status or (reason.status if reason else 0)
        outcome = self.outcomes[key] = Outcome(self, method, version, status, reason, grpc_status)
        return outcome

    def try_template(
        self, method: bytes | None, version: int, status: int, reason: Reason | None, grpc_status: int = -1
    ) -> SpanTemplate:
        """The span of an attempt that another one followed; it is a call, also where the exchange is the app's own."""
        key = (method, version, status, reason, grpc_status)
        found = self._tries.get(key)
        if found is None:
            if len(self._tries) >= _MAX_OUTCOMES:
                self._tries.clear()
            fixed = request_span(
                Direction.OUTBOUND, method, version, self.route, self.upstream, status, reason, self.http_route,
                grpc_status,
            )  # fmt: skip
            found = self._tries[key] = SpanTemplate(fixed)
        return found

    def revive(self) -> None:
        """Something is to be counted here that is no outcome of a request."""
        if not self._owned:
            self._returned(self)

    def forget(self) -> None:
        """Let go of all series; those that no other scope owns are gone. What is recorded later begins anew."""
        self.outcomes.clear()
        self.streams.clear()
        self.secured.clear()
        self._tries.clear()
        for family, labels in self._owned:
            child = family.children[labels]
            child.owners -= 1
            if not child.owners:
                family.remove(*labels)
        self._owned.clear()

    @property
    def key(self) -> tuple[Direction, str, str, str, str]:
        """What it is found by: direction, route, upstream, server address, and what `http.route` says."""
        return self.direction, self.route, self.upstream, self.server_address, self.http_route

    def __repr__(self) -> str:
        return f"<Scope {self.direction.label} route={self.route!r} upstream={self.upstream!r}>"
