"""Latencies by what happened meanwhile, and figures by size. *Pure.*"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.harness.figures import percentile

QUIET = "quiet"
Span = tuple[str, int, int]
"""What happened, and from when to when: nanoseconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Sent:
    """
    What one load of a fixed rate has seen.

    Attributes:
        latencies_s: By the order in which requests were due; NaN: failed.
        start_ns: When the first was due.
        period_ns: From one to the next.
    """

    latencies_s: Sequence[float]
    start_ns: int
    period_ns: int


class Happened:
    """Spans of time, the first of those that overlap counting: what is rarer is named first."""

    def __init__(self, spans: Iterable[Span], order: Sequence[str]) -> None:
        self._kinds = []
        for kind in order:
            found = sorted((begin, end) for name, begin, end in spans if name == kind)
            self._kinds.append((kind, [begin for begin, _ in found], [end for _, end in found]))

    def at(self, from_ns: int, to_ns: int) -> str:
        """What a request met that was due at the one moment and over at the other; `QUIET` if nothing."""
        for kind, begins, ends in self._kinds:
            place = bisect_right(begins, to_ns) - 1
            # Spans of one kind may overlap, but each ends after the one before it.
            if place >= 0 and ends[place] > from_ns:
                return kind
        return QUIET


def by_event(loads: Iterable[Sent], happened: Happened) -> dict[str, list[float]]:
    """Latencies of all loads by what they met, in seconds; a failure is NaN and met what its moment met."""
    found: dict[str, list[float]] = {}
    for load in loads:
        for number, latency_s in enumerate(load.latencies_s):
            due_ns = load.start_ns + number * load.period_ns
            lasted_ns = 0 if math.isnan(latency_s) else int(latency_s * 1e9)
            found.setdefault(happened.at(due_ns, due_ns + lasted_ns), []).append(latency_s)
    return found


def summary(latencies_s: Sequence[float]) -> dict[str, float]:
    """Requests, failures, and of those that were answered p50, p99 and the longest, in milliseconds."""
    answered = sorted(one * 1000 for one in latencies_s if not math.isnan(one))
    found: dict[str, float] = {"requests": len(latencies_s), "failed": len(latencies_s) - len(answered)}
    if answered:
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
            found[name] = round(percentile(answered, share), 2)
    return found


def spread_of(times_s: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, p99 and the longest of some times, in milliseconds; empty if there are none."""
    ordered = sorted(one * 1000 for one in times_s)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0} if ordered else {}
    return {name: round(percentile(ordered, share), digits) for name, share in shares.items()}


def growth(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """
    By which power of the size a figure grows, first to last: 0 not at all, 1 in proportion, 2 by the square.

    None where that is not to be said: fewer than two sizes, or a figure that is not positive.
    """
    if len(sizes) < 2 or sizes[0] == sizes[-1] or min(sizes[0], sizes[-1], values[0], values[-1]) <= 0:
        return None
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])
