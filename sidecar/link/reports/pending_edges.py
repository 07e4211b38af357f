"""
Edges between being read and being delivered. *Cold, pure.*

A report whose answer did not come may have arrived all the same. So its edges are sent again as they were, under the
same number, which the other side does not add twice; what was counted meanwhile waits for the next number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from operator import add
from typing import Final

from sidecar.link.report import MAX_ASKED, MAX_EDGES, OTHERS, Asked, Carried, Edge

MAX_WAITING: Final = 2 * MAX_EDGES
"""Different ones. Their names are the configuration's, so this is not reached but by files that change names often."""

_Way = tuple[str, str, str, str]
_Who = tuple[str, str, str]
"""Caller, rule, outcome."""


class PendingEdges:
    """
    Those of one process.

    Args:
        first_seq: Number of the first report.
        now: Since when is counted, by the clock of all calls.

    Attributes:
        lost: Edges for which there was no room.
        asked: Who asked, of the report that `next` gave.
    """

    __slots__ = (
        "_asked_waiting", "_is_outstanding", "_outstanding", "_seq", "_since", "_span_s", "_waiting", "_was_sent",
        "asked", "lost",
    )  # fmt: skip

    def __init__(self, first_seq: int, now: float) -> None:
        self._seq = first_seq - 1
        self._outstanding: tuple[Edge, ...] = ()
        self._was_sent = False
        self._since = now
        self._span_s = 0.0
        self._waiting: dict[_Way, Edge] = {}
        self._asked_waiting: dict[_Who, int] = {}
        self._is_outstanding = False
        self.asked: tuple[Asked, ...] = ()
        self.lost = 0

    def __repr__(self) -> str:
        return (
            f"<PendingEdges [Seq: {self._seq} | Outstanding: {len(self._outstanding)} | Waiting: {len(self._waiting)}]>"
        )

    def add(self, edges: Iterable[Edge], asked: Iterable[Asked] = ()) -> None:
        """Keep these until they are delivered."""
        for one in asked:
            who = (one.caller, one.rule, one.outcome)
            if who not in self._asked_waiting and len(self._asked_waiting) >= MAX_ASKED:
                who = (OTHERS, OTHERS if one.rule else "", one.outcome)
            self._asked_waiting[who] = self._asked_waiting.get(who, 0) + one.requests
        for edge in edges:
            way = (edge.direction, edge.upstream, edge.route, edge.caller)
            known = self._waiting.get(way)
            if known is not None:
                self._waiting[way] = sum_of(known, edge)
            elif len(self._waiting) < MAX_WAITING:
                self._waiting[way] = edge
            else:
                self.lost += 1

    def next(self, now: float, limit: int = MAX_EDGES) -> tuple[int, tuple[Edge, ...], float]:
        """
        Number and edges of the report that is sent now, and the seconds in which they were counted.

        Args:
            limit: How many at most, unless they were sent before.
        """
        if not self._is_outstanding:
            self._seq += 1
            self._was_sent = False
            asked, self._asked_waiting = self._asked_waiting, {}
            self.asked = tuple(Asked(who, number, rule, outcome) for (who, rule, outcome), number in asked.items())
            ways = list(self._waiting)[:limit]
            self._outstanding = tuple(self._waiting.pop(way) for way in ways)
            self._span_s, self._since = now - self._since, now
            self._is_outstanding = bool(self._outstanding or self.asked)
        return self._seq, self._outstanding, self._span_s

    def split(self) -> bool:
        """
        The report that `next` gave is too large: half of its edges go back. False if they cannot: there is but one, or
        they were sent before and may have arrived.
        """
        half = len(self._outstanding) // 2
        if not half or self._was_sent:
            return False
        back, self._outstanding = self._outstanding[half:], self._outstanding[:half]
        self.add(back)
        return True

    def sent(self) -> None:
        """The report that `next` gave is under way: from now on its number means these edges."""
        self._was_sent = True

    def delivered(self) -> bool:
        """The report that `next` gave has arrived; whether more waits."""
        self._done()
        return bool(self._waiting)

    def refused(self) -> int:
        """It is not taken, now or ever; how many edges went with it."""
        count = len(self._outstanding)
        self._done()
        self.lost += count
        return count

    def _done(self) -> None:
        self._outstanding, self.asked, self._is_outstanding = (), (), False


def sum_of(one: Edge, other: Edge) -> Edge:
    """Both together; they are of the same way."""
    return Edge(
        one.direction, one.upstream, one.route, one.requests + other.requests,
        _added(one.failures, other.failures), _added(one.statuses, other.statuses),
        tuple(a + b for a, b in zip_longest(one.latency, other.latency, fillvalue=0)),
        one.request_bytes + other.request_bytes, one.response_bytes + other.response_bytes, one.caller,
        one.secured + other.secured, one.clear + other.clear, Carried(*map(add, one.tcp, other.tcp)),
    )  # fmt: skip


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
