"""
Answers of the whole mesh: what this replica knows, and what the others say when they are asked. *On the loop.*

All others are asked at once, each for what it knows at first hand, and waited for no longer than `WAIT_S`; who is not
seen is not waited for at all. What came is told, with who is missing in it and why.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sidecar.control.asks import PATIENCE_S, TIMEOUT_S, AskError, Asks, NotHereError
from sidecar.control.calls.counted import Tally
from sidecar.control.calls.edges import SLOT_S, Edges
from sidecar.control.replicas.hours import Hours, Rows, read_rows
from sidecar.control.replicas.peers import PeerError, Peers
from sidecar.control.replicas.tallies import Window, joined, read_tallies, read_window
from sidecar.link.fields import MessageError, decode

WAIT_S: Final = 1.5
"""For who hangs: people look every two seconds."""
FORGET_S: Final = 10.0
"""After which one that did not answer is waited for again."""

_T = TypeVar("_T")
Missing = dict[str, str]
"""Replicas that an answer lacks, by name, and why."""


@dataclass(frozen=True, slots=True)
class _Kept:
    at_s: float
    window: Window


class Whole:
    """
    Args:
        peers: The other replicas.
        edges: What this one's sidecars counted.
        asks: Questions to this one's sidecars.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.
    """

    def __init__(
        self, peers: Peers, edges: Edges, asks: Asks, clock: Callable[[], float], now_s: Callable[[], float]
    ) -> None:
        self._peers = peers
        self._edges = edges
        self._asks = asks
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._slow: dict[str, float] = {}
        self._window_at_a_time = asyncio.Lock()
        self._hour_at_a_time = asyncio.Lock()
        self.hours = Hours(edges, now_s)

    async def window(self) -> tuple[Window, Missing]:
        """
        What all sidecars counted of their calls and of who asked in the last minute, and who is missing.

        What another replica said stands for `SLOT_S`, by which its own minute moves: many may look at once.
        """
        async with self._window_at_a_time:
            old_s = self._clock() - SLOT_S
            asked = [name for name in self._peers.names if (kept := self._kept.get(name)) is None or kept.at_s <= old_s]
            found, missing = await self._all("edges", read_window, asked)
            now_s = self._clock()
            self._kept |= {name: _Kept(now_s, window) for name, window in found.items()}
            for name in self._kept.keys() - (set(self._peers.names) - missing.keys()):
                del self._kept[name]
            heard = [one.window for one in self._kept.values()]
            edges = joined((self._edges.window("outbound"), *(one.edges for one in heard)))
            counted = Counter(self._edges.asked())
            for one in heard:
                counted.update(one.asked)
            return Window(edges, counted), missing

    async def of_instances(self, service: str) -> tuple[dict[str, Tally], Missing]:
        """What instances of a service answered in the last minute, by their names, and who is missing."""

        def read(raw: bytes) -> dict[str, Tally]:
            return {key[0]: tally for key, tally in read_tallies(decode(raw).all().get("rows"), 1)}

        found, missing = await self._all(f"instances?service={quote(service, safe='')}", read)
        return joined((self._edges.of_instances(service), *found.values())), missing

    async def history(self, minutes: int) -> tuple[dict[str, Any], Missing]:
        """`/v1/history` of all, and who is missing in some of its minutes."""
        async with self._hour_at_a_time:
            names = [name for name in self._peers.names if self._peers.is_seen(name)]
            missing: Missing = {name: self._peers.unseen_why(name) for name in self._peers.names if name not in names}
            for first, last in self.hours.lacking(minutes, names):
                found, missed = await self._hour(names, first, last)
                missing |= missed
                names = [name for name in names if name not in missed]
                await self.hours.join(first, last, found)
            return await asyncio.to_thread(self.hours.told, minutes), missing

    async def ask(self, instance: str, kind: str, body: Mapping[str, Any]) -> Any:
        """
        What a sidecar answers, whichever replica has its stream.

        Raises:
            AskError: There is no answer.
        """
        try:
            return await self._asks.ask(instance, kind, body)
        except NotHereError:
            pass
        summaries = self._peers.by_name
        has_it = [
            name
            for name, summary in summaries.items()
            if any(one.id == instance and one.is_connected for one in summary.instances)
        ]
        said = {**body, "instance": instance, "kind": kind}
        # Who has it as far as is known; it may have come to another one since.
        for name in (*has_it, *(name for name in summaries if name not in has_it)):
            wait_s = PATIENCE_S.get(kind, TIMEOUT_S) + WAIT_S if name in has_it else WAIT_S
            try:
                answer = decode(await self._peers.ask(name, "ask", wait_s, said)).all()
            except PeerError as error:
                if name in has_it and error.status != NotHereError.STATUS:
                    raise AskError(f"the control plane {name}, to which it is connected: {error}") from None
                continue
            except MessageError as error:
                raise AskError(f"the control plane {name}: {error}") from None
            if "error" in answer:
                raise AskError(str(answer["error"])[:1000])
            return answer.get("answer")
        unseen = [name for name in self._peers.names if name not in summaries]
        raise NotHereError("no such instance is connected" + (f"; not seen: {', '.join(unseen)}" if unseen else ""))

    async def _all(
        self, path: str, read: Callable[[bytes], _T], names: Iterable[str] | None = None
    ) -> tuple[dict[str, _T], Missing]:
        asked = list(self._peers.names if names is None else names)
        answers = await asyncio.gather(*(self._one(name, path, read) for name in asked))
        return _parted(asked, answers)

    async def _hour(self, names: Iterable[str], first: int, last: int) -> tuple[dict[str, Rows], Missing]:
        async def one(name: str) -> Rows | PeerError:
            # Its minutes are those of its own clock.
            moved = round(self._peers.ahead_s(name) / 60)
            path = f"history?first={first + moved}&last={last + moved}"
            return await self._one(name, path, lambda raw: read_rows(raw, -moved))

        asked = list(names)
        return _parted(asked, await asyncio.gather(*map(one, asked)))

    async def _one(self, name: str, path: str, read: Callable[[bytes], _T]) -> _T | PeerError:
        if self._clock() < self._slow.get(name, float("-inf")):
            return PeerError("it did not answer in time just now")
        try:
            raw = await self._peers.ask(name, path, WAIT_S)
        except PeerError as error:
            if error.is_late:
                self._slow[name] = self._clock() + FORGET_S
            return error
        try:
            return await asyncio.to_thread(read, raw)
        except MessageError as error:
            return PeerError(str(error))


def _parted(names: list[str], answers: Iterable[_T | PeerError]) -> tuple[dict[str, _T], Missing]:
    found: dict[str, _T] = {}
    missing: Missing = {}
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, PeerError):
            missing[name] = str(answer)
        else:
            found[name] = answer
    return found, missing
