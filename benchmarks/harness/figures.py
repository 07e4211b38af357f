"""Medians, spreads, ratios and percentiles. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range that it stands in."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """
        Raises:
            ValueError: There are no values.
        """
        if not values:
            raise ValueError("no values; expected at least one")
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        dash = " to " if self.low < 0 else "-"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}{dash}{self.high:.{digits}f})"


def ratio(mine: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """
    One figure against another, by number of round: within a round first, so that what slowed both cancels.

    Returns:
        None if no round has both, or what is divided by is 0 in all of them.
    """
    pairs = [value / theirs[number] for number, value in mine.items() if theirs.get(number)]
    return Spread.of(pairs) if pairs else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """
    The smallest value that at least `share` of all do not exceed (nearest rank).

    Args:
        ordered: Ascending, none of them NaN, at least one.
        share: 0 < share <= 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """
    p50 to p99.9 and the maximum in milliseconds, of latencies that count from when each request was due.

    A failed request (NaN) has no latency and is left out here: it is counted as failed. One that was not answered in
    the end is in, with the time it had waited, for to leave out the slowest is what these percentiles are not to do.
    """
    ordered = sorted(each * 1000 for each in latencies_s if not math.isnan(each))
    if not ordered:
        return {}
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {name: round(percentile(ordered, share), 4) for name, share in shares.items()}
