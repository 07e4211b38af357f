"""
What a worker tells its supervisor about its numbers: only what changed, in pieces that take microseconds. *Cold.*

Each series gets a number when it is first told about, and from then on is called by it, so that a report of 2,000
routes of which ten had traffic is ten numbers long. `merge` has the other end. Whoever sends a report walks it:

    for piece in reporter.pieces():
        if piece is not None: send it
        give way to others every millisecond
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecar.telemetry.metrics.exposition import Histograms, Numbers, Section
from sidecar.telemetry.metrics.instruments import Exemplar

Observed = tuple[int, list[int], int, dict[int, Exemplar]]
"""Number of a series, counts of its buckets, sum, exemplars."""

Piece = tuple[list[tuple[int, str, bytes]], list[tuple[int, float]], list[Observed], list[int]]
"""New series by number, metric and labels; numbers; histograms; series that are gone. What `marshal` can write."""

_STEP = 64
"""Series between two moments to give way; about 30 us."""
_PIECE = 512
"""Changes that are sent together; some 20 KiB."""

_NEVER: list[int] = []


class _Known:
    """A series as it was last told about."""

    __slots__ = ("counts", "number", "seen", "total")

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.total: float | None = None
        self.counts = _NEVER


class Reporter:
    """
    One end of one report after the other.

    Args:
        sections: All that a scrape would see; rows that are the supervisor's own are left out.
    """

    def __init__(self, sections: Callable[[], Iterator[Section]]) -> None:
        self._sections = sections
        self._known: dict[str, dict[bytes, _Known]] = {}
        self._passes = 0
        self._next = 0
        self._new: list[tuple[int, str, bytes]] = []
        self._numbers: list[tuple[int, float]] = []
        self._observed: list[Observed] = []
        self._gone: list[int] = []

    def pieces(self) -> Iterator[Piece | None]:
        """What changed since the last report; None is a moment to give way. Walk it to its end before the next."""
        self._passes += 1
        visited = set()
        for section in self._sections():
            yield None
            if section is None or section.row.merge == "own":
                continue
            visited.add(section.row.name)
            steps = self._number_steps(section) if isinstance(section, Numbers) else self._histogram_steps(section)
            for _ in steps:
                yield self._piece(_PIECE)
        for name in self._known.keys() - visited:
            self._gone += [known.number for known in self._known.pop(name).values()]
        while (piece := self._piece(1)) is not None:
            yield piece

    def _number_steps(self, section: Numbers) -> Iterator[None]:
        row, count = self._known.setdefault(section.row.name, {}), 0
        for labels, value in section.series:
            count += 1
            known = row.get(labels) or self._begin(row, section.row.name, labels)
            known.seen = self._passes
            if known.total != value:
                known.total = value
                self._numbers.append((known.number, value))
            if not count % _STEP:
                yield
        yield from self._forget(row, count)

    def _histogram_steps(self, section: Histograms) -> Iterator[None]:
        row, count = self._known.setdefault(section.row.name, {}), 0
        for child in section.children:
            count += 1
            known = row.get(child.labels) or self._begin(row, section.row.name, child.labels)
            known.seen = self._passes
            if known.total != child.sum or known.counts != child.counts:
                known.total, known.counts = child.sum, child.counts[:]
                self._observed.append((known.number, known.counts, child.sum, dict(child.exemplars)))
            if not count % _STEP:
                yield
        yield from self._forget(row, count)

    def _begin(self, row: dict[bytes, _Known], name: str, labels: bytes) -> _Known:
        known = row[labels] = _Known(self._next)
        self._new.append((self._next, name, labels))
        self._next += 1
        return known

    def _forget(self, row: dict[bytes, _Known], count: int) -> Iterator[None]:
        """Find what was not there this time, if anything was not."""
        if count < len(row):
            for labels in [labels for labels, known in row.items() if known.seen != self._passes]:
                self._gone.append(row.pop(labels).number)
        yield

    def _piece(self, least: int) -> Piece | None:
        """What there is to tell, if it is so much; in order: a series is new before it has a number."""
        if len(self._numbers) + len(self._observed) + len(self._gone) < least:
            return None
        piece = (self._new, self._numbers, self._observed, self._gone)
        self._new, self._numbers, self._observed, self._gone = [], [], [], []
        return piece
