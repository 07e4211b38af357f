"""
Who said goodbye and waits until everybody has applied it. *Pure.*

A sidecar in a drain goes on serving until it is told `left`: that nobody sends it requests any more. That is so when
each sidecar which was told of it has reported a set of endpoints without it, or is gone itself. One that polls is not
gone between two polls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sidecar.control.discovery.views import Views
from sidecar.control.push.stream import Stream

PATIENCE_S: Final = 60.0
"""A drain is shorter (`drain.delay` is 10 s at most by default); who has not answered by then is not waited for."""
BETWEEN_POLLS_S: Final = 35.0
"""In which one that polls polls again; else it is gone: as long as one with a stream may be silent."""
_MAX_BETWEEN: Final = 10_000


@dataclass(slots=True)
class _Waiting:
    addresses: frozenset[str]
    until_s: float
    others: list[tuple[Stream, str, Views]] = field(default_factory=list)


class Goodbyes:
    """All that wait, by instance."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._between: dict[str, tuple[Stream, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, instance: str) -> bool:
        return instance in self._waiting

    def begin(
        self,
        instance: str,
        addresses: Iterable[str],
        others: Iterable[tuple[Stream, str, Views]],
        now_s: float,
        *,
        all_seen: bool = True,
    ) -> bool:
        """
        It left; whether that is applied already, because nobody was told of it.

        Args:
            others: Streams that follow an upstream with it, each with the upstream's name and its views.
            all_seen: Whether these are all who may know of it.
        """
        if instance in self._waiting:
            return False
        waiting = _Waiting(frozenset(addresses), now_s + PATIENCE_S)
        waiting.others = [one for one in others if one[0].watch.instance != instance and _has(*one, waiting.addresses)]
        if all_seen and not waiting.others:
            return True
        self._waiting[instance] = waiting
        return False

    def answered(self, stream: Stream, now_s: float) -> None:
        """The poll that it was is answered: its sidecar goes on with what it knows, and polls again."""
        self.opened(stream.watch.instance)
        if len(self._between) < _MAX_BETWEEN:
            # The last to be answered is the last to expire.
            self._between[stream.watch.instance] = stream, now_s + BETWEEN_POLLS_S

    def opened(self, instance: str) -> None:
        """It polls again, or has a stream."""
        self._between.pop(instance, None)

    def between(self, now_s: float) -> Iterator[Stream]:
        """The last polls of those that are expected to poll again."""
        return (stream for stream, until_s in self._between.values() if now_s < until_s)

    def forget(self, instance: str) -> None:
        """It is gone, or has returned."""
        self._waiting.pop(instance, None)

    def applied(
        self, open_streams: Iterable[Stream], now_s: float, all_seen: Callable[[str], bool] = lambda instance: True
    ) -> list[str]:
        """Those whose goodbye everybody has applied, if all are seen who may know of them; they wait no more."""
        while self._between:
            first, (_, until_s) = next(iter(self._between.items()))
            if now_s < until_s:
                break
            del self._between[first]
        if not self._waiting:
            return []
        newest = {stream.watch.instance: stream for stream in (*self.between(now_s), *open_streams)}
        done = []
        for instance, waiting in tuple(self._waiting.items()):
            waiting.others = [one for one in _now(waiting.others, newest) if _has(*one, waiting.addresses)]
            is_late = now_s >= waiting.until_s
            is_seen = all_seen(instance)
            if is_late or (is_seen and not waiting.others):
                del self._waiting[instance]
                if is_seen:
                    done.append(instance)
        return done


def _now(
    others: Iterable[tuple[Stream, str, Views]], newest: Mapping[str, Stream]
) -> Iterator[tuple[Stream, str, Views]]:
    """Those that are still there, each with the newest stream or poll of its sidecar."""
    for stream, upstream, views in others:
        now = newest.get(stream.watch.instance)
        if now is not None:
            yield now, upstream, views


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
