"""
What happened between two scrapes: rates, success and latency by route and upstream. *Pure.*

Everything is computed here, from the text that Prometheus would read, so that looking costs the sidecar one scrape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]

REQUESTS = "sidecar_requests_total"
CALLS = "sidecar_grpc_requests_total"
OVERHEAD = "sidecar_overhead_seconds"
DURATIONS = {"http_server_request_duration_seconds": "inbound", "http_client_request_duration_seconds": "outbound"}
_GAUGES = (
    "sidecar_build_info", "sidecar_config_info", "sidecar_config_last_reload_successful",
    "sidecar_downstream_connections_active", "sidecar_upstream_requests_active", "process_start_time_seconds",
    "target_info",
)  # fmt: skip
_LOSSES = ("sidecar_spans_dropped_total", "sidecar_log_lines_dropped_total")
_READ = (REQUESTS, CALLS, OVERHEAD, *DURATIONS, *_GAUGES, *_LOSSES)

_CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One scrape.

    Attributes:
        time_s: When, by a monotonic clock.
        samples: Value by sample name and sorted labels.
    """

    time_s: float
    samples: Mapping[str, Mapping[Labels, float]]

    def single(self, name: str) -> float | None:
        """The value of a metric without labels."""
        return next(iter(self.samples.get(name, {}).values()), None)

    def total(self, name: str) -> float:
        """Sum of all series of a metric."""
        return sum(self.samples.get(name, {}).values())

    def label(self, name: str, label: str) -> str:
        """A label of the first series of an info metric, or empty."""
        return next((dict(labels).get(label, "") for labels in self.samples.get(name, {})), "")


@dataclass(slots=True)
class Flow:
    """
    Requests of one kind within an interval.

    Attributes:
        requests: How many ended.
        failed: Of those with a status of 500 or more; calls of gRPC count here, and below, by the one that stands for
            how they ended.
        refused: Of those with a status from 400 to 498.
        left: Of those whose client left before the end, 499.
        calls: Those that were calls of gRPC, by the name of their status.
        buckets: Cumulative count by upper bound in seconds, +Inf the last; empty if latency is not known by this kind.
    """

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    left: float = 0.0
    calls: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)

    @property
    def success(self) -> float | None:
        """Share of requests that did not fail, 0 to 1; None if there was none."""
        # A call may have ended between the two lines of a scrape that tell of it.
        return None if not self.requests else 1 - min(1.0, self.failed / self.requests)

    def quantile(self, share: float) -> float | None:
        """Latency in seconds; None where it is not known."""
        value = quantile(share, self.buckets.items())
        return None if math.isnan(value) else value

    def add(self, code: str, count: float) -> None:
        """Count requests that ended with this status."""
        self.requests += count
        self._judge(code, count)

    def add_calls(self, code: str, counts_as: str, grpc_status: str, count: float) -> None:
        """Count calls of gRPC, which are requests with this status of HTTP, as what they came to."""
        if not count:
            return
        self.calls[grpc_status] = self.calls.get(grpc_status, 0.0) + count
        if counts_as != code:
            self._judge(counts_as, count)

    def _judge(self, code: str, count: float) -> None:
        status = int(code) if code.isdigit() else 0
        if status >= 500:
            self.failed += count
        elif status == _CLIENT_LEFT:
            self.left += count
        elif status >= 400:
            self.refused += count


@dataclass(frozen=True, slots=True)
class Interval:
    """
    Between two scrapes.

    Attributes:
        seconds: Its length.
        totals: By direction.
        routes: By direction and route; the route is empty for requests that reached none.
        upstreams: By direction, route and upstream; without latency if the sidecar does not tell it by upstream.
        overhead: What the sidecar added, all directions.
        losses: Telemetry that was lost, by metric.
        now: The later scrape.
    """

    seconds: float
    totals: Mapping[str, Flow]
    routes: Mapping[tuple[str, str], Flow]
    upstreams: Mapping[tuple[str, str, str], Flow]
    overhead: Flow
    losses: Mapping[str, float]
    now: Snapshot


