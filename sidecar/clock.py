"""The one place that asks what time it is, so that tests can hold the clock. *Hot path.*"""

from __future__ import annotations

import time
from collections.abc import Callable

monotonic_ns: Callable[[], int] = time.perf_counter_ns
"""Nanoseconds since an arbitrary point; for durations only."""

_WALL_OFFSET_NS = time.time_ns() - time.perf_counter_ns()


def wall_ns(monotonic: int) -> int:
    """
    Nanoseconds since the Unix epoch for a reading of `monotonic_ns`.

    The offset is taken again by `synchronise`, so that a span's start and end never disagree with each other
    while a stepped system clock is still followed within a minute.
    """
    return monotonic + _WALL_OFFSET_NS


def synchronise() -> None:
    """Take the offset between the two clocks again; called once a minute by the coarse timer."""
    global _WALL_OFFSET_NS
    _WALL_OFFSET_NS = time.time_ns() - monotonic_ns()
