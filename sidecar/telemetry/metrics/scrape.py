"""
What a scrape sees, and in which order: sections that are read while they are walked, so that whoever walks them can
give way to others in between, however many routes there are. *Cold.*
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.peer import Peer
from sidecar.telemetry.metrics import catalogue, exposition, self_metrics
from sidecar.telemetry.metrics.compat import Compat, View
from sidecar.telemetry.metrics.control import ControlNumbers
from sidecar.telemetry.metrics.exposition import Format, Numbers, Section, histograms_of, labelled, numbers_of
from sidecar.telemetry.metrics.instruments import RequestMetrics
from sidecar.telemetry.metrics.self_metrics import Configuration
from sidecar.telemetry.metrics.upstreams import Upstreams
from sidecar.telemetry.scopes import Scopes
from sidecar.telemetry.sinks import Sinks
from sidecar.telemetry.tcp.connections import TcpConnections


class Downstreams:
    """Connections of clients, by direction: opened and closed so far."""

    def __init__(self) -> None:
        self.opened = [0, 0]
        self.closed = [0, 0]


class TlsHandshakes:
    """Those with clients and with servers, so far."""

    def __init__(self) -> None:
        self.over: Counter[tuple[str, ...]] = Counter()
        self.failed: Counter[tuple[str, ...]] = Counter()

    def secured(self, peer: Peer, *, is_client: bool) -> None:
        """One is over."""
        side = "client" if is_client else "server"
        self.over[side, peer.version, "true" if peer.is_resumed else "false"] += 1

    def not_secured(self, reason: Reason, *, is_client: bool) -> None:
        """One has failed."""
        self.failed["client" if is_client else "server", reason.name] += 1

    def sections(self) -> Iterator[Section]:
        """As counted."""
        for row, counts in ((catalogue.TLS_HANDSHAKES, self.over), (catalogue.TLS_HANDSHAKE_FAILURES, self.failed)):
            yield Numbers(row, labelled(row, sorted(counts.items())))


class Scrape:
    """
    All that a scrape shows.

    Attributes:
        scopes: Where requests are counted, for whoever asks which routes are hit.
        compat: Other meshes' metrics, or None.
        control: What is known of the control plane; None if none is followed.
        certificates: Gives the series of certificates; None where no configuration has asked for TLS.
        capture: The same of what is proved of captured connections.
        tokens: The same of tokens and their keys.

    Args:
        connections: Open client connections by direction, at any moment.
        active: Exchanges that have begun and are not over, by direction.
        tcp: Connections that are no HTTP's.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        scopes: Scopes,
        upstreams: Upstreams,
        configuration: Configuration,
        downstreams: Downstreams,
        handshakes: TlsHandshakes,
        sinks: Sinks,
        connections: Callable[[], Mapping[Direction, int]],
        active: list[int],
        tcp: TcpConnections,
    ) -> None:
        self._metrics = metrics
        self.scopes = scopes
        self._upstreams = upstreams
        self._configuration = configuration
        self._downstreams = downstreams
        self._handshakes = handshakes
        self._sinks = sinks
        self._connections = connections
        self._active = active
        self._tcp = tcp
        self.compat: Compat | None = None
        self.control: ControlNumbers | None = None
        self.certificates: Callable[[], Iterator[Section]] | None = None
        self.capture: Callable[[], Iterator[Section]] | None = None
        self.tokens: Callable[[], Iterator[Section]] | None = None

    @property
    def resource(self) -> Mapping[str, str]:
        """Who the telemetry is about, by OpenTelemetry's attributes."""
        return self._sinks.resource

    def whole(self, form: Format) -> bytes:
        """Everything as text at once; holds the loop for as long as that takes."""
        return b"".join((*exposition.written(self.sections(), form), exposition.process(form)))

    async def sliced(self, form: Format, *, is_compressed: bool) -> bytes:
        """The same, giving way to others whenever a slice is used up; a thread does what can be done in one."""
        return await exposition.sliced(self.sections(), form, exposition.process, is_compressed=is_compressed)

    def sections(self) -> Iterator[Section]:
        """Every metric once."""
        for _ in self.scopes.expire():
            yield None
        metrics = self._metrics
        yield histograms_of(metrics.server_duration)
        yield histograms_of(metrics.client_duration)
        yield numbers_of(metrics.requests)
        yield numbers_of(metrics.grpc)
        yield self._by_direction(catalogue.REQUESTS_ACTIVE, self._active)
        yield numbers_of(metrics.request_bytes)
        yield numbers_of(metrics.response_bytes)
        yield histograms_of(metrics.overhead)
        yield from self._upstreams.sections()
        yield numbers_of(metrics.retries)
        yield numbers_of(metrics.retried)
        yield numbers_of(metrics.retries_skipped)
        yield numbers_of(metrics.authorization)
        yield Numbers(catalogue.AUTHORIZATION_UNIDENTIFIED, [(b"", metrics.unidentified.value)])
        yield numbers_of(metrics.secured)
        yield numbers_of(metrics.clear)
        open_now = self._connections()
        yield self._by_direction(catalogue.DOWNSTREAM_ACTIVE, [open_now.get(direction, 0) for direction in Direction])
        yield self._by_direction(catalogue.DOWNSTREAM_OPENED, self._downstreams.opened)
        yield self._by_direction(catalogue.DOWNSTREAM_CLOSED, self._downstreams.closed)
        yield from self._handshakes.sections()
        if self.capture is not None:
            yield from self.capture()
        yield from self._tcp.sections()
        yield from self._configuration.sections()
        if self.control is not None:
            yield from self.control.sections()
        if self.certificates is not None:
            yield from self.certificates()
        if self.tokens is not None:
            yield from self.tokens()
        yield from self._told_and_lost()
        yield from self_metrics.process_log_losses()
        yield from self_metrics.workers(1, 1, {})
        yield from self_metrics.identity(self._sinks.resource)
        if self.compat is not None:
            shown, downstreams = self._upstreams.shown(), self._downstreams
            is_good = self._configuration.is_good
            yield from self.compat.sections(View(shown, downstreams.opened, downstreams.closed, is_config_good=is_good))

    def _by_direction(self, row: catalogue.Metric, numbers: list[int]) -> Numbers:
        return Numbers(row, labelled(row, [((direction.label,), numbers[direction]) for direction in Direction]))

    def _told_and_lost(self) -> Iterator[Section]:
        sinks = self._sinks
        for row, series in (
            (catalogue.SPANS_EXPORTED, [((), sinks.span_losses.exported)]),
            (catalogue.SPANS_DROPPED, [((reason,), count) for reason, count in sinks.spans_dropped()]),
            (catalogue.LOG_LINES_DROPPED, [((reason,), count) for reason, count in sinks.lines_dropped()]),
            (catalogue.LOG_LINES_FILTERED, [((), sinks.lines_filtered)]),
            (catalogue.QUEUE, [((queue,), size) for queue, size in sinks.waiting_bytes()]),
        ):
            yield Numbers(row, labelled(row, series))
