"""
What a scrape sees: the catalogue's rows filled from plain integers, in Prometheus' text format. *Cold.*

prometheus-client writes the text; a collector of our own reads the numbers, so that recording never touches its
locks and floats.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Exposed
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.telemetry import catalogue
from sidecar.telemetry.metrics import CounterFamily, HistogramFamily


class StatsLike(Protocol):
    """Counters of one upstream; `upstream.cluster` owns the class."""

    @property
    def connections_opened(self) -> int: ...
    @property
    def connections_closed(self) -> int: ...
    @property
    def connections_reused(self) -> int: ...
    @property
    def connect_failures(self) -> int: ...
    @property
    def connect_timeouts(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def requests_active(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def resets(self) -> int: ...


class PooledLike(Protocol):
    """One endpoint's pool; `upstream.endpoint` owns the class."""

    @property
    def idle(self) -> Sequence[object]: ...


class ClusterLike(Protocol):
    """One upstream; `upstream.cluster` owns the class."""

    @property
    def name(self) -> str: ...
    @property
    def stats(self) -> StatsLike: ...
    @property
    def endpoints(self) -> Sequence[PooledLike]: ...


_UPSTREAM_STATS = (
    (catalogue.UPSTREAM_REQUESTS, "requests"),
    (catalogue.UPSTREAM_REQUESTS_ACTIVE, "requests_active"),
    (catalogue.UPSTREAM_REQUESTS_PENDING, "pending"),
    (catalogue.UPSTREAM_RESETS, "resets"),
    (catalogue.UPSTREAM_OPENED, "connections_opened"),
    (catalogue.UPSTREAM_CLOSED, "connections_closed"),
    (catalogue.UPSTREAM_REUSED, "connections_reused"),
    (catalogue.UPSTREAM_FAILED, "connect_failures"),
    (catalogue.UPSTREAM_TIMED_OUT, "connect_timeouts"),
)
BUILD_LABELS = (__version__, ".".join(map(str, sys.version_info[:3])))

Values = Iterable[tuple[tuple[str, ...], float]]


def values(row: catalogue.Metric, series: Values) -> Exposed:
    """A counter or gauge with its series, each label values and a number."""
    exposed = Exposed(row.name.removesuffix("_total") if row.type == "counter" else row.name, row.help, row.type)
    for labels, value in series:
        exposed.add_sample(row.name, dict(zip(row.labels, labels, strict=True)), value)
    return exposed


def counters(family: CounterFamily) -> Exposed:
    """All series of a counter."""
    return values(family.metric, [(labels, child.value) for labels, child in list(family.children.items())])


def histograms(family: HistogramFamily) -> Exposed:
    """All series of a histogram, cumulative as Prometheus wants them."""
    row = family.metric
    exposed = Exposed(row.name, row.help, "histogram")
    bounds = [str(bound) for bound in row.buckets_s] + ["+Inf"]
    for values_, child in list(family.children.items()):
        labels = dict(zip(row.labels, values_, strict=True))
        total = 0
        for bound, count in zip(bounds, child.counts, strict=True):
            total += count
            exposed.add_sample(row.name + "_bucket", labels | {"le": bound}, total)
        exposed.add_sample(row.name + "_count", labels, total)
        exposed.add_sample(row.name + "_sum", labels, child.sum_ns / 1e9)
    return exposed


def upstreams(clusters: Iterable[ClusterLike]) -> Iterator[Exposed]:
    """What the upstreams counted, read at this moment."""
    found = list(clusters)
    for row, attribute in _UPSTREAM_STATS:
        yield values(row, [((cluster.name,), getattr(cluster.stats, attribute)) for cluster in found])
    idle = [((cluster.name,), sum(len(endpoint.idle) for endpoint in cluster.endpoints)) for cluster in found]
    yield values(catalogue.UPSTREAM_IDLE, idle)
    yield values(catalogue.UPSTREAM_ENDPOINTS, [((cluster.name,), len(cluster.endpoints)) for cluster in found])


def target_info(attributes: Mapping[str, str]) -> Exposed:
    """The resource's own attributes as labels; absent ones are empty."""
    names = ("service.name", "service.namespace", "service.version", "service.instance.id")
    return values(catalogue.TARGET_INFO, [(tuple(attributes.get(name, "") for name in names), 1)])


class _Process:
    """What prometheus-client knows about the process and the interpreter, without its global registry."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.registry = registry


_process = _Process()


class _Families(Collector):
    def __init__(self, families: Iterable[Exposed]) -> None:
        self._families = families

    def collect(self) -> Iterable[Exposed]:
        return self._families


def render(families: Iterable[Exposed]) -> bytes:
    """The text of the given families, then of the process's own."""
    return generate_latest(_Families(families)) + generate_latest(_process.registry)
