"""
The door of this room: an exchange comes in twice, and is told about once. *Hot path: `begin` and `record`.*

Whatever does not depend on the single request is bound when an outcome (method, status, reason) is first seen in a
scope (direction, route, upstream); from then on recording is attribute arithmetic, one formatted line and one joined
span. `benchmarks/micro/record.py` has the cost.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sidecar import clock
from sidecar.errors import Reason
from sidecar.exchange import Decision, Direction, Exchange
from sidecar.grpc import counts_as
from sidecar.message import Kind, Version
from sidecar.peer import Peer
from sidecar.telemetry.access_log import json_line
from sidecar.telemetry.access_log.line_template import LineTemplate
from sidecar.telemetry.access_log.members import members_of
from sidecar.telemetry.form_cache import FormCache, agent_of, target_of
from sidecar.telemetry.metrics.compat import Compat
from sidecar.telemetry.metrics.exposition import Format
from sidecar.telemetry.metrics.instruments import OTHER, Counter, RequestMetrics
from sidecar.telemetry.metrics.scrape import Downstreams, Scrape, TlsHandshakes
from sidecar.telemetry.metrics.self_metrics import Configuration
from sidecar.telemetry.metrics.upstreams import ClusterLike, Upstreams
from sidecar.telemetry.scope import Forms, Outcome, OutcomeKey, Scope
from sidecar.telemetry.scopes import GRACE_NS, Scopes
from sidecar.telemetry.settings import RATIO_ONE, LogFilter, TelemetrySettings, resolve
from sidecar.telemetry.sinks import Sinks
from sidecar.telemetry.tcp import telling
from sidecar.telemetry.tcp.connections import TcpConnections
from sidecar.telemetry.traces import spans, tracecontext
from sidecar.telemetry.traces.propagation import Parent, Propagation, read_tracecontext
from sidecar.telemetry.traces.spans import Agent
from sidecar.telemetry.traces.tries import spans_of_tries, why_given_up

__all__ = ["Format", "LogFilter", "Observer", "Scope", "Telemetry", "TelemetrySettings"]

log = logging.getLogger("sidecar.telemetry")

MAX_AUTHORIZED: Final = 1000
"""Series of `sidecar_authorization_total` in which sources have their names, which a mesh may have more of."""
MAX_SECURED: Final = 1000
"""Likewise of `sidecar_tls_requests_total`."""

_TRACE_OR_ID: Final = Kind.TRACE | Kind.REQUEST_ID

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
        numbers: What a scrape sees.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        clusters: Callable[[], Iterable[ClusterLike]] = tuple,
        connections: Callable[[], Mapping[Direction, int]] = dict,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.observers: tuple[Observer, ...] = ()
        self._metrics = RequestMetrics()
        self._forms = Forms()
        self._compat: Compat | None = None
        self._scopes = Scopes(self._metrics, self._forms)
        self._upstreams = Upstreams(clusters, self._metrics.connect_duration, GRACE_NS)
        self._configuration = Configuration()
        self._downstreams = Downstreams()
        self._handshakes = TlsHandshakes()
        self._tcp = TcpConnections(self._scopes.unrouted)
        self._active = [0, 0]
        self._slow_ns = self._log_below = 0
        self._cache = FormCache()
        self._environment = environment
        self._complaints: tuple[str, ...] = ()
        self._sinks = Sinks(environment)
        self.numbers = Scrape(
            self._metrics, self._scopes, self._upstreams, self._configuration, self._downstreams,
            self._handshakes, self._sinks, connections, self._active, self._tcp,
        )  # fmt: skip
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
        resolved = resolve(settings, self._environment)
        self._sinks.apply(settings, resolved)
        for line in resolved.complaints:
            if line not in self._complaints:  # at the start, and when a reload makes it true
                log.warning("%s", line)
        self._complaints = resolved.complaints
        self._effective = resolved.effective
        self._follows_parent = resolved.sampler.follows_parent
        self._sample_below = resolved.sampler.root_below
        self._propagation = Propagation(resolved.propagators)
        self._read = read_tracecontext if self._propagation.is_tracecontext_only else self._propagation.read
        self._bind_forms(settings)
        log_file, exporter = self._sinks.log_file, self._sinks.exporter
        self._write = log_file.write if log_file is not None else None
        self._export = exporter.put if exporter is not None else None

    def _bind_forms(self, settings: TelemetrySettings) -> None:
        text, when = settings.access_log_template, settings.access_log_when
        forms, resource = self._forms, self._sinks.resource
        is_compat_same = (self._compat.names if self._compat else ()) == settings.compat and (
            self._compat is None or self._compat.resource == resource
        )
        if (forms.template.text if forms.template else None) == text and forms.when == when and is_compat_same:
            return
        if not is_compat_same:
            self._compat = Compat(settings.compat, resource, self._environment) if settings.compat else None
            forms.compat = self.numbers.compat = self._compat
        forms.template = LineTemplate(text) if text is not None else None
        forms.when = when
        self._slow_ns = when.slower_than_ns if when is not None and when.slower_than_ns is not None else 1 << 62
        self._log_below = round(when.sample * RATIO_ONE) if when is not None else 0
        self._scopes.rebind()

    def reopen(self) -> None:
        """Open the access log anew (SIGUSR1)."""
        if self._sinks.log_file is not None:
            self._sinks.log_file.reopen()

    def effective(self) -> Mapping[str, Mapping[str, object]]:
        """
        What is in force where the file and the environment may both speak, ready for JSON.

        By setting: its `value`, its `source` (a key of the file, a variable, or `default`) and, if another source said
        something too, `overruled`. Holds no secrets.
        """
        return self._effective

    def add_observer(self, observer: Observer) -> None:
        """From now on call `observer` with every exchange that was recorded, on the event loop."""
        self.observers += (observer,)

    def remove_observer(self, observer: Observer) -> None:
        """Call it no more; one that is not there, because it failed or was removed before, is no error."""
        self.observers = tuple(other for other in self.observers if other != observer)

    def config_applied(self, config_hash: str, *, is_reload: bool) -> None:
        """A configuration is live; `config_hash` is `Plan.config_hash`. Scopes that it did not bind are let go."""
        self._configuration.applied(config_hash, is_reload=is_reload)
        self._scopes.settle(is_live=True)
        self._upstreams.settle()

    def config_refused(self) -> None:
        """A changed configuration was refused; the old one goes on."""
        self._configuration.refused()
        self._scopes.settle(is_live=False)

    def config_loaded(self, took_s: float, *, is_ok: bool) -> None:
        """How long it took to read a configuration and put it in force, or to refuse it."""
        result = "success" if is_ok else "failure"
        self._configuration.durations.child(result).observe(round(took_s * 1e9))

    def scope(
        self, direction: Direction, route: str, upstream: str, server_address: str, http_route: str = ""
    ) -> Scope:
        """
        The scope for what a plan binds, made if need be; survives reloads, so that counters never go back.

        Args:
            route: The route's name; empty for requests that reached none.
            upstream: The upstream's name; empty where there is none (redirect, respond).
            server_address: The upstream's address or name as configured, never what a request says.
            http_route: The template of the route's paths; empty: what has none is shown by the route's name.
        """
        return self._scopes.get(direction, route, upstream, server_address, http_route)

    # --- connections -----------------------------------------------------------------------------------------

    def connection_opened(self, direction: Direction) -> None:
        """A client connected."""
        self._downstreams.opened[direction] += 1

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """A client's connection is gone, after so long."""
        self._downstreams.closed[direction] += 1
        if self._compat is not None:
            self._compat.connection_closed(direction, lasted_ns)

    def detected(self, direction: Direction, protocol: str, *, has_waited: bool) -> None:
        """What a client's connection carries is known."""
        self._tcp.detected(direction, protocol, has_waited=has_waited)

    def connected(self, upstream: str, took_ns: int) -> None:
        """A connection to an upstream was established."""
        self._metrics.connect_duration.child(upstream).observe(took_ns)

    def secured(self, peer: Peer, *, is_client: bool) -> None:
        """A handshake with a client, or with a server, is over."""
        self._handshakes.secured(peer, is_client=is_client)

    def not_secured(self, reason: Reason, *, is_client: bool) -> None:
        """A handshake has failed."""
        self._handshakes.not_secured(reason, is_client=is_client)

    # --- the hot path ----------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> bytes:
        """
        Give the exchange its place in a trace.

        Call it once, when the head is complete. Writes `trace_id`, `span_id`, `parent_id`, `sampled`, `tracestate`
        and `request_id`.

        Returns:
            The lines of the configured formats and `x-request-id`, each with its CRLF, which take the place of all
            received fields of the kinds `TRACE` and `REQUEST_ID`: fields of formats that are not configured are among
            the lines as they were received.
        """
        if exchange.protocol:
            self._tcp.begin(exchange)
        else:
            self._active[exchange.direction] += 1
        head = exchange.head
        parent: Parent | None = None
        tracestate = request_id = passed = b""
        if head is not None and head.kinds & _TRACE_OR_ID:
            parent, tracestate, request_id, passed = self._read(head.fields)
        if not request_id:
            request_id = tracecontext.new_request_id()
        exchange.request_id = request_id
        decision: int | None = None
        if parent is None or not parent[0]:
            trace_id, span_id = self._propagation.new_ids()
            if parent is not None:
                decision = parent[2]
        else:
            trace_id, parent_id, decision = parent
            # Without a collector there will be no span of ours, and naming one would orphan what comes after.
            span_id = parent_id if parent_id and self._export is None else tracecontext.new_span_id()
            exchange.parent_id = parent_id
        if decision is None or not self._follows_parent:
            decision = self._sample_below == RATIO_ONE or int(trace_id[16:], 16) < self._sample_below
        exchange.trace_id = trace_id
        exchange.span_id = span_id
        exchange.sampled = bool(decision) and self._export is not None
        exchange.tracestate = tracestate
        if not self._propagation.is_tracecontext_only:
            lines = self._propagation.lines(trace_id, span_id, exchange.parent_id, decision, tracestate)
            return b"%bx-request-id: %b\r\n%b" % (lines, request_id, passed)
        flags = b"01" if decision else b"00"
        if tracestate or passed:
            if tracestate:
                passed = b"tracestate: %b\r\n%b" % (tracestate, passed)
            return b"traceparent: 00-%b-%b-%b\r\nx-request-id: %b\r\n%b" % (
                trace_id, span_id, flags, request_id, passed
            )  # fmt: skip
        return b"traceparent: 00-%b-%b-%b\r\nx-request-id: %b\r\n" % (trace_id, span_id, flags, request_id)

    def judged(self, exchange: Exchange, decision: Decision) -> None:
        """Count what the rules of authorization said of a request, by who asked."""
        client = exchange.client
        source = client.identity if client is not None else ""
        counter = decision.counters.get(source)
        if counter is None:
            counter = self._authorized(decision, source)
        counter.value += 1
        if decision.is_unidentified:
            self._metrics.unidentified.value += 1

    def _authorized(self, decision: Decision, source: str) -> Counter:
        """The series of a decision and a source; beyond so many, sources share one."""
        family = self._metrics.authorization
        label = source or "unidentified"
        if len(family.children) >= MAX_AUTHORIZED:
            label = OTHER
        scope: Scope = decision.scope or self._scopes.unrouted[0]  # type: ignore[assignment]
        counter = scope.own(family, decision.rule, decision.outcome, label)
        if len(decision.counters) < MAX_AUTHORIZED:
            decision.counters[source] = counter
        return counter

    def record(self, exchange: Exchange) -> None:
        """
        Tell about an exchange: metrics, one line, one span.

        Call it once, when the exchange is over and `end_ns`, `status` and `reason` are set, whatever became of it;
        also for what could not be parsed (`head` is None) and what reached no route (`scope` is None).
        """
        if not exchange.trace_id:
            self.begin(exchange)
        if exchange.protocol:
            self._record_stream(exchange)
            return
        direction = exchange.direction
        self._active[direction] -= 1
        scope: Scope = exchange.scope or self._scopes.unrouted[direction]  # type: ignore[assignment]
        head = exchange.head
        key: OutcomeKey
        if head is None:
            key = (None, Version.HTTP11, exchange.status, exchange.reason, -1)
        else:
            key = (head.method, head.version, exchange.status, exchange.reason, exchange.grpc_status)
        outcome = scope.outcomes.get(key) or scope.bind(key)

        start_ns, end_ns = exchange.start_ns, exchange.end_ns
        duration_ns = end_ns - start_ns
        outcome.requests.value += 1
        scope.hits += 1
        scope.last_ns = end_ns
        scope.request_bytes.value += exchange.bytes_received
        scope.response_bytes.value += exchange.bytes_sent
        duration = outcome.duration
        bucket = bisect_left(duration.bounds, duration_ns)
        duration.counts[bucket] += 1
        duration.sum += duration_ns
        if exchange.sampled:
            duration.exemplars[bucket] = (exchange.trace_id, exchange.span_id, duration_ns, end_ns)
        if outcome.further is not None:
            outcome.further.observe(exchange, duration_ns)
        if exchange.received_ns and exchange.first_byte_ns and exchange.attempts == 1 and exchange.reason is None:
            scope.overhead.observe(duration_ns - (exchange.received_ns - exchange.sent_ns))
        if exchange.attempts > 1 or exchange.retry_skipped:
            self._count_retries(exchange, scope)
        if scope.secured or exchange.client is not None or exchange.server is not None:
            self._count_secured(exchange, scope)
        if self._write is not None or exchange.sampled:
            self._tell(exchange, scope, outcome, clock.wall_ns(start_ns), duration_ns)
        if exchange.kept is not None:
            exchange.kept.take(exchange)
        if self.observers:
            self._show(exchange)

    def _record_stream(self, exchange: Exchange) -> None:
        """The same of a connection that is no HTTP's."""
        scope = self._tcp.end(exchange)
        outcome = scope.stream(exchange.protocol, exchange.reason)
        scope.hits += 1
        scope.last_ns = exchange.end_ns
        start_ns = clock.wall_ns(exchange.start_ns)
        duration_ns = exchange.end_ns - exchange.start_ns
        if self._write is not None and (outcome.is_logged or self._is_written(exchange, duration_ns)):
            members = members_of(exchange)
            self._write(telling.log_line(exchange, outcome, self._cache, start_ns, duration_ns, members))
        if exchange.sampled and self._export is not None:
            self._export(telling.span(exchange, scope, outcome, self._cache, start_ns, start_ns + duration_ns))
        if self.observers:
            self._show(exchange)

    def _count_secured(self, exchange: Exchange, scope: Scope) -> None:
        """Count what came by TLS; of what goes out, what was answered by it: a failure may have had no connection."""
        peer = exchange.client
        if exchange.direction == 1:
            if exchange.reason is not None:
                return
            peer = exchange.server
        if peer is not None:
            counter = scope.secured.get(peer.identity) or self._secured(scope, peer.identity)
            counter.value += 1
        elif scope.secured and exchange.head is not None:
            scope.clear.value += 1

    def _secured(self, scope: Scope, identity: str) -> Counter:
        """The series of a scope and who is at the other end; beyond so many, they share one."""
        family = self._metrics.secured
        if not scope.secured:
            scope.clear = scope.own(self._metrics.clear, scope.direction.label, scope.route, scope.upstream)
        label = identity if len(family.children) < MAX_SECURED else OTHER
        counter = scope.own(family, scope.direction.label, scope.route, scope.upstream, label)
        if len(scope.secured) < MAX_SECURED:
            scope.secured[identity] = counter
        return counter

    def _count_retries(self, exchange: Exchange, scope: Scope) -> None:
        metrics, upstream = self._metrics, scope.upstream
        for given_up in exchange.tries or ():
            scope.own(metrics.retries, upstream, why_given_up(given_up)).value += 1
        if exchange.attempts > 1:
            is_bad = exchange.reason is not None or counts_as(exchange.status, exchange.grpc_status) >= 500
            result = "failure" if is_bad else "success"
            scope.own(metrics.retried, upstream, result).value += 1
        if exchange.retry_skipped:
            scope.own(metrics.retries_skipped, upstream, exchange.retry_skipped).value += 1

    def _show(self, exchange: Exchange) -> None:
        for observer in self.observers:
            try:
                observer(exchange)
            except Exception:
                # Whoever only looks on must not be able to hurt what is looked at.
                log.exception("observer_failed observer=%r; it is removed", observer)
                self.remove_observer(observer)

    def _tell(self, exchange: Exchange, scope: Scope, outcome: Outcome, start_ns: int, duration_ns: int) -> None:
        """Write the line and the span; `start_ns` is since the Unix epoch here."""
        head = exchange.head
        direction = exchange.direction
        address, number = exchange.peer
        known = self._cache
        peer = known.peers[direction].get(address) or known.new_peer(address, direction)
        port = known.ports.get(number) or known.new_port(number)
        destination = spans.NO_DESTINATION
        if exchange.endpoint is not None:
            label = exchange.endpoint.label
            destination = known.destinations[direction].get(label) or known.new_destination(label, direction)
        authority = spans.NO_AUTHORITY
        agent: Agent | None = None
        if head is not None:
            authority = known.authorities.get((head.host, head.port)) or known.new_authority(head)
            agent = agent_of(head)
        elif self._sinks.refusals.leaves_out(exchange):
            return

        if self._write is not None and (outcome.is_logged or self._is_written(exchange, duration_ns)):
            second, rest = start_ns // 1_000_000_000, start_ns % 1_000_000_000
            target = target_of(head) if head is not None else b"null"
            waited = b"null"
            if exchange.first_byte_ns:
                waited = json_line.milliseconds(exchange.first_byte_ns - (exchange.awaited_ns or exchange.sent_ns))
            members = members_of(exchange)
            if exchange.detail or head is None or exchange.retry_skipped:
                raw_line = None if head is not None else exchange.raw_line
                members += json_line.rare_members(exchange.detail, raw_line, exchange.retry_skipped)
            second_text = known.seconds.get(second) or known.new_second(second)
            agent_json = agent.json if agent is not None else b"null"
            if outcome.text is None:
                line = outcome.line.line(
                    second_text, rest // 1_000_000, target, destination.json, exchange.bytes_received,
                    exchange.bytes_sent, duration_ns, waited, exchange.request_id, exchange.trace_id, authority.json,
                    agent_json, peer.json, port.text, exchange.attempts, members,
                )  # fmt: skip
            else:
                values = (
                    second_text, rest // 1_000_000, target, destination.json, exchange.bytes_received,
                    exchange.bytes_sent, duration_ns, waited, exchange.request_id, exchange.trace_id, authority.json,
                    agent_json, peer.json, port.text, exchange.attempts, members,
                )  # fmt: skip
                line = outcome.text.line(values, exchange)
            self._write(line)
        if exchange.sampled and self._export is not None:
            end_ns = start_ns + duration_ns
            url = last = b""
            if head is not None:
                url = spans.url_attributes(direction == 1, authority.octets, head.path, head.query)
            agent_attribute = agent.attribute if agent is not None else b""
            of_peer = peer.attributes
            if direction == 0:
                if exchange.direct_peer is None:
                    last = port.attribute
                else:
                    of_peer = spans.behind_proxy(address, exchange.direct_peer)
            elif not authority.octets and exchange.endpoint is not None:
                last = spans.server_of(scope.server_address, exchange.endpoint.label)
            own = b"%b%b%b%b%b%b" % (
                of_peer, destination.attributes, authority.attributes, url, agent_attribute, last
            )  # fmt: skip
            if outcome.is_call and head is not None:
                call = known.calls.get(head.path) or known.new_call(head.path)
                own += call.name + call.attributes if outcome.is_named_by_call else call.attributes
            if exchange.attempts > 1:
                own += spans.resend_count(exchange.attempts)
                if exchange.tries and direction == 1:
                    # Each attempt is a span; what is left for this one is the last.
                    start_ns = clock.wall_ns(exchange.sent_ns or exchange.tries[-1].end_ns)
            if exchange.retry_skipped:
                own += spans.retry_skipped(exchange.retry_skipped)
            secured = exchange.server if direction == 1 else exchange.client
            if secured is not None:
                if not secured.attributes:
                    secured.attributes = spans.tls_attributes(secured, is_client=direction == 0)
                own += secured.attributes
            self._export(
                outcome.span.encode(
                    exchange.trace_id, exchange.span_id, exchange.parent_id, exchange.tracestate,
                    start_ns, end_ns, own,
                )
            )  # fmt: skip
            if exchange.tries:
                for span in spans_of_tries(exchange, scope, known, authority, agent):
                    self._export(span)

    def _is_written(self, exchange: Exchange, duration_ns: int) -> bool:
        """Whether the filter wants the line of an exchange whose status alone is not enough."""
        if duration_ns >= self._slow_ns or int(exchange.trace_id[16:], 16) < self._log_below:
            return True
        self._sinks.lines_filtered += 1
        return False

    # --- the scrape ------------------------------------------------------------------------------------------

    def exposition(self, form: Format = Format.TEXT) -> bytes:
        """Everything at once, in one of Prometheus' formats; for tests and tools, because it holds the loop."""
        return self.numbers.whole(form)

    async def scrape(self, form: Format, *, is_compressed: bool) -> bytes:
        """Everything, in slices between which the loop does other things; gzipped if so asked."""
        return await self.numbers.sliced(form, is_compressed=is_compressed)
