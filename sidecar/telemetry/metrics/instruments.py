"""
Counters and histograms as plain integers, found once and then only added to. *Hot path: `Counter`, `Histogram`.*

A child is looked up by its label values when an outcome is first seen; from then on recording is
`child.value += 1`. A child lives as long as a scope that owns it (`scope.Scope.own`), so no counter goes back at a
reload, and nothing stays for ever that a reload removed.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Generic, TypeVar

from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.catalogue import Metric

KNOWN_METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
)
"""RFC 9110, 9.3, and PATCH (RFC 5789): what OpenTelemetry's conventions call known."""
SCALES: Final = {"s": 1e9, "ms": 1e6, "By": 1.0}
"""Times are observed in nanoseconds, sizes in octets; how many of these make a metric's unit."""
OTHER: Final = "_OTHER"
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
        owners: How many scopes count here.
    """

    __slots__ = ("labels", "owners", "value")

    def __init__(self, labels: bytes) -> None:
        self.labels = labels
        self.owners = 0
        self.value = 0

    def __repr__(self) -> str:
        return f"<Counter {self.labels.decode()} {self.value}>"


Exemplar = tuple[bytes, bytes, int, int]
"""Trace id, span id, the value, and when the exchange was over by `clock.monotonic_ns`."""


class Histogram:
    """
    One series of a histogram.

    Attributes:
        bounds: Upper bounds, inclusive, in the unit of what is observed: nanoseconds or octets.
        counts: One more than there are bounds; of each bucket alone, not cumulative.
        exemplars: The last sampled request of each bucket; only requests' durations have them.
        labels: As `label_text`, never empty.
        owners: How many scopes observe here.
        sum: Of all observations.
    """

    __slots__ = ("bounds", "counts", "exemplars", "labels", "owners", "sum")

    def __init__(self, labels: bytes, bounds: tuple[int, ...]) -> None:
        self.labels = labels
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.owners = 0
        self.sum = 0

    def observe(self, value: int) -> None:
        """Add one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def __repr__(self) -> str:
        return f"<Histogram {self.labels.decode()} {sum(self.counts)} in {self.sum}>"


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

    def remove(self, *labels: str) -> None:
        """Forget a series; one that is not there is no error."""
        self.children.pop(labels, None)


class CounterFamily(Family[Counter]):
    """All series of one counter."""

    __slots__ = ()

    def _new(self, labels: bytes) -> Counter:
        return Counter(labels)


class HistogramFamily(Family[Histogram]):
    """
    All series of one histogram.

    Attributes:
        scale: What is observed, in the metric's unit: `NANO` for seconds.
    """

    __slots__ = ("_bounds", "scale")

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric)
        self.scale = SCALES[metric.unit]
        self._bounds = tuple(round(bound * self.scale) for bound in metric.buckets)

    def _new(self, labels: bytes) -> Histogram:
        return Histogram(labels, self._bounds)


class RequestMetrics:
    """The families that exchanges are recorded in."""

    __slots__ = (
        "authorization",
        "clear",
        "client_duration",
        "connect_duration",
        "grpc",
        "overhead",
        "request_bytes",
        "requests",
        "response_bytes",
        "retried",
        "retries",
        "retries_skipped",
        "secured",
        "server_duration",
        "unidentified",
    )

    def __init__(self) -> None:
        self.requests = CounterFamily(catalogue.REQUESTS)
        self.grpc = CounterFamily(catalogue.GRPC_REQUESTS)
        self.server_duration = HistogramFamily(catalogue.SERVER_DURATION)
        self.client_duration = HistogramFamily(catalogue.CLIENT_DURATION)
        self.request_bytes = CounterFamily(catalogue.REQUEST_BYTES)
        self.response_bytes = CounterFamily(catalogue.RESPONSE_BYTES)
        self.overhead = HistogramFamily(catalogue.OVERHEAD)
        self.retries = CounterFamily(catalogue.RETRIES)
        self.retried = CounterFamily(catalogue.RETRIED)
        self.retries_skipped = CounterFamily(catalogue.RETRIES_SKIPPED)
        self.connect_duration = HistogramFamily(catalogue.CONNECT_DURATION)
        self.authorization = CounterFamily(catalogue.AUTHORIZATION)
        self.unidentified = Counter(b"")
        self.secured = CounterFamily(catalogue.TLS_REQUESTS)
        self.clear = CounterFamily(catalogue.TLS_CLEAR_REQUESTS)


def method_label(method: bytes | None) -> str:
    """The method if it is known, else `_OTHER`; so too for a request that could not be parsed."""
    return method.decode("ascii") if method in KNOWN_METHODS and method is not None else OTHER


def code_label(status: int) -> str:
    """The status code if it is one, else `_OTHER`; an upstream may send 600 to 999, which mean nothing."""
    return str(status) if 100 <= status <= 599 else OTHER
