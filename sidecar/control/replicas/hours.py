"""
The last hour at all replicas, by pairs of services and minutes of this one's clock. *On the loop, sums in a thread.*

A minute that is over does not change: it is asked for and put together once, and only what people see of it is kept,
in columns: three numbers for each of some thousand pairs, sixty times over, would be a quarter of a million objects.
Minutes of other clocks are moved by whole minutes, so what is at the edge of one may be told as of its neighbour.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final

from sidecar.control.calls.counted import Packed, Tally
from sidecar.control.calls.edges import HISTORY_MINUTES, MAX_EDGES, Edges, Pair
from sidecar.control.replicas.tallies import read_tallies
from sidecar.link.fields import MessageError

AT_ONCE: Final = 10
"""Minutes that are asked for at once: an answer stays within a few megabytes at 4,000 pairs."""
KEPT_S: Final = 600.0
"""Without anybody who looks."""
_ROUND: Final = 6
_NONE: Final = -1.0
"""Stands for a p99 where no request ended."""

Rows = list[tuple[tuple[str, ...], Tally]]
"""By caller, callee and minute."""


class _Brief:
    """A minute as people see it."""

    __slots__ = ("_failures", "_p99_s", "_pairs", "_requests")

    def __init__(self, tallies: Mapping[Pair, Tally]) -> None:
        self._pairs = tuple(tallies)
        self._requests = array("d", (one.requests for one in tallies.values()))
        self._failures = array("d", (one.failed for one in tallies.values()))
        p99s_s = (one.quantile(0.99) for one in tallies.values())
        self._p99_s = array("d", (_NONE if p99_s is None else round(p99_s, _ROUND) for p99_s in p99s_s))

    def rows(self) -> Iterator[tuple[Pair, int, int, float | None]]:
        """Each pair with requests, failures and p99 in seconds."""
        for pair, requests, failures, p99_s in zip(
            self._pairs, self._requests, self._failures, self._p99_s, strict=True
        ):
            yield pair, int(requests), int(failures), None if p99_s == _NONE else p99_s


class Hours:
    """
    Args:
        edges: What this replica's sidecars counted.
        now_s: Since the Unix epoch.
    """

    def __init__(self, edges: Edges, now_s: Callable[[], float]) -> None:
        self._edges = edges
        self._now_s = now_s
        self._known: dict[int, _Brief] = {}
        self._over: dict[int, frozenset[str]] = {}
        self._asked_s = 0.0

    def lacking(self, minutes: int, names: Collection[str]) -> list[tuple[int, int]]:
        """First and last of the minutes that are to be asked for, the newest first: those that lack one of these."""
        self._asked_s = self._now_s()
        wanted = self._range(minutes)
        for minute in self._known.keys() - set(range(wanted.stop - HISTORY_MINUTES, wanted.stop)):
            del self._known[minute]
            self._over.pop(minute, None)
        found: list[tuple[int, int]] = []
        for minute in reversed(wanted):
            over = self._over.get(minute)
            if over is not None and over.issuperset(names):
                continue
            if found and found[-1][0] == minute + 1 and found[-1][1] - minute < AT_ONCE:
                found[-1] = minute, found[-1][1]
            else:
                found.append((minute, minute))
        return found

    async def join(self, first: int, last: int, heard: Mapping[str, Rows]) -> None:
        """Put together what this replica and others know of these minutes."""
        now = int(self._now_s()) // 60
        own = self._edges.minutes(first, last)
        found = await asyncio.to_thread(_joined, own, heard.values())
        for minute in range(first, last + 1):
            self._known[minute] = found.get(minute, _NOTHING)
            # Of clocks that are not the same minute for minute, one may be a minute behind.
            if minute < now - 1:
                self._over[minute] = frozenset(heard)

    def told(self, minutes: int) -> dict[str, Any]:
        """For JSON, of what is known."""
        wanted = self._range(minutes)
        columns: dict[Pair, tuple[list[int], list[int], list[float | None]]] = {}
        for index, minute in enumerate(wanted):
            for pair, requests, failures, p99_s in self._known.get(minute, _NOTHING).rows():
                if pair not in columns:
                    columns[pair] = [0] * len(wanted), [0] * len(wanted), [None] * len(wanted)
                row = columns[pair]
                row[0][index], row[1][index], row[2][index] = requests, failures, p99_s
        edges = [
            {"from": pair[0], "to": pair[1], "requests": row[0], "failures": row[1], "p99_s": row[2]}
            for pair, row in sorted(columns.items(), key=itemgetter(0))
        ]
        return {"minutes": [minute * 60 for minute in wanted], "edges": edges}

    def sweep(self) -> None:
        """Let go of all if nobody looks; to be called now and then."""
        if abs(self._now_s() - self._asked_s) > KEPT_S:
            self._known.clear()
            self._over.clear()

    def _range(self, minutes: int) -> range:
        last = int(self._now_s()) // 60
        return range(last - max(1, min(minutes, HISTORY_MINUTES)) + 1, last + 1)


def read_rows(raw: bytes, moved: int) -> Rows:
    """
    What another replica knows, its minutes moved by so many.

    Raises:
        MessageError: It is not of this form.
    """
    rows: Rows = []
    for (caller, callee, said), tally in read_tallies(raw, 3, MAX_EDGES * AT_ONCE):
        if not (said.isascii() and said.isdigit() and len(said) < 12):
            raise MessageError("rows: expected a minute")
        rows.append(((caller, callee, str(int(said) + moved)), tally))
    return rows


def _joined(own: Mapping[int, Packed[Pair]], parts: Iterable[Rows]) -> dict[int, _Brief]:
    sums = {minute: dict(packed.tallies()) for minute, packed in own.items()}
    for rows in parts:
        for (caller, callee, minute), tally in rows:
            pairs = sums.setdefault(int(minute), {})
            known = pairs.get((caller, callee))
            if known is None:
                pairs[caller, callee] = tally
            else:
                known.merge(tally)
    return {minute: _Brief(tallies) for minute, tallies in sums.items()}


_NOTHING: Final = _Brief({})
