"""
What upstreams counted, read from them at each scrape; those that a reload removed are shown for a while yet. *Cold.*
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from sidecar import clock
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.catalogue import Metric
from sidecar.telemetry.metrics.exposition import Numbers, Samples, Section, histograms_of
from sidecar.telemetry.metrics.instruments import HistogramFamily, label_text


class StatsLike(Protocol):
    """
    Counters of one upstream; `upstream.stats` owns the class and says what each means.

    Those that are read are named in `ROWS`; they are integers, but for one.
    """

    @property
    def connections_opened(self) -> int: ...
    @property
    def connections_closed(self) -> int: ...
    @property
    def connections_closed_by(self) -> Mapping[str, int]: ...


class SharedLike(Protocol):
    """Connections that many requests share; `upstream.endpoint` owns the class."""

    def counts(self) -> tuple[int, int, int]: ...


class PooledLike(Protocol):
    """One endpoint's pool; `upstream.endpoint` owns the class."""

    @property
    def idle(self) -> Sequence[object]: ...
    @property
    def shared(self) -> SharedLike | None: ...


class ClusterLike(Protocol):
    """One upstream; `upstream.cluster` owns the class."""

    @property
    def name(self) -> str: ...
    @property
    def stats(self) -> StatsLike: ...
    @property
    def endpoints(self) -> Sequence[PooledLike]: ...


Labelled = tuple[str, float]
"""The value of a row's label beside `upstream`, empty where there is none, and a number."""


def _one(attribute: str) -> Callable[[ClusterLike], Iterable[Labelled]]:
    return lambda cluster: (("", getattr(cluster.stats, attribute)),)


def _by_label(**attributes: str) -> Callable[[ClusterLike], Iterable[Labelled]]:
    pairs = list(attributes.items())
    return lambda cluster: [(value, getattr(cluster.stats, attribute)) for value, attribute in pairs]


def _by_prefix(prefix: str, but: Sequence[str] = ()) -> Callable[[ClusterLike], Iterable[Labelled]]:
    """
    A counter for each cause, whose name ends in the cause, as `upstream.stats` has them.

    Causes that never came up are left out: most upstreams never see any.
    """
    pairs: list[tuple[str, str]] = []

    def read(cluster: ClusterLike) -> Iterable[Labelled]:
        if not pairs:
            causes = [name.removeprefix(prefix) for name in sorted(dir(cluster.stats)) if name.startswith(prefix)]
            pairs.extend((cause, prefix + cause) for cause in causes if cause not in but)
        return [(cause, value) for cause, attribute in pairs if (value := getattr(cluster.stats, attribute))]

    return read


def _checks(cluster: ClusterLike) -> Iterable[Labelled]:
    total, failed = _read(cluster, "health_checks"), _read(cluster, "health_check_failures")
    return (("success", total - failed), ("failure", failed))


def _shared(which: int) -> Callable[[ClusterLike], Iterable[Labelled]]:
    """One of the counts of shared connections, of an upstream that has had any: most speak HTTP/1.1."""

    def read(cluster: ClusterLike) -> Iterable[Labelled]:
        counts = [endpoint.shared.counts()[which] for endpoint in cluster.endpoints if endpoint.shared is not None]
        return (("", sum(counts)),) if counts else ()

    return read


def _read(cluster: ClusterLike, attribute: str) -> int:
    value: int = getattr(cluster.stats, attribute)
    return value


