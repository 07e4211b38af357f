"""
Who said goodbye and waits until everybody has applied it. *Pure.*

A sidecar in a drain goes on serving until it is told `left`: that nobody sends it requests any more. That is so when
each sidecar which was told of it has reported a set of endpoints without it, or is gone itself. One that polls is not
gone between two polls, and one whose stream ended without a goodbye may be on its way back, here or to another replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.control.discovery.views import Views
from sidecar.control.push.stream import Stream

PATIENCE_S: Final = 60.0
"""A drain is shorter (`drain.delay` is 10 s at most by default); who has not answered by then is not waited for."""
BETWEEN_POLLS_S: Final = 35.0
"""In which one that polls polls again; else it is gone: as long as one with a stream may be silent."""
RETURNS_S: Final = 10.0
"""In which one whose stream ended is back, if it lives: it waits for 5 s at most between two tries."""
_MAX_BETWEEN: Final = 10_000


@dataclass(slots=True)
class Goodbye:
    """
    One that waits.

    Attributes:
        service: Of who left.
        addresses: Where it was reached.
        is_applied: Whether it was found that everybody has applied it.
    """

    service: str
    addresses: frozenset[str]
    until_s: float
    is_applied: bool = False


@dataclass(frozen=True, slots=True)
class _Between:
    stream: Stream
    until_s: float
    is_poll: bool


class Goodbyes:
    """All that wait, by instance; and who is between two streams or polls."""

    def __init__(self) -> None:
        self._waiting: dict[str, Goodbye] = {}
        self._between: dict[str, _Between] = {}

    def __len__(self) -> int:
        return sum(not one.is_applied for one in self._waiting.values())

    def get(self, instance: str) -> Goodbye | None:
        """The goodbye of an instance, if it waits."""
        found = self._waiting.get(instance)
        return found if found is not None and not found.is_applied else None

    @property
    def waiting(self) -> list[str]:
        """Instances."""
        return [instance for instance, one in self._waiting.items() if not one.is_applied]

    def begin(self, instance: str, service: str, addresses: Iterable[str], now_s: float, *, is_applied: bool) -> bool:
        """
        It left; whether that is applied already: nobody was told of it, or it said so before and all have.

        Args:
            is_applied: Whether nobody sends requests to it, as far as can be known.
        """
        known = self._waiting.get(instance)
        if known is not None:
            return known.is_applied
        if not is_applied:
            self._waiting[instance] = Goodbye(service, frozenset(addresses), now_s + PATIENCE_S)
        return is_applied

    def ended(self, stream: Stream, now_s: float, *, is_poll: bool) -> None:
        """Its stream ended, or a poll is answered: its sidecar goes on with what it knows, and is expected again."""
        self._between.pop(stream.watch.instance, None)
        if len(self._between) < _MAX_BETWEEN:
            until_s = now_s + (BETWEEN_POLLS_S if is_poll else RETURNS_S)
            self._between[stream.watch.instance] = _Between(stream, until_s, is_poll)

    def returned(self, instance: str) -> bool:
        """It has a stream, or polls, here or elsewhere; whether that follows a poll."""
        found = self._between.pop(instance, None)
        return found is not None and found.is_poll

    def between(self, now_s: float) -> Iterator[Stream]:
        """The last streams and polls of those that are expected again."""
        return (one.stream for one in self._between.values() if now_s < one.until_s)

    def sweep(self, now_s: float) -> None:
        """Let go of what is long over; to be called about once a second."""
        for instance in [instance for instance, one in self._between.items() if one.until_s <= now_s]:
            del self._between[instance]
        for instance in [name for name, one in self._waiting.items() if one.is_applied and one.until_s <= now_s]:
            del self._waiting[instance]

    def forget(self, instance: str) -> None:
        """It is gone, or has returned."""
        self._waiting.pop(instance, None)

    def applied(self, now_s: float, is_applied: Callable[[str], bool]) -> list[str]:
        """Those whose goodbye everybody has applied now; neither they nor who waited for too long wait any more."""
        done = []
        for instance in self.waiting:
            one = self._waiting[instance]
            if is_applied(instance):
                one.is_applied = True
                done.append(instance)
            elif now_s >= one.until_s:
                del self._waiting[instance]
        return done


def has(stream: Stream, upstream: str, views: Views, addresses: frozenset[str]) -> bool:
    """Whether, for all that is known, its sidecar still sends requests to one of these addresses."""
    told = stream.knows(upstream)
    if told is not None and not addresses.isdisjoint(told.entries):
        return True
    version = stream.in_force.get(upstream)
    if not version:
        return False
    view = views.of(version)
    return view is None or not addresses.isdisjoint(view.entries)
