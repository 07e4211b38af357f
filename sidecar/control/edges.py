"""
Who calls whom, how often and how well: the last minute by route, the last hour by service. *Pure; clocks are given.*

Filled with what sidecars counted since their last report. Bounded by the number of edges, not by what reports say: a
name that would be one too many is counted as such and left out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Final, NamedTuple, TypeVar

from sidecar.link.report import LATENCY_BOUNDS_S, Edge

WINDOW_S: Final = 60
SLOT_S: Final = 5
SLOTS: Final = WINDOW_S // SLOT_S
HISTORY_MINUTES: Final = 60
MAX_EDGES: Final = 20_000
MAX_REASONS: Final = 40
"""Of failures of one edge; there are fewer (docs/errors.md), but a report may say anything."""


_K = TypeVar("_K", bound=Hashable)


class EdgeKey(NamedTuple):
    """
    Attributes:
        caller: The service that reported it; for one that came in, who called as far as that is known.
        callee: The service that is called, or the upstream's name where it is no service of the mesh.
        upstream: By its name in the caller's file.
    """

    caller: str
    callee: str
    upstream: str
    route: str
    direction: str = "outbound"


@dataclass(slots=True)
class Tally:
    """Sums over some time."""

    requests: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    """Answers of 5xx that the callee itself gave; together with failures, what did not succeed."""
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))

    def add(self, edge: Edge) -> None:
        """What a report says."""
        self.requests += edge.requests
        self.request_bytes += edge.request_bytes
        self.response_bytes += edge.response_bytes
        self.errors += edge.statuses.get("5xx", 0)
        for reason, number in edge.failures.items():
            if reason in self.failures or len(self.failures) < MAX_REASONS:
                self.failures[reason] += number
        if edge.latency:
            self.latency = list(map(add, self.latency, edge.latency))

    def merge(self, other: Tally) -> None:
        """Another time's, or another edge's."""
        self.requests += other.requests
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        self.errors += other.errors
        self.failures.update(other.failures)
        self.latency = list(map(add, self.latency, other.latency))

    @property
    def failed(self) -> int:
        """
        Requests that did not succeed: those that their caller's sidecar had to answer itself, most of them with 5xx, or
        that the callee answered so; a request counts once, so the larger of both, and never more than all.
        """
        return min(self.requests, max(sum(self.failures.values()), self.errors))

    @property
    def success(self) -> float | None:
        """Share of requests that succeeded; None if there was none."""
        return 1 - self.failed / self.requests if self.requests else None

    def quantile(self, share: float) -> float | None:
        """Upper bound in seconds below which so many ended, between two bounds by proportion; None if none did."""
        return quantile(self.latency, share)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Of counts by `LATENCY_BOUNDS_S`, in seconds; what is beyond the last bound is told as that."""
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    below = 0
    for index, number in enumerate(counts):
        if below + number >= wanted and number:
            if index == len(LATENCY_BOUNDS_S):
                break
            low = LATENCY_BOUNDS_S[index - 1] if index else 0.0
            return low + (LATENCY_BOUNDS_S[index] - low) * max(0.0, wanted - below) / number
        below += number
    return LATENCY_BOUNDS_S[-1]


class _Ring:
    """Tallies of the last few slots of time; what is older is let go when the next is written or read."""

    __slots__ = ("_length", "_slots")

    def __init__(self, length: int) -> None:
        self._length = length
        self._slots: deque[tuple[int, Tally]] = deque()

    def at(self, slot: int) -> Tally:
        """The tally of this slot, which is not before the last."""
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append((slot, Tally()))
        self.drop(slot)
        return self._slots[-1][1]

    def drop(self, slot: int) -> None:
        """Let go what is too old for now."""
        while self._slots and self._slots[0][0] <= slot - self._length:
            self._slots.popleft()

    def __iter__(self) -> Iterator[tuple[int, Tally]]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


class Edges:
    """
    Args:
        now_s: Since the Unix epoch: minutes are those of the wall.

    Attributes:
        left_out: Reports of edges for which there was no room.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.left_out = 0
        self._now_s = now_s
        self._recent: dict[EdgeKey, _Ring] = {}
        self._hour: dict[tuple[str, str], _Ring] = {}
        self._instances: dict[tuple[str, str], _Ring] = {}

    def add(self, service: str, instance: str, callee_of: Callable[[str], str], edges: Iterable[Edge]) -> None:
        """
        Count what a sidecar of this service reported.

        Args:
            callee_of: The service behind the name of an upstream.
        """
        now_s = self._now_s()
        for edge in edges:
            if edge.direction == "outbound":
                key = EdgeKey(service, callee_of(edge.upstream), edge.upstream, edge.route)
            else:
                key = EdgeKey(edge.caller, service, edge.upstream, edge.route, "inbound")
                self._count_instance(service, instance, edge)
            ring = self._recent.get(key)
            if ring is None:
                if len(self._recent) >= MAX_EDGES:
                    self.left_out += 1
                    continue
                ring = self._recent[key] = _Ring(SLOTS)
            ring.at(int(now_s) // SLOT_S).add(edge)
            if key.direction == "outbound":
                pair = self._hour.get((key.caller, key.callee))
                if pair is None:
                    pair = self._hour[key.caller, key.callee] = _Ring(HISTORY_MINUTES)
                pair.at(int(now_s) // 60).add(edge)

    def window(self, direction: str = "") -> dict[EdgeKey, Tally]:
        """Sums of the last minute, of the edges that had anything in it; of one direction, or of both."""
        slot = int(self._now_s()) // SLOT_S
        found: dict[EdgeKey, Tally] = {}
        for key, ring in self._recent.items():
            ring.drop(slot)
            if len(ring) and direction in ("", key.direction):
                total = found[key] = Tally()
                for _, tally in ring:
                    total.merge(tally)
        return found

    def of_instances(self, service: str) -> dict[str, Tally]:
        """Sums of the last minute of what instances of a service answered, whoever asked, by the instance's name."""
        slot = int(self._now_s()) // SLOT_S
        found: dict[str, Tally] = {}
        for (of, instance), ring in self._instances.items():
            if of == service:
                ring.drop(slot)
                if len(ring):
                    total = found[instance] = Tally()
                    for _, tally in ring:
                        total.merge(tally)
        return found

    def _count_instance(self, service: str, instance: str, edge: Edge) -> None:
        ring = self._instances.get((service, instance))
        if ring is None:
            if len(self._instances) >= MAX_EDGES:
                self.left_out += 1
                return
            ring = self._instances[service, instance] = _Ring(SLOTS)
        ring.at(int(self._now_s()) // SLOT_S).add(edge)

    def minutes(self, first: int, last: int) -> dict[tuple[str, str], dict[int, Tally]]:
        """
        What each pair of services counted in these minutes since the Unix epoch, both included; those that had nothing
        are left out. Tallies of minutes that are over do not change any more.
        """
        found: dict[tuple[str, str], dict[int, Tally]] = {}
        for pair, ring in self._hour.items():
            row = {minute: tally for minute, tally in ring if first <= minute <= last}
            if row:
                found[pair] = row
        return found

    def sweep(self) -> None:
        """Forget edges that had nothing for as long as they are shown; to be called about once a minute."""
        now_s = int(self._now_s())
        _sweep(self._recent, now_s // SLOT_S)
        _sweep(self._hour, now_s // 60)
        _sweep(self._instances, now_s // SLOT_S)


def _sweep(rings: dict[_K, _Ring], slot: int) -> None:
    for key, ring in tuple(rings.items()):
        ring.drop(slot)
        if not len(ring):
            del rings[key]