ROWS: tuple[tuple[Metric, Callable[[ClusterLike], Iterable[Labelled]]], ...] = (
    (catalogue.UPSTREAM_REQUESTS, _one("requests")),
    (catalogue.UPSTREAM_REQUESTS_ACTIVE, _one("requests_active")),
    (catalogue.UPSTREAM_REQUESTS_PENDING, _one("pending")),
    (catalogue.UPSTREAM_PENDING_TIMEOUTS, _one("pending_timeouts")),
    (catalogue.UPSTREAM_RESETS, _one("resets")),
    (catalogue.UPSTREAM_OPENED, _one("connections_opened")),
    (
        catalogue.UPSTREAM_CLOSED,
        lambda cluster: cluster.stats.connections_closed_by.items(),
    ),
    (catalogue.UPSTREAM_REUSED, _one("connections_reused")),
    (catalogue.UPSTREAM_FAILED, _by_label(failed="connect_failures", timeout="connect_timeouts")),
    (catalogue.UPSTREAM_UNRESOLVED, _by_prefix("resolve_failures_")),
    (catalogue.UPSTREAM_IDLE, lambda cluster: [("", sum(len(endpoint.idle) for endpoint in cluster.endpoints))]),
    (catalogue.UPSTREAM_SHARED, _shared(0)),
    (catalogue.UPSTREAM_STREAMS, _shared(1)),
    (catalogue.UPSTREAM_ENDPOINTS, lambda cluster: [("", len(cluster.endpoints))]),
    (catalogue.UPSTREAM_EJECTED, _one("ejected")),
    (catalogue.UPSTREAM_UNHEALTHY, _one("unhealthy")),
    (catalogue.UPSTREAM_EJECTIONS, _by_prefix("ejections_", but=("prevented",))),
    (catalogue.UPSTREAM_EJECTIONS_PREVENTED, _one("ejections_prevented")),
    (catalogue.UPSTREAM_HEALTH_CHECKS, _checks),
    (catalogue.UPSTREAM_PANIC, _one("panic")),
    (catalogue.UPSTREAM_PANICS, _one("panics")),
    (catalogue.UPSTREAM_OVERFLOWS, _by_prefix("overflow_")),
    (catalogue.UPSTREAM_CONCURRENCY_LIMIT, _one("concurrency_limit")),
    (catalogue.MIRROR_SKIPPED, _by_prefix("mirror_skipped_")),
    (catalogue.DNS_LOOKUPS, _by_label(success="dns_successes", failure="dns_failures")),
    (catalogue.DNS_TIME, _one("dns_last_success")),
    (catalogue.DISCOVERIES, _by_label(success="discovery_updates", failure="discovery_failures")),
    (catalogue.DISCOVERY_TIME, _one("discovery_last_success")),
)
"""Every metric that is read from upstreams, and how."""


def _samples(
    row: Metric, read: Callable[[ClusterLike], Iterable[Labelled]], clusters: list[tuple[bytes, ClusterLike]]
) -> Samples:
    """One row of all upstreams; each name is escaped once a scrape, each other label's value once a row."""
    if len(row.labels) == 1:
        for name, cluster in clusters:
            for _, value in read(cluster):
                yield name, value
        return
    # Labels stand in the order of their names, and every other one comes before `upstream`.
    label = row.labels[1]
    before: dict[str, bytes] = {}
    for name, cluster in clusters:
        for text, value in read(cluster):
            if text not in before:
                before[text] = label_text((label,), (text,)) + b","
            yield before[text] + name, value


class Upstreams:
    """
    The upstreams that a scrape shows.

    Args:
        clusters: Those of the live configuration, at any moment.
        connect_duration: Observed by upstream; its series go when their upstream's do.
        grace_ns: How long one is shown after a reload removed it.
    """

    def __init__(
        self, clusters: Callable[[], Iterable[ClusterLike]], connect_duration: HistogramFamily, grace_ns: int
    ) -> None:
        self._clusters = clusters
        self._connect_duration = connect_duration
        self._grace_ns = grace_ns
        self._known: dict[str, ClusterLike] = {}
        self._leaving: dict[str, tuple[ClusterLike, int]] = {}

    def settle(self) -> None:
        """A configuration is live, perhaps with other upstreams."""
        now = clock.monotonic_ns()
        before, self._known = self._known, {cluster.name: cluster for cluster in self._clusters()}
        for name in before.keys() - self._known.keys():
            self._leaving[name] = (before[name], now + self._grace_ns)
        for name in [name for name, (_, deadline) in self._leaving.items() if deadline <= now or name in self._known]:
            del self._leaving[name]
        shown = self._known.keys() | self._leaving.keys()
        for (name,) in list(self._connect_duration.children):
            if name not in shown:
                self._connect_duration.remove(name)

    def shown(self) -> list[ClusterLike]:
        """The live ones, and those that went lately."""
        now = clock.monotonic_ns()
        live = {cluster.name: cluster for cluster in self._clusters()}
        late = [cluster for name, (cluster, deadline) in self._leaving.items() if name not in live and deadline > now]
        return [*live.values(), *late]

    def sections(self) -> Iterator[Section]:
        """All their series."""
        clusters: list[tuple[bytes, ClusterLike]] = []
        for cluster in self.shown():
            clusters.append((label_text(("upstream",), (cluster.name,)), cluster))
            if not len(clusters) % 256:
                yield None
        for row, read in ROWS:
            yield Numbers(row, _samples(row, read, clusters))
        yield histograms_of(self._connect_duration)
