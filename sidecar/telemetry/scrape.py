"""
What a scrape sees, in which order, and in slices: the event loop is never held for long, however many routes. *Cold.*
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from sidecar import __version__
from sidecar.exchange import Direction
from sidecar.telemetry import catalogue, exposition
from sidecar.telemetry.compat import Compat, View
from sidecar.telemetry.exposition import Format
from sidecar.telemetry.metrics import CounterFamily, HistogramFamily, RequestMetrics
from sidecar.telemetry.scopes import Scopes
from sidecar.telemetry.sinks import Sinks
from sidecar.telemetry.upstreams import Upstreams

SLICE_S = 0.001
"""What a scrape may hold the loop for at a stretch (design, section 9)."""

_BUILD = (__version__, ".".join(map(str, sys.version_info[:3])))


class Configuration:
    """What is told about the configuration: which is live, since when, and how loads went."""

    def __init__(self) -> None:
        self.hash = ""
        self.time_s = 0.0
        self.is_good = False
        self.reloads = CounterFamily(catalogue.RELOADS)
        self.durations = HistogramFamily(catalogue.RELOAD_DURATION)
        for result in ("success", "failure"):
            self.reloads.child(result)
            self.durations.child(result)

    def applied(self, config_hash: str, *, is_reload: bool) -> None:
        """A configuration is live."""
        self.hash = config_hash
        self.time_s = time.time()
        self.is_good = True
        if is_reload:
            self.reloads.child("success").value += 1

    def refused(self) -> None:
        """A changed one was refused."""
        self.is_good = False
        self.reloads.child("failure").value += 1

    def exposed(self, form: Format) -> Iterator[bytes]:
        """All its series."""
        samples = exposition.samples
        yield from samples(catalogue.RELOAD_SUCCESSFUL, form, [(b"", int(self.is_good))])
        yield from samples(catalogue.RELOAD_TIME, form, [(b"", self.time_s)])
        info = exposition.labelled(catalogue.CONFIG_INFO, [((self.hash,), 1)] if self.hash else [])
        yield from samples(catalogue.CONFIG_INFO, form, info)
        yield from exposition.counters(self.reloads, form)
        yield from exposition.histograms(self.durations, form)


class Downstreams:
    """Connections of clients, by direction: opened and closed so far."""

    def __init__(self) -> None:
        self.opened = [0, 0]
        self.closed = [0, 0]


class Scrape:
    """
    All that a scrape shows.

    Args:
        connections: Open client connections by direction, at any moment.
        active: Exchanges that have begun and are not over, by direction.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        scopes: Scopes,
        upstreams: Upstreams,
        configuration: Configuration,
        downstreams: Downstreams,
        sinks: Sinks,
        connections: Callable[[], Mapping[Direction, int]],
        active: list[int],
    ) -> None:
        self._metrics = metrics
        self._scopes = scopes
        self._upstreams = upstreams
        self._configuration = configuration
        self._downstreams = downstreams
        self._sinks = sinks
        self._connections = connections
        self._active = active

    def whole(self, form: Format, compat: Compat | None = None) -> bytes:
        """Everything at once; holds the loop for as long as that takes."""
        return b"".join((*self._pieces(form, compat), exposition.process(form)))

    async def sliced(self, form: Format, compat: Compat | None = None, *, is_compressed: bool) -> bytes:
        """The same, giving way to others whenever a slice is used up; a thread does what can be done in one."""
        pieces: list[bytes] = []
        end = time.perf_counter() + SLICE_S
        for piece in self._pieces(form, compat):
            pieces.append(piece)
            if time.perf_counter() >= end:
                await asyncio.sleep(0)
                end = time.perf_counter() + SLICE_S
        return await asyncio.to_thread(_finished, pieces, form, is_compressed)

    def _pieces(self, form: Format, compat: Compat | None) -> Iterator[bytes]:
        for _ in self._scopes.expire():
            yield b""
        metrics = self._metrics
        counters, histograms = exposition.counters, exposition.histograms
        yield from histograms(metrics.server_duration, form)
        yield from histograms(metrics.client_duration, form)
        yield from counters(metrics.requests, form)
        yield from self._by_direction(catalogue.REQUESTS_ACTIVE, form, self._active)
        yield from counters(metrics.request_bytes, form)
        yield from counters(metrics.response_bytes, form)
        yield from histograms(metrics.overhead, form)
        yield from self._upstreams.exposed(form)
        yield from counters(metrics.retries, form)
        yield from counters(metrics.retried, form)
        yield from counters(metrics.retries_skipped, form)
        open_now = self._connections()
        numbers = [open_now.get(direction, 0) for direction in Direction]
        yield from self._by_direction(catalogue.DOWNSTREAM_ACTIVE, form, numbers)
        yield from self._by_direction(catalogue.DOWNSTREAM_OPENED, form, self._downstreams.opened)
        yield from self._by_direction(catalogue.DOWNSTREAM_CLOSED, form, self._downstreams.closed)
        yield from self._configuration.exposed(form)
        yield from self._told_and_lost(form)
        yield from self._identity(form)
        if compat is not None:
            shown, downstreams = self._upstreams.shown(), self._downstreams
            is_good = self._configuration.is_good
            yield from compat.exposed(View(shown, downstreams.opened, downstreams.closed, is_config_good=is_good), form)

    def _by_direction(self, row: catalogue.Metric, form: Format, numbers: list[int]) -> Iterator[bytes]:
        series = [((direction.label,), numbers[direction]) for direction in Direction]
        return exposition.samples(row, form, exposition.labelled(row, series))

    def _told_and_lost(self, form: Format) -> Iterator[bytes]:
        sinks = self._sinks
        for row, series in (
            (catalogue.SPANS_EXPORTED, [((), sinks.span_losses.exported)]),
            (catalogue.SPANS_DROPPED, [((reason,), count) for reason, count in sinks.spans_dropped()]),
            (catalogue.LOG_LINES_DROPPED, [((reason,), count) for reason, count in sinks.lines_dropped()]),
            (catalogue.LOG_LINES_FILTERED, [((), sinks.lines_filtered)]),
            (catalogue.QUEUE, [((queue,), size) for queue, size in sinks.waiting_bytes()]),
        ):
            yield from exposition.samples(row, form, exposition.labelled(row, series))

    def _identity(self, form: Format) -> Iterator[bytes]:
        build, target = catalogue.BUILD_INFO, catalogue.TARGET_INFO
        yield from exposition.samples(build, form, exposition.labelled(build, [(_BUILD, 1)]))
        names = ("service.name", "service.namespace", "service.version", "service.instance.id")
        values = tuple(self._sinks.resource.get(name, "") for name in names)
        yield from exposition.samples(target, form, exposition.labelled(target, [(values, 1)]))


def _finished(pieces: list[bytes], form: Format, is_compressed: bool) -> bytes:
    """In a thread: joining megabytes, compressing them, and counting open files, which takes a call for each."""
    pieces.append(exposition.process(form))
    whole = b"".join(pieces)
    return gzip.compress(whole, compresslevel=1, mtime=0) if is_compressed else whole