def read(text: str, time_s: float) -> Snapshot:
    """
    A scrape's text, of which only what is needed is parsed: a line of others costs a comparison.

    Raises:
        ValueError: It is not Prometheus' text format.
    """
    kept = "\n".join(line for line in text.splitlines() if line.startswith(_READ)) + "\n"
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(kept):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            samples.setdefault(sample.name, {})[labels] = float(sample.value)
    return Snapshot(time_s, samples)


def between(earlier: Snapshot, later: Snapshot) -> Interval:
    """What happened from `earlier` to `later`, a sidecar's restart included."""
    totals: dict[str, Flow] = {}
    routes: dict[tuple[str, str], Flow] = {}
    upstreams: dict[tuple[str, str, str], Flow] = {}

    def flows_of(labels: Mapping[str, str]) -> tuple[Flow, Flow, Flow]:
        direction, route, upstream = labels["direction"], labels.get("route", ""), labels.get("upstream", "")
        return (
            totals.setdefault(direction, Flow()),
            routes.setdefault((direction, route), Flow()),
            upstreams.setdefault((direction, route, upstream), Flow()),
        )

    for labels, count in _increases(earlier, later, REQUESTS):
        for flow in flows_of(labels):
            flow.add(labels.get("code", ""), count)
    for labels, count in _increases(earlier, later, CALLS):
        code = labels.get("code", "")
        for flow in flows_of(labels):
            flow.add_calls(code, labels.get("counts_as", code), labels.get("grpc_status", ""), count)
    for metric, direction in DURATIONS.items():
        for labels, count in _increases(earlier, later, metric + "_bucket"):
            route, bound = labels.get("route", labels.get("http_route", "")), float(labels["le"])
            _observe(totals.setdefault(direction, Flow()), bound, count)
            _observe(routes.setdefault((direction, route), Flow()), bound, count)
            if "upstream" in labels:
                _observe(upstreams.setdefault((direction, route, labels["upstream"]), Flow()), bound, count)
    _share_latency(routes, upstreams)
    overhead = Flow()
    for labels, count in _increases(earlier, later, OVERHEAD + "_bucket"):
        _observe(overhead, float(labels["le"]), count)
    losses = {name: sum(count for _, count in _increases(earlier, later, name)) for name in _LOSSES}
    return Interval(later.time_s - earlier.time_s, totals, routes, upstreams, overhead, losses, later)


def _observe(flow: Flow, bound: float, count: float) -> None:
    flow.buckets[bound] = flow.buckets.get(bound, 0.0) + count


def _share_latency(routes: Mapping[tuple[str, str], Flow], upstreams: Mapping[tuple[str, str, str], Flow]) -> None:
    """A route's latency is that of its only upstream."""
    for (direction, name), route in routes.items():
        own = [flow for key, flow in upstreams.items() if key[:2] == (direction, name)]
        if len(own) == 1 and not own[0].buckets:
            own[0].buckets = route.buckets


def _increases(earlier: Snapshot, later: Snapshot, name: str) -> Iterable[tuple[dict[str, str], float]]:
    before = earlier.samples.get(name, {})
    for labels, value in later.samples.get(name, {}).items():
        increase = value - before.get(labels, 0.0)
        # A counter that went back began anew, as Prometheus' rate() has it.
        yield dict(labels), value if increase < 0 else increase


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float:
    """
    A quantile of a histogram as Prometheus' `histogram_quantile` gives it: linear within the bucket, the first of
    which begins at 0, and never above the highest finite bound.

    Args:
        share: From 0 to 1.
        buckets: Upper bounds with cumulative counts, the last +Inf.

    Returns:
        NaN if there is no observation.
    """
    ordered = sorted(buckets)
    if len(ordered) < 2 or not math.isinf(ordered[-1][0]) or ordered[-1][1] <= 0:
        return math.nan
    rank = share * ordered[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= rank:
            if math.isinf(bound):
                return ordered[-2][0]
            return lower if count <= below else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, max(below, count)
    return ordered[-2][0]
