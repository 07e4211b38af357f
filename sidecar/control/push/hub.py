"""
All streams of this replica, and who of them is concerned by a change. *On the loop; the clock is the caller's.*
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from sidecar.control.push.stream import CompiledByHash, Stream, ViewsOf
from sidecar.control.revision.compiled import Origin
from sidecar.control.revision.targets import Targets, Wanted
from sidecar.link.messages import Watch

SPREAD_S: Final = 5.0
FEW: Final = 10
"""A push that concerns no more than these is told at once: their compilers are not felt, and people are waiting."""

AWAITED: Final = 50
"""Sidecars that are told of an origin, up to which each reports at once what it has in force, so that drains are short
and people see it. More would come all together: a report costs more than the line that it answers."""


class Hub:
    """
    Args:
        targets: Say what each instance is to have.
        known: Compiled files by hash.
        views: Endpoints of an origin.
        clock: Seconds, monotonic.
        spread_s: Over which a push that concerns many is spread.
        shuffle: Puts a list into any order.

    Attributes:
        pushes: Configurations that were decided to be told, since the start.
    """

    def __init__(
        self,
        targets: Targets,
        known: CompiledByHash,
        views: ViewsOf,
        clock: Callable[[], float],
        spread_s: float = SPREAD_S,
        shuffle: Callable[[list[Stream]], None] = random.shuffle,
    ) -> None:
        self.pushes = 0
        self._targets = targets
        self._known = known
        self._views = views
        self._clock = clock
        self._spread_s = spread_s
        self._shuffle = shuffle
        self._streams: dict[str, Stream] = {}
        self._by_origin: defaultdict[Origin, dict[Stream, tuple[str, ...]]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(tuple(self._streams.values()))

    def get(self, instance: str) -> Stream | None:
        """The stream of an instance."""
        return self._streams.get(instance)

    def open(self, watch: Watch, runs: str = "") -> Stream:
        """A stream begins, of who runs this file as far as is known; an older one of the instance is let end."""
        older = self._streams.get(watch.instance)
        if older is not None:
            self.close(older)
            older.end(moves=False)
        stream = self._streams[watch.instance] = Stream(watch, self._clock(), runs)
        goal, absent = self._aim_of(stream)
        stream.aim(goal, absent, self._clock())
        self._follow(stream)
        return stream

    def close(self, stream: Stream) -> bool:
        """It ended; whether it was the one that counted."""
        for origin in stream.follows.values():
            self._unfollow(origin, stream)
        if self._streams.get(stream.watch.instance) is not stream:
            return False
        del self._streams[stream.watch.instance]
        return True

    def take(self, stream: Stream) -> list[bytes]:
        """The lines that are to be written to it now."""
        before = stream.follows
        lines = stream.take(self._clock(), self._known, self._views, self._is_awaited)
        if stream.follows is not before and stream.follows != before:
            self._refollow(stream, before)
        return lines

    def on_report(self, stream: Stream, running: str, refused: str, endpoints: Mapping[str, str]) -> None:
        """What its sidecar has now."""
        if stream.on_report(running, refused, endpoints):
            self._follow(stream)

    def targets_changed(self) -> int:
        """Aim every stream anew; how many are to be told another file."""
        now_s = self._clock()
        concerned: list[Stream] = []
        for stream in self._streams.values():
            goal, absent = self._aim_of(stream)
            if (goal, absent) == (stream.goal, stream.absent):
                continue
            if goal is None or goal.hash == stream.has:
                stream.aim(goal, absent, now_s)
            else:
                concerned.append(stream)
        self._shuffle(concerned)
        step_s = self._spread_s / len(concerned) if len(concerned) > FEW else 0.0
        for index, stream in enumerate(concerned):
            goal, absent = self._aim_of(stream)
            stream.aim(goal, absent, now_s + index * step_s)
        self.pushes += len(concerned)
        return len(concerned)

    def origins_changed(self, origins: Collection[Origin]) -> None:
        """Their endpoints are others."""
        for origin in origins:
            for stream, upstreams in self._by_origin.get(origin, {}).items():
                stream.spoil(upstreams)

    def _is_awaited(self, origin: Origin) -> bool:
        return len(self._by_origin.get(origin, ())) <= AWAITED

    def following(self, origin: Origin) -> Collection[Stream]:
        """Streams that are told the endpoints of this origin."""
        return self._by_origin.get(origin, ())

    def _aim_of(self, stream: Stream) -> tuple[Wanted | None, str]:
        watch = stream.watch
        return self._targets.wanted(watch.service, watch.instance, watch.language)

    def _follow(self, stream: Stream) -> None:
        before = stream.follows
        stream.follow(self._known)
        if stream.follows is not before:
            self._refollow(stream, before)

    def _refollow(self, stream: Stream, before: Mapping[str, Origin]) -> None:
        now: defaultdict[Origin, list[str]] = defaultdict(list)
        for upstream, origin in stream.follows.items():
            now[origin].append(upstream)
        for origin in set(before.values()) - now.keys():
            self._unfollow(origin, stream)
        for origin, upstreams in now.items():
            self._by_origin[origin][stream] = tuple(upstreams)

    def _unfollow(self, origin: Origin, stream: Stream) -> None:
        streams = self._by_origin.get(origin)
        if streams is not None:
            streams.pop(stream, None)
            if not streams:
                del self._by_origin[origin]
