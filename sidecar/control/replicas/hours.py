"""
The last hour at all replicas, by pairs of services and minutes of this one's clock. *On the loop, sums in a thread.*

A minute that is over does not change: it is asked for and put together once, and only what people see of it is kept,
in columns: three numbers for each of some thousand pairs, sixty times over, would be a quarter of a million objects.
Minutes of other clocks are moved by whole minutes, so what is at the edge of one may be told as of its neighbour.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

from sidecar.control.calls.counted import Packed, Tally
from sidecar.control.calls.edges import HISTORY_MINUTES, MAX_EDGES, Edges, Pair
from sidecar.control.replicas.tallies import read_tallies
from sidecar.link.fields import MessageError, decode

AT_ONCE: Final = 10
"""Minutes that are asked for at once: an answer stays within a few megabytes at 4,000 pairs."""
KEPT_S: Final = 600.0
"""Without anybody who looks."""
_ROUND: Final = 6
_NONE: Final = -1.0
"""Stands for a p99 where no request ended."""

Row = tuple[tuple[str, ...], Tally]
"""By caller, callee and minute."""


class Rows(NamedTuple):
    """Of another replica: what callers told, and what those told that were asked (`Edges.asked_minutes`)."""

    told: list[Row]
    asked: list[Row]


class _Brief:
    """A minute as people see it."""

    __slots__ = ("_failures", "_p99_s", "_pairs", "_requests")

    def __init__(self, tallies: Mapping[Pair, Tally], failures_of: Callable[[Tally], int]) -> None:
        self._pairs = tuple(tallies)
        self._requests = array("d", (one.requests for one in tallies.values()))
        self._failures = array("d", map(failures_of, tallies.values()))
        p99s_s = (one.quantile(0.99) for one in tallies.values())
        self._p99_s = array("d", (_NONE if p99_s is None else round(p99_s, _ROUND) for p99_s in p99s_s))

    def rows(self) -> Iterator[tuple[Pair, int, int, float | None]]:
        """Each pair with requests, failures and p99 in seconds."""
        for pair, requests, failures, p99_s in zip(
            self._pairs, self._requests, self._failures, self._p99_s, strict=True
        ):
            yield pair, int(requests), int(failures), None if p99_s == _NONE else p99_s


class _Minute(NamedTuple):
    """What callers told of it, and beside that those that were asked."""

    told: _Brief
    asked: _Brief


class Hours:
    """
    Args:
        edges: What this replica's sidecars counted.
        now_s: Since the Unix epoch.
    """

    def __init__(self, edges: Edges, now_s: Callable[[], float]) -> None:
        self._edges = edges
        self._now_s = now_s
        self._known: dict[int, _Minute] = {}
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
        own = self._edges.minutes(first, last), self._edges.asked_minutes(first, last)
        rows = [one.told for one in heard.values()], [one.asked for one in heard.values()]
        told = await asyncio.to_thread(_joined, own[0], rows[0], attrgetter("failed"))
        asked = await asyncio.to_thread(_joined, own[1], rows[1], attrgetter("errors"))
        for minute in range(first, last + 1):
            self._known[minute] = _Minute(told.get(minute, _NOTHING), asked.get(minute, _NOTHING))
            # Of clocks that are not the same minute for minute, one may be a minute behind.
            if minute < now - 1:
                self._over[minute] = frozenset(heard)

    def told(self, minutes: int) -> dict[str, Any]:
        """For JSON, of what is known."""
        wanted = self._range(minutes)
        known = [self._known.get(minute, _EMPTY) for minute in wanted]
        told = _columns([one.told for one in known])
        edges = [
            {"from": pair[0], "to": pair[1], "requests": row.requests, "failures": row.failures, "p99_s": row.p99s_s}
            for pair, row in told.items()
        ]
        # How these went nobody knows. What was refused is no call; numbers of one moment may fall in two minutes.
        unknown = [None] * len(wanted)
        for pair, row in _columns([one.asked for one in known]).items():
            if pair not in told and sum(row.requests) > sum(row.failures):
                passed = [max(0, number - refused) for number, refused in zip(row.requests, row.failures, strict=True)]
                edges.append(
                    {"from": pair[0], "to": pair[1], "requests": passed, "refused": row.failures,
                     "failures": unknown, "p99_s": unknown}
                )  # fmt: skip
        return {"minutes": [minute * 60 for minute in wanted], "edges": sorted(edges, key=itemgetter("from", "to"))}

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
    said = decode(raw).all()
    # An older release says nothing of who asked.
    return Rows(_read(said.get("rows"), moved), _read(said.get("asked", []), moved))


def _read(said: object, moved: int) -> list[Row]:
    rows: list[Row] = []
    for (caller, callee, minute), tally in read_tallies(said, 3, MAX_EDGES * AT_ONCE):
        if not (minute.isascii() and minute.isdigit() and len(minute) < 12):
            raise MessageError("rows: expected a minute")
        rows.append(((caller, callee, str(int(minute) + moved)), tally))
    return rows


class _Columns(NamedTuple):
    """Of a pair, a number for each minute."""

    requests: list[int]
    failures: list[int]
    p99s_s: list[float | None]


def _columns(minutes: Sequence[_Brief]) -> dict[Pair, _Columns]:
    found: dict[Pair, _Columns] = {}
    count = len(minutes)
    for index, minute in enumerate(minutes):
        for pair, requests, failures, p99_s in minute.rows():
            if pair not in found:
                found[pair] = _Columns([0] * count, [0] * count, [None] * count)
            row = found[pair]
            row.requests[index], row.failures[index], row.p99s_s[index] = requests, failures, p99_s
    return found


def _joined(
    own: Mapping[int, Packed[Pair]], parts: Iterable[list[Row]], failures_of: Callable[[Tally], int]
) -> dict[int, _Brief]:
    sums = {minute: dict(packed.tallies()) for minute, packed in own.items()}
    for rows in parts:
        for (caller, callee, minute), tally in rows:
            pairs = sums.setdefault(int(minute), {})
            known = pairs.get((caller, callee))
            if known is None:
                pairs[caller, callee] = tally
            else:
                known.merge(tally)
    return {minute: _Brief(tallies, failures_of) for minute, tallies in sums.items()}


_NOTHING: Final = _Brief({}, attrgetter("failed"))
_EMPTY: Final = _Minute(_NOTHING, _NOTHING)
