"""
When a sidecar that leaves is told `left`, wherever its callers are connected. *On the loop.*

Callers at this replica are known here. Those at others are known there: while a goodbye waits, all others are asked
(`POST /v1/here/goodbyes`) whether nobody of theirs sends requests to it any more. Invariant: nothing is said that is
not known.

    not known   a caller may be on its way: this replica began, or another one went, less than `RETURN_S` ago
    not asked   a replica that has come since: all are listed anew once the removal is written, which is before whoever
                begins after that can read anything else
    applied     all others have said so in two rounds, one after the other. A caller that moves is at neither side for a
                moment: the one it left expects it back until it has heard where it is, and then that one, asked after
                that, knows whether it has applied

A replica that does not answer, or is of a release that is not asked this, has not said so: the drain takes its delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from sidecar.control.discovery.discovery import RETURN_S, Discovery
from sidecar.control.discovery.registry import Registry
from sidecar.control.push.goodbyes import Goodbyes, has
from sidecar.control.push.hub import Hub
from sidecar.control.push.stream import Stream
from sidecar.control.replicas.peers import PeerError, Peers
from sidecar.link.fields import Fields, MessageError, decode
from sidecar.link.messages import Left, endpoints_version
from sidecar.link.report import MAX_PORTS

ROUND_S: Final = 0.2
"""Between two rounds of questions."""
ANSWER_S: Final = 1.0
"""In which others answer: drains are short."""
ROUNDS: Final = 2
MAX_ASKED: Final = 256
"""Goodbyes in one question; what is more comes with a later one."""
_MAX_REPLICAS: Final = 64
_NOBODY: Final = endpoints_version(())


@dataclass(frozen=True, slots=True)
class _Left:
    instance: str
    service: str
    addresses: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        return {"instance": self.instance, "service": self.service, "addresses": sorted(self.addresses)}


class Leaving:
    """
    Args:
        name: Of this replica.
        hub: Streams that are here.
        discovery: What callers are told.
        registry: Who is registered, as far as is known here.
        peers: The other replicas.
        is_written: Whether the engine has what was said last of an instance.
        look: Lists the replicas anew, whom `peers` and `looked` are told; whether the engine answered.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.
        is_alone: Whether there can be no other replica. Otherwise one may have begun a moment ago, of which nobody here
            has heard, and nothing is applied before they were listed.
    """

    def __init__(
        self,
        name: str,
        hub: Hub,
        discovery: Discovery,
        registry: Registry,
        peers: Peers,
        is_written: Callable[[str], bool],
        look: Callable[[], Awaitable[bool]],
        clock: Callable[[], float],
        now_s: Callable[[], float],
        *,
        is_alone: bool,
    ) -> None:
        self._name = name
        self._is_alone = is_alone
        self._hub = hub
        self._discovery = discovery
        self._registry = registry
        self._peers = peers
        self._is_written = is_written
        self._look = look
        self._clock = clock
        self._now_s = now_s
        self._goodbyes = Goodbyes()
        self._had_time = False
        self._from_before: set[str] = set()
        self._others: frozenset[str] = frozenset()
        self._went_s = -RETURN_S
        self._unheard: set[str] = set()
        self._listed: set[str] = set()
        self._rounds: dict[str, int] = {}
        self._confirmed: frozenset[str] = frozenset()
        self._has_work = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._goodbyes)

    # --- what happens ---------------------------------------------------------------------------------------------

    def known_before(self, instances: Iterable[str]) -> None:
        """These were there before this process began, so that callers may know of them that have not returned."""
        if not self._had_time:
            self._from_before.update(instances)

    def had_time(self) -> None:
        """`RETURN_S` have passed since the start."""
        self._had_time = True
        self._from_before.clear()

    def looked(self, replicas: Iterable[str] | None) -> None:
        """These replicas live; None: that is not known."""
        if replicas is None:
            self._went_s = self._clock()
            return
        others = frozenset(replicas) - {self._name}
        if self._others - others:
            self._went_s = self._clock()
        self._others = others

    def opened(self, stream: Stream) -> None:
        """A stream or a poll begins."""
        watch = stream.watch
        was_poll = self._goodbyes.returned(watch.instance)
        # What it knows of endpoints need not all be in the question; it says so in its first report.
        if watch.config and not was_poll:
            self._unheard.add(watch.instance)

    def reported(self, instance: str) -> None:
        """It said which endpoints it has."""
        self._unheard.discard(instance)

    def closed(self, stream: Stream, *, is_poll: bool, is_leaving: bool) -> None:
        """A stream ended, or a poll is answered; `is_leaving`: of who said goodbye."""
        if is_leaving:
            self._unheard.discard(stream.watch.instance)
        else:
            self._goodbyes.ended(stream, self._clock(), is_poll=is_poll)

    def heard(self) -> None:
        """Another replica told of its sidecars: those that have a stream there are not on their way any more."""
        now_s, now_unix_s = self._clock(), self._now_s()
        ended = {stream.watch.instance: stream for stream in self._goodbyes.between(now_s)}
        if not ended:
            return
        for summary in self._peers.summaries:
            for one in summary.instances:
                stream = ended.get(one.id)
                # It may say so of a stream before the one that ended here.
                if stream and one.is_connected and one.connected_s > now_unix_s - (now_s - stream.opened_s):
                    self._goodbyes.returned(one.id)

    def forget(self, instance: str) -> None:
        """It has returned."""
        self._goodbyes.forget(instance)
        self._listed.discard(instance)
        self._rounds.pop(instance, None)

    def goodbye(self, instance: str, service: str, addresses: Iterable[str]) -> bool:
        """It leaves, and is registered no more; whether everybody has applied that."""
        left = _Left(instance, service, frozenset(addresses))
        all_seen = self._sees_all() and self._was_not_before(instance) and self._has_no_others
        is_applied = all_seen and not self._is_used(left)
        if self._goodbyes.begin(instance, service, left.addresses, self._clock(), is_applied=is_applied):
            return True
        self._has_work.set()
        return False

    def tell(self) -> None:
        """Say `left` to whom it is true of."""
        if not len(self):
            return
        strays = self._strays()
        for instance in self._goodbyes.applied(self._clock(), lambda instance: self._is_applied(instance, strays)):
            stream = self._hub.get(instance)
            if stream is not None:
                stream.say(Left())

    def sweep(self) -> None:
        """What passes with time; about once a second."""
        now_s = self._clock()
        self._goodbyes.sweep(now_s)
        if self._unheard:
            expected = {stream.watch.instance for stream in self._goodbyes.between(now_s)}
            self._unheard = {one for one in self._unheard if one in expected or self._hub.get(one) is not None}
        self.tell()

    # --- who has applied what -------------------------------------------------------------------------------------

    @property
    def _has_no_others(self) -> bool:
        """Whether there is and can be no other replica."""
        return self._is_alone and not self._others

    def _sees_all(self) -> bool:
        """Whether no caller may be on its way here from a replica that went."""
        return self._clock() - self._went_s >= RETURN_S

    def _was_not_before(self, instance: str) -> bool:
        """Whether nobody can know of it who has not come here since the start."""
        return self._had_time or instance not in self._from_before

    def _is_applied(self, instance: str, strays: set[str]) -> bool:
        """Of one that waits, whether all others have it that may know of it but those which were there at first."""
        if not (self._sees_all() and self._was_not_before(instance)):
            return False
        if not self._has_no_others and instance not in (self._confirmed if self._others else self._listed):
            return False
        left = self._left(instance)
        return left is not None and not self._is_held(left, strays)

    def _left(self, instance: str) -> _Left | None:
        goodbye = self._goodbyes.get(instance)
        return _Left(instance, goodbye.service, goodbye.addresses) if goodbye is not None else None

    def _is_held(self, left: _Left, strays: set[str]) -> bool:
        """
        Whether another one that is here, or is expected back, may send requests to it, now or a moment later.

        Args:
            strays: Services of which somebody has endpoints for reasons that are not known here.
        """
        if left.service in strays:
            return True
        for _, views in self._discovery.of_service(left.service):
            if views.current is not None and not left.addresses.isdisjoint(views.current.entries):
                return True
        return self._is_used(left)

    def _is_used(self, left: _Left) -> bool:
        """Whether one of those that follow its service may send requests to it by what they were told until now."""
        following = (self._hub.following(origin) for origin, _ in self._discovery.of_service(left.service))
        for stream in chain(self._goodbyes.between(self._clock()), *following):
            caller = stream.watch.instance
            for upstream, origin in stream.follows.items() if caller != left.instance else ():
                if origin.service != left.service:
                    continue
                known = self._discovery.views(origin)
                if caller in self._unheard or known is None or has(stream, upstream, known, left.addresses):
                    return True
        return False

    def _strays(self) -> set[str]:
        found: set[str] = set()
        for stream in (*self._hub, *self._goodbyes.between(self._clock())):
            for upstream in stream.in_force.keys() - stream.follows.keys():
                if stream.in_force[upstream] not in ("", _NOBODY):
                    # The name of an upstream begins with that of its service, which has no dot.
                    found.add(upstream.partition(".")[0])
        return found

    def answer(self, fields: Fields) -> dict[str, Any]:
        """
        What another replica is answered: which of the goodbyes that wait there nobody here has to hear of any more.

        Raises:
            MessageError: The question is not of this form.
        """
        asked = [_read(one) for one in fields.objects("goodbyes", MAX_ASKED)]
        strays = self._strays()
        applied = [
            one.instance
            for one in asked
            if self._registry.get(one.instance) is None
            and (self._had_time or (self._registry.has_copy and one.instance not in self._from_before))
            and not self._is_held(one, strays)
        ]
        # Who moved was heard of there: that replica must be asked, too.
        return {"applied": applied, "replicas": sorted(self._others)}

    # --- the others -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask the others while somebody waits; ends only by being cancelled."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while asked := self._to_ask():
                await self._round(asked)
                await asyncio.sleep(ROUND_S)
            self._rounds.clear()
            self._listed.clear()

    def _to_ask(self) -> list[_Left]:
        """Those that wait for the others, and are here to be told."""
        if self._has_no_others:
            return []
        here = (instance for instance in self._goodbyes.waiting if self._hub.get(instance) is not None)
        return [left for left in map(self._left, here) if left is not None]

    async def _round(self, asked: list[_Left]) -> None:
        strays = self._strays()
        ready = [one for one in asked if self._is_written(one.instance) and not self._is_held(one, strays)][:MAX_ASKED]
        names = {one.instance for one in ready}
        self._rounds = {name: number for name, number in self._rounds.items() if name in names}
        if not ready:
            return
        if not names <= self._listed:
            if not await self._look():
                return
            self._listed |= names
        body = {"goodbyes": [one.to_json() for one in ready]}
        others = self._others
        for said in await asyncio.gather(*(self._ask(name, body, others) for name in others)):
            names &= said
        self._rounds = {name: self._rounds.get(name, 0) + 1 for name in names}
        self._confirmed = frozenset(name for name, number in self._rounds.items() if number >= ROUNDS)
        self.tell()
        # True of now, and not of later.
        self._rounds = {name: number for name, number in self._rounds.items() if name not in self._confirmed}
        self._confirmed = frozenset()

    async def _ask(self, name: str, body: Mapping[str, Any], others: frozenset[str]) -> frozenset[str]:
        """What another replica says is applied; nothing, if it does not say so."""
        try:
            said = decode(await self._peers.ask(name, "goodbyes", ANSWER_S, body))
            is_known = others.issuperset(set(said.texts("replicas", _MAX_REPLICAS)) - {self._name})
            return frozenset(said.texts("applied", MAX_ASKED)) if is_known else frozenset()
        except (PeerError, MessageError):
            return frozenset()


def _read(fields: Fields) -> _Left:
    return _Left(fields.text("instance"), fields.text("service"), frozenset(fields.texts("addresses", MAX_PORTS)))
