"""
Who said goodbye and waits until everybody has applied it. *Pure.*

A sidecar in a drain goes on serving until it is told `left`: that nobody sends it requests any more. That is so when
each sidecar which was told of it has reported a set of endpoints without it, or is gone itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sidecar.control.discovery.views import Views
from sidecar.control.push.stream import Stream

PATIENCE_S: Final = 60.0
"""A drain is shorter (`drain.delay` is 10 s at most by default); who has not answered by then is not waited for."""


@dataclass(slots=True)
class _Waiting:
    addresses: frozenset[str]
    until_s: float
    others: list[tuple[Stream, str, Views]] = field(default_factory=list)


class Goodbyes:
    """All that wait, by instance."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, instance: str) -> bool:
        return instance in self._waiting

    def begin(
        self, instance: str, addresses: Iterable[str], others: Iterable[tuple[Stream, str, Views]], now_s: float
    ) -> bool:
        """
        It left; whether that is applied already, because nobody was told of it.

        Args:
            others: Streams that follow an upstream with it, each with the upstream's name and its views.
        """
        if instance in self._waiting:
            return False
        waiting = _Waiting(frozenset(addresses), now_s + PATIENCE_S)
        waiting.others = [one for one in others if one[0].watch.instance != instance and _has(*one, waiting.addresses)]
        if not waiting.others:
            return True
        self._waiting[instance] = waiting
        return False

    def forget(self, instance: str) -> None:
        """It is gone, or has returned."""
        self._waiting.pop(instance, None)

    def applied(self, open_streams: Iterable[Stream], now_s: float) -> list[str]:
        """Those whose goodbye everybody has applied; they wait no more."""
        if not self._waiting:
            return []
        still_open = set(map(id, open_streams))
        done = []
        for instance, waiting in tuple(self._waiting.items()):
            waiting.others = [
                one for one in waiting.others if id(one[0]) in still_open and _has(*one, waiting.addresses)
            ]
            if not waiting.others or now_s >= waiting.until_s:
                del self._waiting[instance]
                done.append(instance)
        return done


def _has(stream: Stream, upstream: str, views: Views, addresses: frozenset[str]) -> bool:
    """Whether, for all that is known, its sidecar still sends requests to one of these addresses."""
    told = stream.knows(upstream)
    if told is not None and not addresses.isdisjoint(told.entries):
        return True
    version = stream.in_force.get(upstream)
    if not version:
        return False
    view = views.of(version)
    return view is None or not addresses.isdisjoint(view.entries)
