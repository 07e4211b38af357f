"""
Who calls whom, how often and how well: the last minute by route, the last hour by service. *Pure; clocks are given.*

Filled with what sidecars counted since their last report. Bounded by the number of edges, not by what reports say: a
name that would be one too many is counted as such and left out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from sidecar.control.calls.counted import Packed, Span, Tally, numbers_of, numbers_of_asked, summed
from sidecar.link.report import OTHERS, Asked, Edge

WINDOW_S: Final = 60
SLOT_S: Final = 5
SLOTS: Final = WINDOW_S // SLOT_S
HISTORY_MINUTES: Final = 60
MAX_EDGES: Final = 20_000


_K = TypeVar("_K", bound=Hashable)
Pair = tuple[str, str]
"""Caller and callee; or a service and an instance of it."""


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


class AskedKey(NamedTuple):
    """
    Attributes:
        service: Whom was asked.
        identity: SPIFFE ID of who asked, or empty.
        rule, outcome: As `link.report.Asked` has them.
    """

    service: str
    identity: str
    rule: str
    outcome: str


class _Known(Generic[_K]):
    """Keys that were counted under: one object of each, however often it is said, and no more than `MAX_EDGES`."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[_K, _K] = {}

    def get(self, key: _K) -> _K | None:
        """The one that is kept; None if there is no room for another."""
        found = self._keys.get(key)
        if found is None and len(self._keys) < MAX_EDGES:
            found = self._keys[key] = key
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keep(self, wanted: Iterable[Iterable[_K]]) -> None:
        """Forget all but these."""
        self._keys = {key: key for keys in wanted for key in keys}


