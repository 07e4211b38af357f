"""
One stream: what its sidecar has, what it is to have, and the lines between. *Pure: no socket, clocks are given.*

Nothing is queued but what cannot be worked out again. `take` compares what is wanted with what was told and gives the
lines that make up for it, so that the newest always wins. The course of a configuration:

    wanted       the targets say another file, or another number, than was told; from `due_s` on it may be told
    outstanding  `config` was written; no other is before a report says that it runs or was refused, or `ANSWER_S`
    settled      what runs is what was told; the endpoints of what it replaced are not told any more

Endpoints are told for every `discover` of the file that runs and of the one that was told: a refused file leaves the
old one in force, also of who comes back and names as its own the file that it refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sidecar.control.discovery.views import View, Views
from sidecar.control.revision.compiled import CompiledFile, Origin
from sidecar.control.revision.targets import Wanted
from sidecar.link.messages import Absent, Config, Current, Line, Move, Watch, endpoints_version, write_line
from sidecar.link.report import REPORT_PERIOD_S

ANSWER_S: Final = 30.0
"""In which a configuration is accepted or refused; then a newer one is told all the same."""

CONFIRMED_S: Final = REPORT_PERIOD_S + 2.0
"""In which endpoints that were told are reported as in force, where nobody waits for it."""

MAX_SAID: Final = 64
"""Lines that wait and cannot be worked out again: questions, above all."""

_NOBODY: Final = endpoints_version(())

CompiledByHash = Callable[[str], CompiledFile | None]
ViewsOf = Callable[[Origin], Views | None]


class Stream:
    """
    Args:
        watch: The question that opened it.
        opened_s: Monotonic.
        runs: Hash of the file that its sidecar has in force, if that is known from before.

    Attributes:
        goal: What is wanted of it; None while there is nothing to say.
        absent: Why there is no file for it, where that is so.
        due_s: From when on a configuration may be told.
        in_force: Versions of endpoints that its sidecar reported, by upstream.
        follows: Origins of the endpoints that it is told, by upstream: another object whenever it changes, and mostly
            the file's own, which all who have the file share.
        is_sure: Whether what is wanted of it is known to be the newest. Until then it keeps the file that it has, which
            another replica may have told it that knew of a newer revision.
        is_over: Whether it is to end; `moves` whether the sidecar is told to go elsewhere.
    """

    def __init__(self, watch: Watch, opened_s: float, runs: str = "") -> None:
        self.watch = watch
        self.opened_s = opened_s
        self.goal: Wanted | None = None
        self.absent = ""
        self.due_s = opened_s
        self.in_force: Mapping[str, str] = watch.endpoints
        self.follows: Mapping[str, Origin] = {}
        self.is_sure = True
        self.is_over = False
        self.moves = False
        self.wake = asyncio.Event()
        self._told: Wanted | None = None
        self._told_absent = ""
        self._has = watch.config
        self._runs = runs
        self._outstanding = ""
        self._outstanding_s = 0.0
        self._views: dict[str, View] = {}
        self._told_of: dict[str, Views] = {}
        self._due_back_s: dict[str, float] = {}
        self._was_told: set[str] = set()
        self._dirty: set[str] = set()
        self._said: list[Line] = []

    def __repr__(self) -> str:
        return f"<Stream {self.watch.service}/{self.watch.instance} [Has: {self._has[:8]}]>"

    @property
    def has(self) -> str:
        """Hash of the pushed file that its sidecar has, as far as is known."""
        return self._has

    def aim(self, goal: Wanted | None, absent: str, due_s: float) -> None:
        """What is wanted of it from now on."""
        self.goal, self.absent, self.due_s = goal, absent, due_s
        self.wake.set()

    def doubt(self) -> bool:
        """Let it keep what it has until `assure`, if it came with another file than is wanted; whether that is so."""
        self.is_sure = not self._has or (self.goal is not None and self.goal.hash == self._has)
        return not self.is_sure

    def assure(self) -> None:
        """What is wanted of it is the newest."""
        self.is_sure = True
        self.wake.set()

    def say(self, line: Line) -> bool:
        """Tell this once; whether there was room for it."""
        if len(self._said) >= MAX_SAID:
            return False
        self._said.append(line)
        self.wake.set()
        return True

    def end(self, *, moves: bool) -> None:
        """Let it end after the lines that wait."""
        self.is_over = True
        self.moves = self.moves or moves
        self.wake.set()

    def spoil(self, upstreams: Iterable[str]) -> None:
        """The endpoints of these changed."""
        self._dirty.update(upstreams)
        self.wake.set()

    def on_report(self, running: str, refused: str, endpoints: Mapping[str, str]) -> bool:
        """What its sidecar has now; whether it may be concerned by other endpoints than before."""
        self.in_force = endpoints
        is_other, self._runs = running != self._runs, running
        if not self._outstanding or self._outstanding not in (running, refused):
            return is_other
        self._has = running
        self._outstanding = ""
        self.wake.set()
        return True

    def follow(self, known: CompiledByHash) -> None:
        """Know whose endpoints it is to be told: after what it has, or was told, changed."""
        hashes = dict.fromkeys((self._has, self._runs, self._outstanding))
        files = [file for hash_ in hashes if hash_ and (file := known(hash_)) is not None]
        follows: Mapping[str, Origin] = files[0].discovers if files else {}
        for file in files[1:]:
            follows = {**follows, **file.discovers}
        if follows is self.follows:
            return
        self._dirty |= {name for name, origin in follows.items() if self.follows.get(name) != origin}
        self._dirty &= follows.keys()
        for name in self._views.keys() - follows.keys():
            del self._views[name], self._told_of[name], self._due_back_s[name]
        self.follows = follows

    def waits_s(self, now_s: float) -> float | None:
        """Seconds until there may be something to say; None if only a change can bring that."""
        if self.goal is None or self.goal == self._told or not self.is_sure:
            return None
        until_s = max(self.due_s, self._outstanding_s + ANSWER_S if self._outstanding else 0.0)
        return max(0.0, until_s - now_s)

    def take(
        self, now_s: float, known: CompiledByHash, views: ViewsOf, is_awaited: Callable[[Origin], bool]
    ) -> list[bytes]:
        """
        The lines that are to be written now, each with its end; they count as told.

        Args:
            is_awaited: Whether endpoints of an origin are to be reported as soon as they are in force.
        """
        self.wake.clear()
        lines = [write_line(line) for line in self._said]
        self._said.clear()
        lines += self._configuration(now_s, known)
        lines += self._endpoints(now_s, views, is_awaited)
        if self.is_over and self.moves:
            lines.append(write_line(Move()))
        return lines

    def knows(self, upstream: str) -> View | None:
        """What it was told of an upstream's endpoints."""
        return self._views.get(upstream)

    def is_behind(self, upstream: str, current: View, now_s: float) -> bool:
        """Whether its sidecar should have said by now that it has these endpoints of an upstream, and has not."""
        if self.in_force.get(upstream, "") == current.version:
            return False
        return self._views.get(upstream) is not current or now_s >= self._due_back_s[upstream]

    def _configuration(self, now_s: float, known: CompiledByHash) -> list[bytes]:
        goal = self.goal
        if not self.is_sure and (goal is None or goal.hash != self._has):
            return []
        if goal is None:
            if self.absent and self.absent != self._told_absent:
                self._told_absent = self.absent
                return [write_line(Absent(self.absent))]
            return []
        if goal == self._told or now_s < self.due_s:
            return []
        if self._outstanding and now_s < self._outstanding_s + ANSWER_S:
            return []
        file = known(goal.hash)
        if file is None:
            return []
        self._told, self._told_absent = goal, ""
        if goal.hash == self._has:
            self._outstanding = ""
            self.follow(known)
            return [write_line(Current(goal.revision, goal.hash))]
        self._outstanding, self._outstanding_s = goal.hash, now_s
        self.follow(known)
        return [write_line(Config(goal.revision, goal.hash, file.text))]

    def _endpoints(self, now_s: float, views_of: ViewsOf, is_awaited: Callable[[Origin], bool]) -> list[bytes]:
        lines = []
        confirmed_s = now_s + CONFIRMED_S
        for upstream in sorted(self._dirty):
            views = views_of(self.follows[upstream])
            if views is None or views.current is None:
                continue  # it comes
            base = self._views.get(upstream)
            if base is None:
                # What it said at the beginning holds until it was told something; who then followed something else for
                # a while may have kept it or not, and is told everything.
                said = "" if upstream in self._was_told else self.watch.endpoints.get(upstream, "")
                base = views.of(said) if said else None
                is_of_another = base is None
            else:
                is_of_another = self._told_of[upstream] is not views
            if is_of_another and not views.is_sure and self._holds(upstream, base):
                continue  # it knows more than we do, as far as we know
            self._dirty.discard(upstream)
            if upstream in self.watch.endpoints:
                self._was_told.add(upstream)
            if base is not views.current:
                is_soon = is_awaited(self.follows[upstream])
                lines.append(views.current.line(upstream, base, is_awaited=is_soon))
                self._due_back_s[upstream] = now_s if is_soon else confirmed_s
            else:
                self._due_back_s[upstream] = confirmed_s
            self._views[upstream], self._told_of[upstream] = views.current, views
        if not self._dirty:
            self._dirty = set()  # one that had many keeps the room for them
        return lines

    def _holds(self, upstream: str, told: View | None) -> bool:
        """Whether its sidecar may have endpoints of an upstream, from wherever they came."""
        if told is not None and told.entries:
            return True
        return self.in_force.get(upstream, _NOBODY) not in ("", _NOBODY)
