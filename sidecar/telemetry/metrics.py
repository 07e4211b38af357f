"""
Counters and histograms as plain integers, found once and then only added to. *Hot path: `Counter`, `Histogram`.*

A child is looked up by its label values when an outcome is first seen; from then on recording is
`child.value += 1`. Children are never removed while the process lives, so no counter goes back at a reload.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Generic, TypeVar

from sidecar.telemetry import catalogue
from sidecar.telemetry.catalogue import Metric

KNOWN_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
"""RFC 9110, 9.3, and PATCH (RFC 5789): what OpenTelemetry's conventions call known."""
OTHER = "_OTHER"
"""What a label says that has no name for what came."""


def label_text(names: tuple[str, ...], values: tuple[str, ...]) -> bytes:
    """Labels as Prometheus' text format has them between the braces, in the order of their names."""
    pairs = sorted(zip(names, values, strict=True))
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs).encode("utf-8", "replace")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Counter:
    """
    One series that only grows.

    Attributes:
        labels: As `label_text`.
    """

    __slots__ = ("labels", "value")

    def __init__(self, labels: bytes) -> None:
        self.labels = labels
        self.value = 0

    def __repr__(self) -> str:
        return f"<Counter {self.labels.decode()} {self.value}>"


class Histogram:
    """
    One series of a histogram.

    Attributes:
        bounds_ns: Upper bounds, inclusive, in nanoseconds.
        counts: One more than there are bounds; of each bucket alone, not cumulative.
        labels: As `label_text`, never empty.
        sum_ns: Of all observations.
    """

    __slots__ = ("bounds_ns", "counts", "labels", "sum_ns")

    def __init__(self, labels: bytes, bounds_ns: tuple[int, ...]) -> None:
        self.labels = labels
        self.bounds_ns = bounds_ns
        self.counts = [0] * (len(bounds_ns) + 1)
        self.sum_ns = 0

    def observe(self, value_ns: int) -> None:
        """Add one observation."""
        self.counts[bisect_left(self.bounds_ns, value_ns)] += 1
        self.sum_ns += value_ns

    def __repr__(self) -> str:
        return f"<Histogram {self.labels.decode()} {sum(self.counts)} in {self.sum_ns / 1e9:.3f} s>"


Child = TypeVar("Child", Counter, Histogram)


class Family(Generic[Child]):
    """All series of one metric."""

    __slots__ = ("children", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.children: dict[tuple[str, ...], Child] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.metric.name} {len(self.children)} series>"

    def _new(self, labels: bytes) -> Child:
        raise NotImplementedError

    def child(self, *labels: str) -> Child:
        """
        The series with these label values, made if need be.

        Raises:
            ValueError: Not as many values as the metric has labels.
        """
        found = self.children.get(labels)
        if found is None:
            if len(labels) != len(self.metric.labels):
                raise ValueError(f"{self.metric.name}: expected {len(self.metric.labels)} labels, got {len(labels)}")
            found = self.children[labels] = self._new(label_text(self.metric.labels, labels))
        return found


class CounterFamily(Family[Counter]):
    """All series of one counter."""

    __slots__ = ()

    def _new(self, labels: bytes) -> Counter:
        return Counter(labels)


class HistogramFamily(Family[Histogram]):
    """All series of one histogram."""

    __slots__ = ("_bounds_ns",)

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric)
        self._bounds_ns = tuple(round(bound * 1e9) for bound in metric.buckets_s)

    def _new(self, labels: bytes) -> Histogram:
        return Histogram(labels, self._bounds_ns)


class RequestMetrics:
    """The families that exchanges are recorded in."""

    __slots__ = ("client_duration", "overhead", "requests", "server_duration")

    def __init__(self) -> None:
        self.requests = CounterFamily(catalogue.REQUESTS)
        self.server_duration = HistogramFamily(catalogue.SERVER_DURATION)
        self.client_duration = HistogramFamily(catalogue.CLIENT_DURATION)
        self.overhead = HistogramFamily(catalogue.OVERHEAD)


def method_label(method: bytes | None) -> str:
    """The method if it is known, else `_OTHER`; so too for a request that could not be parsed."""
    return method.decode("ascii") if method in KNOWN_METHODS and method is not None else OTHER


def code_label(status: int) -> str:
    """The status code if it is one, else `_OTHER`; an upstream may send 600 to 999, which mean nothing."""
    return str(status) if 100 <= status <= 599 else OTHER