class _Recent(Generic[_K]):
    """The last minute, in slots; what is older is let go when the next is written or read."""

    __slots__ = ("_known", "_slots")

    def __init__(self) -> None:
        self._known: _Known[_K] = _Known()
        self._slots: deque[tuple[int, Span[_K]]] = deque()

    def add(self, slot: int, key: _K, numbers: int, failures: Mapping[str, int]) -> bool:
        """Count in this slot, which is not before the last; whether there was room for its key."""
        known = self._known.get(key)
        if known is None:
            return False
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append((slot, Span()))
            self._drop(slot)
        self._slots[-1][1].add(known, numbers, failures)
        return True

    def sums(self, slot: int, is_wanted: Callable[[_K], bool]) -> dict[_K, Tally]:
        """Of the minute that ends in this slot, of the keys that are wanted."""
        self._drop(slot)
        return summed((span for _, span in self._slots), is_wanted)

    def sweep(self, slot: int) -> None:
        """Forget the keys that had nothing in the minute that ends in this slot."""
        self._drop(slot)
        self._known.keep(span.numbers for _, span in self._slots)

    def _drop(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - SLOTS:
            self._slots.popleft()


class _Hour:
    """The last hour, in minutes: the last as it is counted, those before it packed."""

    __slots__ = ("_known", "_last", "_minute", "_over")

    def __init__(self) -> None:
        self._known: _Known[Pair] = _Known()
        self._minute = 0
        self._last: Span[Pair] = Span()
        self._over: dict[int, Packed[Pair]] = {}

    def add(self, minute: int, pair: Pair, numbers: int, failures: Mapping[str, int]) -> bool:
        """Count in this minute, which is not before the last; whether there was room for the pair."""
        known = self._known.get(pair)
        if known is None:
            return False
        if self._minute < minute:
            if self._last.numbers:
                self._over[self._minute] = Packed(self._last)
            self._minute, self._last = minute, Span()
            self._drop(minute)
        self._last.add(known, numbers, failures)
        return True

    def __contains__(self, pair: object) -> bool:
        """Whether something was counted of it in this hour, at most a minute more."""
        return pair in self._known

    def minutes(self, first: int, last: int) -> dict[int, Packed[Pair]]:
        """Those that had anything, both included; the one that is counted in as it is now."""
        found = {minute: packed for minute, packed in self._over.items() if first <= minute <= last}
        if self._last.numbers and first <= self._minute <= last:
            found[self._minute] = Packed(self._last)
        return found

    def sweep(self, minute: int) -> None:
        """Forget what had nothing in the hour that ends in this minute."""
        self._drop(minute)
        if self._minute <= minute - HISTORY_MINUTES:
            self._last = Span()
        self._known.keep([*(packed.keys for packed in self._over.values()), self._last.numbers])

    def _drop(self, minute: int) -> None:
        for old in [one for one in self._over if one <= minute - HISTORY_MINUTES]:
            del self._over[old]


class Edges:
    """
    Args:
        now_s: Since the Unix epoch: minutes are those of the wall.

    Attributes:
        left_out: Reports of edges and callers for which there was no room.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.left_out = 0
        self._now_s = now_s
        self._recent: _Recent[EdgeKey] = _Recent()
        self._instances: _Recent[Pair] = _Recent()
        self._asked: _Recent[AskedKey] = _Recent()
        self._hour = _Hour()
        self._asked_hour = _Hour()

    def add(self, service: str, instance: str, callee_of: Callable[[str], str], edges: Iterable[Edge]) -> None:
        """
        Count what a sidecar of this service reported.

        Args:
            callee_of: The service behind the name of an upstream.
        """
        now_s = int(self._now_s())
        slot, minute = now_s // SLOT_S, now_s // 60
        for edge in edges:
            numbers, failures = numbers_of(edge), edge.failures
            if edge.direction == "outbound":
                pair = service, callee_of(edge.upstream)
                key = EdgeKey(*pair, edge.upstream, edge.route)
                has_room = self._recent.add(slot, key, numbers, failures)
                has_room = has_room and self._hour.add(minute, pair, numbers, failures)
            else:
                key = EdgeKey(edge.caller, service, edge.upstream, edge.route, "inbound")
                has_room = self._instances.add(slot, (service, instance), numbers, failures)
                has_room = self._recent.add(slot, key, numbers, failures) and has_room
            if not has_room:
                self.left_out += 1

    def add_asked(self, service: str, caller_of: Callable[[str], str], asked: Iterable[Asked]) -> None:
        """
        Count who asked this service, as a sidecar of it reported.

        Args:
            caller_of: Who has an identity, by the name that people see.
        """
        now_s = int(self._now_s())
        slot, minute = now_s // SLOT_S, now_s // 60
        by_caller: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for one in asked:
            key = AskedKey(service, one.caller, one.rule, one.outcome)
            # The first lane is the requests', the others are nothing.
            if not self._asked.add(slot, key, one.requests, {}):
                self.left_out += 1
            if one.caller and one.caller != OTHERS and one.outcome in ("", "denied"):
                by_caller[one.caller][one.outcome == "denied"] += one.requests
        for caller, (requests, refused) in by_caller.items():
            pair = caller_of(caller), service
            # Of nearly all callers their own sidecars tell as much, and more.
            if pair in self._hour:
                continue
            if not self._asked_hour.add(minute, pair, numbers_of_asked(requests, refused), {}):
                self.left_out += 1

    def asked(self) -> dict[AskedKey, int]:
        """Requests of the last minute, by whom was asked, who asked, and which rule was against it."""
        return {key: tally.requests for key, tally in self._asked.sums(self._slot(), lambda _: True).items()}

    def window(self, direction: str = "") -> dict[EdgeKey, Tally]:
        """Sums of the last minute, of the edges that had anything in it; of one direction, or of both."""
        return self._recent.sums(self._slot(), lambda key: direction in ("", key.direction))

    def of_instances(self, service: str) -> dict[str, Tally]:
        """Sums of the last minute of what instances of a service answered, whoever asked, by the instance's name."""
        found = self._instances.sums(self._slot(), lambda key: key[0] == service)
        return {instance: tally for (_, instance), tally in found.items()}

    def minutes(self, first: int, last: int) -> dict[int, Packed[Pair]]:
        """
        What each pair of services counted in these minutes since the Unix epoch, both included; those that had nothing
        are left out. What is given does not change any more, and takes long to be read: that is for a thread.
        """
        return self._hour.minutes(first, last)

    def asked_minutes(self, first: int, last: int) -> dict[int, Packed[Pair]]:
        """
        The same of callers whose own sidecars tell nothing here, as those tell that were asked: requests, and as errors
        how many of them a rule refused. In one minute either may be ahead of the other.
        """
        return self._asked_hour.minutes(first, last)

    def sweep(self) -> None:
        """Forget edges that had nothing for as long as they are shown; to be called about once a minute."""
        self._recent.sweep(self._slot())
        self._instances.sweep(self._slot())
        self._asked.sweep(self._slot())
        for hour in (self._hour, self._asked_hour):
            hour.sweep(int(self._now_s()) // 60)

    def _slot(self) -> int:
        return int(self._now_s()) // SLOT_S
