"""
The door of this room: an exchange comes in twice, and is told about once. *Hot path: `begin` and `record`.*

Whatever does not depend on the single request is bound when an outcome (method, status, reason) is first seen in a
scope (direction, route, upstream); from then on recording is attribute arithmetic, one formatted line and one joined
span. `benchmarks/micro/record.py` has the cost.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from sidecar import clock
from sidecar.exchange import Direction, Exchange
from sidecar.message import Field, Kind, RequestHead
from sidecar.telemetry import access_log, catalogue, exposition, spans, tracecontext
from sidecar.telemetry.metrics import CounterFamily, RequestMetrics
from sidecar.telemetry.scope import Outcome, OutcomeKey, Scope
from sidecar.telemetry.sinks import Sinks, TelemetrySettings
from sidecar.telemetry.spans import Agent, Authority, Destination, Peer

__all__ = ["Scope", "Telemetry", "TelemetrySettings"]

log = logging.getLogger("sidecar.telemetry")

_TRACE_OR_ID = Kind.TRACE | Kind.REQUEST_ID
_TRACE = Kind.TRACE
_USER_AGENT = Kind.USER_AGENT
_MAX_REMEMBERED = 4096  # peers, endpoints, authorities, each
_SAMPLE_BITS = 1 << 64
# No callback of ours takes a millisecond, so what comes later after a response's head is the body still streaming.
_MAX_TAIL_NS = 1_000_000

Observer = Callable[[Exchange], None]
"""Looks at an exchange that is over: reads it, keeps nothing of it, and takes microseconds."""


class Telemetry:
    """
    All telemetry of one process.

    Args:
        settings: As compiled from the first configuration.
        clusters: Upstreams that exist at the time of a scrape.
        connections: Open client connections by direction at the time of a scrape.
        environment: Where `OTEL_*` variables are read.

    Attributes:
        observers: Who looks on at this moment; usually nobody, which costs nothing.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        clusters: Callable[[], Iterable[exposition.ClusterLike]] = tuple,
        connections: Callable[[], Mapping[Direction, int]] = dict,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.observers: tuple[Observer, ...] = ()
        self._clusters = clusters
        self._connections = connections
        self._metrics = RequestMetrics()
        self._reloads = CounterFamily(catalogue.RELOADS)
        for result in ("success", "failure"):
            self._reloads.child(result)
        self._config_hash = ""
        self._config_time_s = 0.0
        self._is_config_good = False
        self._scopes: dict[tuple[Direction, str, str, str], Scope] = {}
        self._unscoped = (self.scope(Direction.INBOUND, "", "", ""), self.scope(Direction.OUTBOUND, "", "", ""))
        self._seconds: dict[int, bytes] = {}
        self._peers: tuple[dict[str, Peer], dict[str, Peer]] = ({}, {})
        self._destinations: tuple[dict[str, Destination], dict[str, Destination]] = ({}, {})
        self._authorities: dict[tuple[bytes, int | None], Authority] = {}
        self._sinks = Sinks(environment)
        self.reconfigure(settings)

    def __repr__(self) -> str:
        return f"<Telemetry {len(self._scopes)} scopes {self._sinks!r}>"

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to write and to export; what was recorded before waits until then."""
        self._sinks.start()

    async def stop(self, timeout_s: float) -> None:
        """Flush both, for at most so long together; what is left is counted as lost by `shutdown`."""
        await self._sinks.stop(timeout_s)

    def reconfigure(self, settings: TelemetrySettings) -> None:
        """Follow a reload. Files and collectors that did not change are kept; old ones are flushed and let go."""
        self._sinks.apply(settings)
        self._sample_below = round(settings.sample * _SAMPLE_BITS)
        log_file, exporter = self._sinks.log_file, self._sinks.exporter
        self._write = log_file.write if log_file is not None else None
        self._export = exporter.put if exporter is not None else None

    def reopen(self) -> None:
        """Open the access log anew (SIGUSR1)."""
        if self._sinks.log_file is not None:
            self._sinks.log_file.reopen()

    def add_observer(self, observer: Observer) -> None:
        """From now on call `observer` with every exchange that was recorded, on the event loop."""
        self.observers += (observer,)

    def remove_observer(self, observer: Observer) -> None:
        """Call it no more; one that is not there, because it failed or was removed before, is no error."""
        self.observers = tuple(other for other in self.observers if other != observer)

    def config_applied(self, config_hash: str, *, is_reload: bool) -> None:
        """A configuration is live; `config_hash` is `Plan.config_hash`."""
        self._config_hash = config_hash
        self._config_time_s = time.time()
        self._is_config_good = True
        if is_reload:
            self._reloads.child("success").value += 1

    def config_refused(self) -> None:
        """A changed configuration was refused; the old one goes on."""
        self._is_config_good = False
        self._reloads.child("failure").value += 1

    def scope(self, direction: Direction, route: str, upstream: str, server_address: str) -> Scope:
        """
        The scope for what a plan binds, made if need be; survives reloads, so that counters never go back.

        Args:
            route: The route's name; empty for requests that reached none.
            upstream: The upstream's name; empty where there is none (redirect, respond).
            server_address: The upstream's address or name as configured, never what a request says.
        """
        key = (direction, route, upstream, server_address)
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = Scope(self._metrics, *key)
        return found

    # --- the hot path ----------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> bytes:
        """
        Give the exchange its place in a trace.

        Call it once, when the head is complete. Writes `trace_id`, `span_id`, `parent_id`, `sampled`, `tracestate`
        and `request_id`.

        Returns:
            The lines `traceparent`, `tracestate` if there is one, and `x-request-id`, each with its CRLF, which take
            the place of those received.
        """
        head = exchange.head
        parent = None
        tracestate = request_id = b""
        if head is not None and head.kinds & _TRACE_OR_ID:
            parent, tracestate, request_id = _received(head.fields)
        if not request_id:
            request_id = tracecontext.new_request_id()
        exchange.request_id = request_id
        if parent is None:
            trace_id, span_id = tracecontext.new_ids()
            exchange.trace_id = trace_id
            is_sampled = self._sample_below == _SAMPLE_BITS or int(trace_id[16:], 16) < self._sample_below
        else:
            trace_id, parent_id, is_sampled = parent
            # Without a collector there will be no span of ours, and naming one would orphan what comes after.
            span_id = tracecontext.new_span_id() if self._export is not None else parent_id
            exchange.trace_id = trace_id
            exchange.parent_id = parent_id
        exchange.span_id = span_id
        exchange.sampled = is_sampled and self._export is not None
        flags = b"01" if is_sampled else b"00"
        if tracestate:
            exchange.tracestate = tracestate
            return b"traceparent: 00-%b-%b-%b\r\ntracestate: %b\r\nx-request-id: %b\r\n" % (
                trace_id, span_id, flags, tracestate, request_id
            )  # fmt: skip
        return b"traceparent: 00-%b-%b-%b\r\nx-request-id: %b\r\n" % (trace_id, span_id, flags, request_id)

    def record(self, exchange: Exchange) -> None:
        """
        Tell about an exchange: metrics, one line, one span.

        Call it once, when the exchange is over and `end_ns`, `status` and `reason` are set, whatever became of it;
        also for what could not be parsed (`head` is None) and what reached no route (`scope` is None).
        """
        if not exchange.trace_id:
            self.begin(exchange)
        scope: Scope = exchange.scope or self._unscoped[exchange.direction]  # type: ignore[assignment]
        head = exchange.head
        key: OutcomeKey
        if head is None:
            key = (None, 1, exchange.status, exchange.reason)
        else:
            key = (head.method, head.minor, exchange.status, exchange.reason)
        outcome = scope.outcomes.get(key) or scope.bind(key)

        start_ns = exchange.start_ns
        duration_ns = exchange.end_ns - start_ns
        outcome.requests.value += 1
        outcome.duration.observe(duration_ns)
        waited = b"null"
        if exchange.first_byte_ns:
            waited_ns = exchange.first_byte_ns - exchange.sent_ns
            waited = b"%.3f" % (waited_ns / 1e6)
            if exchange.attempts == 1 and exchange.reason is None:
                tail_ns = exchange.end_ns - exchange.first_byte_ns
                scope.overhead.observe(exchange.sent_ns - start_ns + (tail_ns if tail_ns < _MAX_TAIL_NS else 0))
        if self._write is not None or exchange.sampled:
            self._tell(exchange, outcome, clock.wall_ns(start_ns), duration_ns, waited)
        if self.observers:
            self._show(exchange)

    def _show(self, exchange: Exchange) -> None:
        for observer in self.observers:
            try:
                observer(exchange)
            except Exception:
                # Whoever only looks on must not be able to hurt what is looked at.
                log.exception("observer_failed observer=%r; it is removed", observer)
                self.remove_observer(observer)

    def _tell(self, exchange: Exchange, outcome: Outcome, start_ns: int, duration_ns: int, waited: bytes) -> None:
        """Write the line and the span; `start_ns` is since the Unix epoch here."""
        head = exchange.head
        direction = exchange.direction
        address, port = exchange.peer
        peer = self._peers[direction].get(address) or self._new_peer(address, direction)
        destination = spans.NO_DESTINATION
        if exchange.endpoint is not None:
            label = exchange.endpoint.label
            destination = self._destinations[direction].get(label) or self._new_destination(label, direction)
        authority = spans.NO_AUTHORITY
        agent: Agent | None = None
        target: bytes | None = None
        if head is not None:
            named = (head.host, head.port)
            authority = self._authorities.get(named) or self._new_authority(head)
            target = head.path if head.query is None else b"%b?%b" % (head.path, head.query)
            if head.kinds & _USER_AGENT:
                agent = _agent(head.fields)

        if self._write is not None:
            second, rest = divmod(start_ns, 1_000_000_000)
            members = b""
            if exchange.detail or head is None:
                members = access_log.rare_members(exchange.detail, None if head is not None else exchange.raw_line)
            self._write(
                outcome.line
                % (
                    self._seconds.get(second) or self._new_second(second),
                    rest // 1_000_000,
                    access_log.quote(target),
                    destination.json,
                    exchange.bytes_received,
                    exchange.bytes_sent,
                    duration_ns / 1e6,
                    waited,
                    exchange.request_id,
                    exchange.trace_id,
                    authority.json,
                    agent.json if agent is not None else b"null",
                    peer.json,
                    port,
                    exchange.attempts,
                    members,
                )
            )
        if exchange.sampled and self._export is not None:
            own = peer.attributes + destination.attributes + authority.attributes
            if head is not None:
                own += spans.url_attributes(direction == 1, authority.octets, head.path, head.query)
                if agent is not None:
                    own += agent.attribute
            if direction == 0:
                own += spans.peer_port(port)
            if exchange.attempts > 1:
                own += spans.resend_count(exchange.attempts)
            self._export(
                outcome.span.encode(
                    exchange.trace_id, exchange.span_id, exchange.parent_id, exchange.tracestate,
                    start_ns, start_ns + duration_ns, own,
                )
            )  # fmt: skip

    # --- what is remembered ----------------------------------------------------------------------------------

    def _new_second(self, second: int) -> bytes:
        if len(self._seconds) >= _MAX_REMEMBERED:
            self._seconds.clear()
        text = self._seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return text

    def _new_peer(self, address: str, direction: Direction) -> Peer:
        known = self._peers[direction]
        if len(known) >= _MAX_REMEMBERED:
            known.clear()
        peer = known[address] = Peer(address, direction)
        return peer

    def _new_destination(self, label: str, direction: Direction) -> Destination:
        known = self._destinations[direction]
        if len(known) >= _MAX_REMEMBERED:
            known.clear()
        destination = known[label] = Destination(label, direction)
        return destination

    def _new_authority(self, head: RequestHead) -> Authority:
        if len(self._authorities) >= _MAX_REMEMBERED:
            self._authorities.clear()
        authority = self._authorities[head.host, head.port] = Authority(head.host, head.port)
        return authority

    # --- the scrape ------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return b"".join(self._exposed())

    def _exposed(self) -> Iterator[bytes]:
        values = exposition.values
        metrics = self._metrics
        yield from exposition.histograms(metrics.server_duration)
        yield from exposition.histograms(metrics.client_duration)
        yield from exposition.counters(metrics.requests)
        yield from exposition.histograms(metrics.overhead)
        yield from exposition.upstreams(self._clusters())
        open_now = self._connections()
        active = [((direction.label,), open_now.get(direction, 0)) for direction in Direction]
        yield from values(catalogue.DOWNSTREAM_ACTIVE, active)
        yield from values(catalogue.RELOAD_SUCCESSFUL, [((), int(self._is_config_good))])
        yield from values(catalogue.RELOAD_TIME, [((), self._config_time_s)])
        yield from values(catalogue.CONFIG_INFO, [((self._config_hash,), 1)] if self._config_hash else [])
        yield from exposition.counters(self._reloads)
        sinks = self._sinks
        yield from values(catalogue.SPANS_EXPORTED, [((), sinks.span_losses.exported)])
        yield from values(catalogue.SPANS_DROPPED, [((reason,), count) for reason, count in sinks.spans_dropped()])
        yield from values(catalogue.LOG_LINES_DROPPED, [((reason,), count) for reason, count in sinks.lines_dropped()])
        yield from values(catalogue.BUILD_INFO, [(exposition.BUILD_LABELS, 1)])
        yield from exposition.target_info(sinks.resource)
        yield exposition.process()


def _received(fields: list[Field]) -> tuple[tuple[bytes, bytes, bool] | None, bytes, bytes]:
    """The caller's context, its `tracestate` and its request id; empty for what is absent or to be ignored."""
    parents: list[bytes] = []
    states: list[bytes] = []
    request_id = b""
    for field in fields:
        kind = field.kind
        if kind & _TRACE_OR_ID:
            if not kind & _TRACE:
                if not request_id and tracecontext.is_request_id(field.value):
                    request_id = field.value
            elif field.name == b"traceparent":
                parents.append(field.value)
            elif field.name == b"tracestate":
                states.append(field.value)
    # Several traceparent fields say that somebody is confused; a new trace begins.
    parent = tracecontext.parse_traceparent(parents[0]) if len(parents) == 1 else None
    if parent is None or not states:
        return parent, b"", request_id
    return parent, tracecontext.combine_tracestate(states), request_id


def _agent(fields: list[Field]) -> Agent | None:
    for field in fields:
        if field.kind & _USER_AGENT:
            note = field.note
            if note is None:
                note = field.note = Agent(field.value)
            return note  # type: ignore[return-value]  # nobody else writes the note of this kind
    return None
