"""
The numbers of several workers as one: what a supervisor exposes. *Cold.*

Counters and histograms are kept as totals to which each report adds what has grown since the one before. A worker that
is gone leaves what it had counted in them, so what was exposed once never goes back, however a worker ends; what it
had counted since its last report is lost with it. Of gauges each worker's last number is kept, and goes with it; the
catalogue says what becomes of several (`Metric.merge`).

A series goes when the last worker that has it says that it is gone, ten minutes after a reload took its route or
upstream away, as in a single process. One whose only workers died stays, for nobody knows whether it will be counted
in again: up to MAX_SERIES in all, which a leak of names by crashes and reloads together would reach one day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sidecar.telemetry.metrics import compat_catalogue
from sidecar.telemetry.metrics.catalogue import METRICS, Metric
from sidecar.telemetry.metrics.exposition import Histograms, Numbers, Section
from sidecar.telemetry.metrics.instruments import SCALES, Counter, Exemplar, Histogram
from sidecar.telemetry.metrics.report import Piece

MAX_SERIES = 1_000_000
"""Beyond so many, those that no worker has any more are forgotten."""

_COMPAT = {row.name: row for rows in compat_catalogue.ROWS.values() for row in rows}
_RULES: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min}
_ROWS: dict[str, Metric] = {row.name: row for row in METRICS} | _COMPAT


class Gauge:
    """
    One series that goes up and down, as each worker has it.

    Attributes:
        labels: As `label_text`.
        values: By worker.
    """

    __slots__ = ("labels", "values")

    def __init__(self, labels: bytes) -> None:
        self.labels = labels
        self.values: dict[Share, float] = {}


class _Counted:
    """One worker's part of a counter."""

    __slots__ = ("last", "total")

    def __init__(self, total: Counter) -> None:
        self.total = total
        self.last = 0
        total.owners += 1

    def set(self, value: float) -> None:
        now = int(value)  # counts are whole, also where they are read as something else
        # As Prometheus does with a reset: an upstream that came back after its grace counts anew.
        self.total.value += now - self.last if now >= self.last else now
        self.last = now


class _Observed:
    """One worker's part of a histogram."""

    __slots__ = ("counts", "sum", "total")

    def __init__(self, total: Histogram) -> None:
        self.total = total
        self.counts = [0] * len(total.counts)
        self.sum = 0
        total.owners += 1

    def set(self, counts: list[int], observed_sum: int, exemplars: dict[int, Exemplar]) -> None:
        total = self.total
        if any(new < old for new, old in zip(counts, self.counts, strict=True)):
            self.counts, self.sum = [0] * len(counts), 0
        for index, (new, old) in enumerate(zip(counts, self.counts, strict=True)):
            total.counts[index] += new - old
        total.sum += observed_sum - self.sum
        self.counts, self.sum = counts, observed_sum
        for index, exemplar in exemplars.items():
            known = total.exemplars.get(index)
            if known is None or known[3] < exemplar[3]:
                total.exemplars[index] = exemplar


_Part = _Counted | _Observed | Gauge


class Merged:
    """All numbers of a group of workers."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[bytes, Counter]] = {}
        self._histograms: dict[str, dict[bytes, Histogram]] = {}
        self._gauges: dict[str, dict[bytes, Gauge]] = {}

    def __len__(self) -> int:
        return sum(len(series) for kind in (self._counters, self._histograms, self._gauges) for series in kind.values())

    def join(self) -> Share:
        """A worker has come."""
        return Share(self)

    def sections(self) -> Iterator[Section]:
        """All that workers tell, in the catalogue's order; those of other meshes only where there are any."""
        for row in _ROWS.values():
            if row.merge == "own":
                continue
            if row.type == "histogram":
                found = self._histograms.get(row.name, {})
                if found or row.name not in _COMPAT:
                    yield Histograms(row, SCALES[row.unit], list(found.values()))
                continue
            series = self._of_counters(row.name) if row.type == "counter" else self._of_gauges(row)
            if series or row.name not in _COMPAT:
                yield Numbers(row, series)
            yield None

    def _of_counters(self, name: str) -> list[tuple[bytes, float]]:
        return [(total.labels, total.value) for total in self._counters.get(name, {}).values()]

    def _of_gauges(self, row: Metric) -> list[tuple[bytes, float]]:
        rule = _RULES[row.merge]
        return [(gauge.labels, rule(gauge.values.values())) for gauge in self._gauges.get(row.name, {}).values()]

    # --- what shares ask for -----------------------------------------------------------------------------------

    def part(self, name: str, labels: bytes) -> _Part | None:
        """Where a worker's series is added; None for what is not in the catalogue."""
        row = _ROWS.get(name)
        if row is None:
            return None
        if row.type == "gauge":
            return self._gauges.setdefault(name, {}).setdefault(labels, Gauge(labels))
        if row.type == "counter":
            return _Counted(self._counters.setdefault(name, {}).setdefault(labels, Counter(labels)))
        totals = self._histograms.setdefault(name, {})
        if labels not in totals:
            scale = SCALES[row.unit]
            totals[labels] = Histogram(labels, tuple(round(bound * scale) for bound in row.buckets))
        return _Observed(totals[labels])

    def drop(self, part: _Part, share: Share, name: str, *, is_gone: bool) -> None:
        """A worker has a series no more: because it is gone everywhere, or because the worker is."""
        if isinstance(part, Gauge):
            part.values.pop(share, None)
            if not part.values:
                self._gauges[name].pop(part.labels, None)
            return
        part.total.owners -= 1
        if is_gone and not part.total.owners:
            totals = self._counters if isinstance(part, _Counted) else self._histograms
            totals[name].pop(part.total.labels, None)

    def forget_orphans(self) -> int:
        """Make room if there is too much; returns how many series went."""
        before = len(self)
        if before <= MAX_SERIES:
            return 0
        for kind in (self._counters, self._histograms):
            for totals in kind.values():
                _forget(totals)
        return before - len(self)


def _forget(totals: dict[bytes, Counter] | dict[bytes, Histogram]) -> None:
    for labels in [labels for labels, total in totals.items() if not total.owners]:
        del totals[labels]


class Share:
    """What one worker has told, from its start to its end."""

    def __init__(self, merged: Merged) -> None:
        self._merged = merged
        self._parts: dict[int, tuple[str, _Part]] = {}

    def take(self, piece: Piece) -> None:
        """A piece of a report; pieces must come in their order."""
        new, numbers, observed, gone = piece
        parts = self._parts
        for number, name, labels in new:
            part = self._merged.part(name, labels)
            if part is not None:
                parts[number] = (name, part)
        for number, value in numbers:
            _, part = parts.get(number, ("", None))
            if isinstance(part, _Counted):
                part.set(value)
            elif isinstance(part, Gauge):
                part.values[self] = value
        for number, counts, observed_sum, exemplars in observed:
            _, part = parts.get(number, ("", None))
            if isinstance(part, _Observed):
                part.set(counts, observed_sum, exemplars)
        self._drop(gone, is_gone=True)

    def leave(self) -> None:
        """The worker has ended, however: what it counted stays, what it had goes."""
        self._drop(list(self._parts), is_gone=False)

    def _drop(self, numbers: Iterable[int], *, is_gone: bool) -> None:
        for number in numbers:
            name, part = self._parts.pop(number, ("", None))
            if part is not None:
                self._merged.drop(part, self, name, is_gone=is_gone)
