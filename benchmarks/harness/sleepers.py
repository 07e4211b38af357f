"""The control of latencies: a process on each core that does nothing but sleep, before all others (`sleeper.py`)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .site import HERE


@dataclass(slots=True)
class Stalls:
    """
    When a core did not run what may always run: the machine's own doing, as nanoseconds of the monotonic clock.

    Attributes:
        spans: From and to, in order, none overlapping.
        is_first: Whether the sleepers were before all others; if not, the spans say nothing of the machine.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    is_first: bool = False

    @classmethod
    def of(cls, late: Sequence[tuple[int, int]], *, is_first: bool = True) -> Stalls:
        """Of wakings, each when it was due and how much later it came, of all cores."""
        merged: list[tuple[int, int]] = []
        for due, by in sorted(late):
            if merged and due <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], due + by))
            else:
                merged.append((due, due + by))
        return cls(merged, is_first)

    def touch(self, from_ns: float, to_ns: float) -> bool:
        """Whether any lies in between, or in part."""
        place = bisect_right(self.spans, (to_ns, float("inf"))) - 1
        return place >= 0 and self.spans[place][1] > from_ns

    def longest_ms(self) -> float:
        """0 if there was none."""
        return max((to - begin for begin, to in self.spans), default=0) / 1e6


@contextlib.contextmanager
def sleepers(cores: Sequence[int]) -> Iterator[Stalls]:
    """While they sleep, on each of these cores; what they found is known when it is over."""
    argv = [sys.executable, str(HERE / "sleeper.py")]
    processes = [subprocess.Popen([*argv, str(core)], stdout=subprocess.PIPE, text=True) for core in cores]
    found = Stalls()
    late: list[tuple[int, int]] = []
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            out, _ = process.communicate(timeout=10)
            report = json.loads(out)
            found.is_first = bool(report["is_first"])
            late += [(due, by) for due, by in report["late"]]
        found.spans = Stalls.of(late).spans
