"""
The last hour at all replicas, by pairs of services and minutes of this one's clock. *On the loop, sums in a thread.*

A minute that is over does not change: it is asked for and put together once, and only what people see of it is kept.
Minutes of other clocks are moved by whole minutes, so what is at the edge of one may be told as of its neighbour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from sidecar.control.edges import HISTORY_MINUTES, MAX_EDGES, Edges, Tally
from sidecar.control.replicas.tallies import read_tallies
from sidecar.link.fields import MessageError

AT_ONCE: Final = 10
"""Minutes that are asked for at once: an answer stays within a few megabytes at 4,000 pairs."""
KEPT_S: Final = 600.0
"""Without anybody who looks."""
_ROUND: Final = 6

Pair = tuple[str, str]
Rows = list[tuple[tuple[str, ...], Tally]]
"""By caller, callee and minute."""
_Brief = tuple[int, int, float | None]
"""Requests, failures, p99 in seconds."""


class Hours:
    """
    Args:
        edges: What this replica's sidecars counted.
        now_s: Since the Unix epoch.
    """

    def __init__(self, edges: Edges, now_s: Callable[[], float]) -> None:
        self._edges = edges
        self._now_s = now_s
        self._known: dict[int, dict[Pair, _Brief]] = {}
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
        own: Rows = []
        for pair, row in self._edges.minutes(first, last).items():
            for minute, tally in row.items():
                # Only what is over stays as it is while the thread reads it.
                own.append(((*pair, str(minute)), tally if minute < now else _copy(tally)))
        found = await asyncio.to_thread(_joined, (own, *heard.values()))
        for minute in range(first, last + 1):
            self._known[minute] = found.get(minute, {})
            # Of clocks that are not the same minute for minute, one may be a minute behind.
            if minute < now - 1:
                self._over[minute] = frozenset(heard)

    def told(self, minutes: int) -> dict[str, Any]:
        """For JSON, of what is known."""
        wanted = self._range(minutes)
        pairs = sorted({pair for minute in wanted for pair in self._known.get(minute, ())})
        edges: list[dict[str, Any]] = []
        for pair in pairs:
            row = [self._known.get(minute, {}).get(pair, (0, 0, None)) for minute in wanted]
            requests, failures, p99_s = (list(column) for column in zip(*row, strict=True))
            edges.append(
                {"from": pair[0], "to": pair[1], "requests": requests, "failures": failures, "p99_s": p99_s}
            )  # fmt: skip
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


def _joined(parts: Iterable[Rows]) -> dict[int, dict[Pair, _Brief]]:
    sums: dict[int, dict[Pair, Tally]] = {}
    for rows in parts:
        for (caller, callee, minute), tally in rows:
            pairs = sums.setdefault(int(minute), {})
            known = pairs.get((caller, callee))
            if known is not None:
                tally = _copy(known, tally)
            pairs[caller, callee] = tally
    return {minute: {pair: _brief(tally) for pair, tally in pairs.items()} for minute, pairs in sums.items()}


def _brief(tally: Tally) -> _Brief:
    p99_s = tally.quantile(0.99)
    return tally.requests, tally.failed, None if p99_s is None else round(p99_s, _ROUND)


def _copy(*tallies: Tally) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total
