"""What the webhook counts, and how it is told to a scraper: by prometheus-client, as the control plane's. *Cold.*"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.inject.objects import Verdict
from sidecar.process_log import losses

DECISIONS: Final = (*(one.value for one in Verdict if one is not Verdict.NOT_OURS), "denied", "ignored")
_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Counts:
    """
    Metrics, each series there from the start, so that a rate of the first one is one.

    Args:
        connections: Counted by what became of them.
        endings: When each certificate that we hold ends, in seconds since the Unix epoch.
        is_believed: Whether the API is told whom to believe; None: nobody looks.
    """

    def __init__(
        self,
        connections: Callable[[], Mapping[str, int]],
        endings: Callable[[], Mapping[str, float]],
        is_believed: Callable[[], bool | None],
    ) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._grown = _Grown(dict.fromkeys(DECISIONS, 0))
        self._registry.register(self._grown)
        self._registry.register(_State(connections, endings, is_believed))

    def decided(self, decision: str, duration_s: float) -> None:
        """A review was answered."""
        grown = self._grown
        grown.reviews[decision] += 1
        grown.buckets[bisect_left(_BUCKETS, duration_s)] += 1
        grown.sum_s += duration_s

    def refused(self, status: int) -> None:
        """A request was not."""
        self._grown.refused[str(status)] += 1

    def written(self, accept: str) -> tuple[bytes, str]:
        """The exposition, in a form that the scraper takes, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


@dataclass(slots=True, eq=False)
class _Grown(Collector):
    """What grows, in plain numbers; `buckets` has durations by the first limit that they do not exceed."""

    reviews: dict[str, int]
    refused: Counter[str] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    sum_s: float = 0.0

    def describe(self) -> list[Metric]:
        """As of `_State`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        yield _counters("reviews", "Reviews by what was decided.", "decision", self.reviews)
        yield _counters("refused", "Requests that could not be answered, by status.", "status", self.refused)
        limits = (*map(str, _BUCKETS), "+Inf")
        yield HistogramMetricFamily(
            "sidecar_webhook_review_duration_seconds", "From the request's head to its answer.",
            buckets=list(zip(limits, accumulate(self.buckets), strict=True)), sum_value=self.sum_s,
        )  # fmt: skip


class _State(Collector):
    def __init__(
        self,
        connections: Callable[[], Mapping[str, int]],
        endings: Callable[[], Mapping[str, float]],
        is_believed: Callable[[], bool | None],
    ) -> None:
        self._connections = connections
        self._endings = endings
        self._is_believed = is_believed

    def describe(self) -> list[Metric]:
        """Nothing: what there is, is found by collecting."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        yield InfoMetricFamily("sidecar_webhook", "The webhook.", value={"release": __version__})
        believed = self._is_believed()
        if believed is not None:
            yield GaugeMetricFamily(
                "sidecar_webhook_ca_bundle_ok",
                "1 if the API is told to believe our certificates, 0 if not.",
                value=float(believed),
            )
        ends = GaugeMetricFamily(
            "sidecar_webhook_certificate_expiry_timestamp_seconds", "When a certificate ends.", labels=("which",)
        )
        for which, end_s in self._endings().items():
            ends.add_metric((which,), end_s)
        yield ends
        yield _counters("connections", "Connections by what became of them.", "kind", self._connections())
        yield _counters("log_lines_dropped", "Lines of logs that were not written.", "reason", losses())


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"sidecar_webhook_{name}", text, labels=(label,))
    for value, number in sorted(values.items()):
        family.add_metric((value,), number)
    return family
