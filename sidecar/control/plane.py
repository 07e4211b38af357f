"""
The control plane without its sockets: what happens when a sidecar opens a stream, reports or leaves, when the mesh's
files change, and when time passes. *On the loop.*

    files --> Follower --> Rollouts --(wanted)--> Hub --(lines)--> streams
    reports --> Fleet, Registering --> Registry --> Discovery --(endpoints)--> Hub
                Edges <-- what was counted            Doubt <-- time
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sidecar import __version__
from sidecar.control.asks import Asks
from sidecar.control.calls.callers import Names
from sidecar.control.calls.edges import Edges
from sidecar.control.discovery.discovery import RETURN_S, Discovery
from sidecar.control.discovery.registry import DoubtKey, Registry, doubt_key
from sidecar.control.discovery.sources import own_discoverers
from sidecar.control.doubt import Doubt
from sidecar.control.engines.interface import Engine, EngineError, Replica, Trouble
from sidecar.control.fleet import Fleet, FleetError, Member
from sidecar.control.push.hub import SPREAD_S, Hub
from sidecar.control.push.leaving import Leaving
from sidecar.control.push.stream import Stream
from sidecar.control.registering import Registering
from sidecar.control.replicas.differences import Teller
from sidecar.control.replicas.peers import Peers
from sidecar.control.replicas.whole import Whole
from sidecar.control.revision.compiled import Origin
from sidecar.control.revision.compiler import Compiler, CompilerError
from sidecar.control.revision.follower import Follower
from sidecar.control.revision.pushes import Pushes
from sidecar.control.revision.rollouts import Rollouts
from sidecar.control.sight import Sight
from sidecar.control.storing import EVERY, NotStored, Storing
from sidecar.link.messages import Watch
from sidecar.link.report import Refused, Report
from sidecar.mesh.told import IDENTITY
from sidecar.process_log import event

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
SOON_S: Final = 0.1
"""After a report that may let a rollout go on; others are likely to follow."""
SOON_STEPS: Final = 4.0
"""The same, in the time that the look before took: all sidecars are looked at, whichever has answered."""
ANNOUNCE_S: Final = 5.0
_SWEEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How a control plane runs.

    Attributes:
        replica: Its name; no other has it.
        address: URL at which other replicas reach it; empty if it is alone.
        token: Gives what this replica shows to others as bearer token; empty: nothing.
        spread_s: Over which a push that concerns many is spread.
        is_now: Whether rollouts skip their waves.
        has_identity: Whether the mesh's sidecars have identities.
    """

    replica: str = "control"
    address: str = ""
    spread_s: float = SPREAD_S
    is_now: bool = False
    token: Callable[[], str] = str
    has_identity: bool = IDENTITY


class Plane:
    """
    Args:
        engine: Keeps what outlives it.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.

    Attributes:
        broken: Set when a part of it ended by a fault, and all of it should.
        removed: How often doubt ended with somebody's removal.
        authority: What is shown of the mesh's authority; None where there is none.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings = Settings(),
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.started_s = now_s()
        self.clock = clock
        self.now_s = now_s
        self.doubt: Doubt[DoubtKey] = Doubt(clock)
        self.fleet = Fleet(clock, now_s)
        self.edges = Edges(now_s)
        self._caller_names = Names(None)
        self.registry = Registry(self.doubt, self._on_service)
        self.compiler = Compiler(settings.has_identity)
        self.rollouts = Rollouts(engine, now_s, self._on_targets, self._running, is_now=settings.is_now)
        self.discovery = Discovery(
            self.registry, self.doubt, {**own_discoverers(), **engine.discoverers}, self._on_origins, clock
        )
        self.hub = Hub(self.rollouts, self.rollouts.known, self.discovery.views, clock, settings.spread_s)
        self._storing = Storing(now_s)
        self.peers = Peers(settings.replica, settings.token, clock, now_s)
        self.sight = Sight(
            self.fleet, self.registry, self.doubt, self.peers, settings.replica, self.rollouts.is_outdated, clock
        )
        self.follower = Follower(engine, self.compiler, self.rollouts, self._storing, self.sight.view, now_s)
        self.pushes = Pushes(engine, self.compiler, self.rollouts, self.follower, self.sight.view)
        self.registering = Registering(self.registry, engine.registrations, self._storing, settings.replica, now_s)
        self.asks = Asks(self.hub)
        self.replicas: tuple[Replica, ...] = ()
        self.leaving = Leaving(
            settings.replica, self.hub, self.discovery, self.registry, self.peers, self.registering.is_written,
            self._look, clock, now_s, is_alone=engine.name == "files",
        )  # fmt: skip
        self.teller = Teller()
        self.whole = Whole(self.peers, self.edges, self.asks, clock, now_s)
        self.authority: Callable[[], dict[str, Any] | None] = lambda: None
        self.removed = 0
        self.is_draining = False
        self.broken = asyncio.Event()
        self._opened_s = clock()
        self._had_time = False
        self._tasks: list[asyncio.Task[None]] = []
        self._to_translate: set[asyncio.Task[None]] = set()
        self._step_soon = asyncio.Event()
        self._to_confirm = asyncio.Event()
        self._swept_s = clock()

    async def open(self) -> None:
        """
        Begin.

        Raises:
            EngineError: The engine cannot work.
        """
        await self.engine.open()
        await self.rollouts.open()
        self.discovery.use(self.rollouts.origins())
        await self._announce()
        works: dict[str, Coroutine[Any, Any, None]] = {
            "registrations": self._follow_registrations(),
            "registering": self.registering.run(),
            "record": self.rollouts.follow(),
            "mover": self.engine.mover.campaign(),
            "mesh": self.follower.run(),
            "announce": self._announce_forever(),
            "replicas": self.peers.run(self._on_peer),
            "leaving": self.leaving.run(),
            "confirming": self._confirm_forever(),
            "tick": self._tick_forever(),
            "steps": self._step_forever(),
        }
        self._tasks = [asyncio.create_task(self._watched(name, work), name=name) for name, work in works.items()]

    async def close(self) -> None:
        """End everything; what waits for the engine is written as far as it can be."""
        for task in (*self._tasks, *self._to_translate):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._to_translate, return_exceptions=True)
        await self.discovery.close()
        await self.registering.finish()
        with suppress(EngineError):
            await self.engine.replicas.leave(self.settings.replica)
        await self.engine.close()
        await self.compiler.close()

    def why_not_ready(self) -> str:
        """Why no sidecar should be sent here; empty if they may."""
        if self.is_draining:
            return "draining"
        if self.rollouts.revision:
            return ""
        if self.follower.trouble:
            return self.follower.trouble
        for one in self.not_stored():
            if one.what == "revision":
                return f"what is wanted could not be written: {one.error}"
        return "the mesh's files have problems" if self.follower.problems else "the mesh's files are not read yet"

    @property
    def caller_names(self) -> Names:
        """By which people see who asked, by the mesh as it is judged now."""
        if self._caller_names.judged is not self.rollouts.judged:
            self._caller_names = Names(self.rollouts.judged)
        return self._caller_names

    def not_stored(self) -> tuple[NotStored, ...]:
        """What the engine does not take just now. It is in memory, is served from there, and is tried again."""
        found = (self.registering.not_stored if what == "registrations" else self._storing.get(what) for what in EVERY)
        return tuple(one for one in found if one is not None)

    # --- streams and reports --------------------------------------------------------------------------------------

    def opened(self, watch: Watch, peer: str) -> Stream:
        """A stream begins. Raises FleetError."""
        self._check_name(watch.instance, watch.service)
        self._note_before(watch.instance, has_file=bool(watch.config))
        member = self.fleet.opened(watch, peer)
        older = self.hub.get(watch.instance)
        if older is not None:
            logger.info(event("stream_replaced", service=watch.service, instance=watch.instance, peer=peer))
        stream = self.hub.open(watch, member.report.running.hash if member.report is not None else "")
        self.leaving.opened(stream)
        if self.rollouts.is_outdated(member.service, member.language):
            logger.warning(
                event("sidecar_outdated", service=watch.service, instance=watch.instance, release=watch.release,
                      language=watch.language, needed=self.rollouts.needs(watch.service))
            )  # fmt: skip
        if stream.doubt():
            self._to_confirm.set()
        self._heard(member)
        return stream

    def closed(self, stream: Stream, why: str) -> None:
        """A stream ended; why, but for a poll, which ends all the time."""
        watch = stream.watch
        if not self.hub.close(stream):
            return
        if why:
            logger.info(event("stream_closed", service=watch.service, instance=watch.instance, reason=why))
        member = self.fleet.get(watch.instance)
        self.leaving.closed(stream, is_poll=not why, is_leaving=member is not None and member.is_draining)
        self.fleet.closed(watch.instance)
        self.registering.lost(watch.instance)
        self.sight.returning.discard(watch.instance)
        self.leaving.tell()

    def reported(self, report: Report, peer: str, peer_is_local: bool) -> dict[str, Any]:
        """
        A sidecar says how it is; what it is answered. Raises FleetError.

        Args:
            peer: Its address, for people.
            peer_is_local: Whether that is loopback.
        """
        self._check_name(report.instance, report.service)
        self._note_before(report.instance, has_file=bool(report.running.hash))
        before = self.fleet.get(report.instance)
        last = before.report if before is not None else None
        member, is_new = self.fleet.reported(report, peer)
        if is_new and report.edges:
            self.edges.add(report.service, report.instance, self._callee_of, report.edges)
        if is_new and report.asked:
            self.edges.add_asked(report.service, self.caller_names.of, report.asked)
        self._on_refused(member, last.refused if last is not None else None, report.refused)
        stream = self.hub.get(member.id)
        refused = report.refused.hash if report.refused is not None else ""
        self.leaving.reported(member.id)
        if stream is not None:
            self.hub.on_report(stream, report.running.hash, refused, report.endpoints)
        if last is None or last.running.hash != report.running.hash or last.refused != report.refused:
            self._step_soon.set()
        if report.is_goodbye:
            answer = self._on_goodbye(member, report)
        else:
            self.leaving.forget(member.id)
            self.registering.reported(member, report, peer_is_local)
            self.sight.returning.discard(member.id)
            if stream is None:
                # It lives, but holds no stream: it has as long from now as one whose stream is lost.
                self.registering.lost(member.id)
            answer = {"problems": list(member.problems)} if member.problems else {}
        self.leaving.tell()
        return answer

    def _check_name(self, instance: str, service: str) -> None:
        """The fleet knows whose a name is here; the registrations, whose it was before a start, or is elsewhere."""
        known = self.registry.get(instance)
        if known is not None and known.service != service and not self.doubt.is_stale(doubt_key(instance)):
            raise FleetError.of_another(instance)

    def _on_goodbye(self, member: Member, report: Report) -> dict[str, Any]:
        known = self.registering.left(member.id)
        if known is not None:
            logger.info(event("goodbye", service=known.service, instance=known.instance))
        # Another replica may have heard it before, or nobody was ever told of it.
        ports = known.ports if known is not None else report.ports
        is_applied = self.leaving.goodbye(member.id, member.service, (port.address for port in ports.values()))
        return {"left": True} if is_applied else {}

    def _note_before(self, instance: str, *, has_file: bool) -> None:
        """One that comes with a file was told it before the start, unless it was here already."""
        if has_file and not self._had_time and self.fleet.get(instance) is None:
            self.leaving.known_before((instance,))

    def _heard(self, member: Member) -> None:
        known = self.registry.get(member.id)
        if known is not None and self.doubt.heard(doubt_key(member.id)):
            logger.info(event("returned", service=known.service, instance=known.instance))
            self.discovery.service_changed(known.service)

    def _on_refused(self, member: Member, before: Refused | None, now: Refused | None) -> None:
        if now is None or now == before:
            return
        first = now.problems[0].message if now.problems else ("it crashed" if now.has_crashed else "")
        logger.warning(
            event("sidecar_refused", service=member.service, instance=member.id, hash=now.hash, problem=first)
        )
        plain = tuple(
            {
                "file": "", "line": one.line, "column": one.column, "path": one.path, "message": one.message,
                "hint": one.hint, "severity": "error",
            }
            for one in now.problems
        )  # fmt: skip
        member.refused = plain
        if plain:
            task = asyncio.create_task(self._translate(member, now, plain))
            self._to_translate.add(task)
            task.add_done_callback(self._to_translate.discard)

    async def _translate(self, member: Member, refused: Refused, plain: tuple[dict[str, Any], ...]) -> None:
        with suppress(CompilerError):
            found = await self.compiler.translate(member.service, refused.hash, plain)
            if member.refused is plain:
                member.refused = found

    def _callee_of(self, upstream: str) -> str:
        # The name of an upstream begins with that of its service, which has no dot.
        return upstream.partition(".")[0] or "-"

    # --- what changes ---------------------------------------------------------------------------------------------

    def _on_service(self, service: str) -> None:
        self.discovery.service_changed(service)

    def _on_origins(self, origins: Collection[Origin]) -> None:
        self.hub.origins_changed(origins)

    def _running(self) -> set[str]:
        return {member.report.running.hash for member in self.fleet if member.report is not None}

    def _on_targets(self) -> None:
        self.discovery.use(self.rollouts.origins())
        pushed = self.hub.targets_changed()
        if pushed:
            logger.info(event("pushing", revision=self.rollouts.revision, sidecars=pushed))

    async def _follow_registrations(self) -> None:
        async for change in self.engine.registrations.watch():
            if isinstance(change, Trouble):
                logger.warning(event("registrations_not_followed", error=change.error or "over"))
                continue
            had_copy = self.registry.has_copy
            self.registry.apply(change, self.settings.replica)
            is_first = self.registry.has_copy and not had_copy
            if is_first:
                self._know_from_before({one.instance for one in change.put})
            # Those who were here before the copy was read are no strangers; and that another replica lost one may be
            # written later than that it came here.
            self._hear_ours(None if is_first or change.is_snapshot else [one.instance for one in change.put])
            self.registering.restore(change, lambda instance: self.hub.get(instance) is not None)
            if is_first:
                self.discovery.surely()

    def _know_from_before(self, instances: set[str]) -> None:
        if not self._had_time:
            self.sight.returning = instances - {stream.watch.instance for stream in self.hub}
        self.leaving.known_before(instances)
        logger.info(event("registrations_known", instances=len(instances)))

    def _hear_ours(self, instances: Iterable[str] | None = None) -> None:
        """Of these, or of all, those that are connected here and not silent are heard of, whatever others say."""
        for member in self.fleet if instances is None else filter(None, map(self.fleet.get, instances)):
            if member.is_connected and not self.fleet.is_silent(member):
                self._heard(member)

    async def _announce(self) -> None:
        ours = Replica(self.settings.replica, self.settings.address, __version__, self.now_s())
        try:
            await self.engine.replicas.announce(ours)
        except EngineError as error:
            self.leaving.looked(None)
            logger.warning(event("replicas_not_known", error=error))
        else:
            await self._look()

    async def _look(self) -> bool:
        """Know which replicas live; whether the engine has answered."""
        try:
            self.replicas = await self.engine.replicas.list()
        except EngineError as error:
            self.leaving.looked(None)
            logger.warning(event("replicas_not_known", error=error))
            return False
        names = [one.name for one in self.replicas]
        self.leaving.looked(names)
        self.peers.use(self.replicas)
        if self.registry.living(names, self.settings.replica):
            self._hear_ours()
        return True

    def _on_peer(self) -> None:
        """Another replica has told of its sidecars."""
        self.leaving.heard()
        self._step_soon.set()

    async def _announce_forever(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_S)
            await self._announce()

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """What passes with time; about once a second."""
        now_s = self.clock()
        for member in self.fleet.silent():
            self.registering.lost(member.id)
        if not self._had_time and now_s - self._opened_s >= RETURN_S:
            self._had_time = True
            self.sight.returning.clear()
            self.leaving.had_time()
            self.discovery.surely()
        self._judge()
        self.leaving.sweep()
        if now_s - self._swept_s >= _SWEEP_S:
            self._swept_s = now_s
            self.fleet.sweep()
            self.edges.sweep()
            self.whole.hours.sweep()

    def _judge(self) -> None:
        was_removing = self.doubt.is_removing
        swept = self.doubt.sweep()
        for name, rest in swept.stale:
            logger.warning(event("stale", source=name or "registered", what=rest))
        self.discovery.judged(swept.stale, are_removed=False)
        self.discovery.judged(swept.removed, are_removed=True)
        for name, rest in swept.removed:
            self.removed += 1
            logger.warning(event("removed", source=name or "registered", what=rest))
            if not name:
                self.registering.left(rest)
        for name, rest in swept.stale:
            if not name:
                # One that did not return to us after a restart: other replicas believe that we hold it.
                self.registering.lost(rest)
        if was_removing and not self.doubt.is_removing:
            logger.error(
                event("removal_suspended", fresh=self.doubt.fresh, stale=self.doubt.stale,
                      why="too many are stale at once: the fault is taken to be ours")
            )  # fmt: skip
        elif self.doubt.is_removing and not was_removing:
            logger.info(event("removal_resumed", fresh=self.doubt.fresh, stale=self.doubt.stale))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    async def _step_forever(self) -> None:
        """Let rollouts go on: soon after something that may let them, and about once a second in any case."""
        took_s = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._step_soon.wait()
                await asyncio.sleep(max(SOON_S, SOON_STEPS * took_s))
            self._step_soon.clear()
            began_s = self.clock()
            try:
                await self.rollouts.advance(self.sight.view())
            except EngineError as error:
                self._storing.failed("rollouts", error)
                logger.error(event("rollout_not_advanced", error=error))
            else:
                self._storing.written("rollouts")
            took_s = self.clock() - began_s

    async def _confirm_forever(self) -> None:
        """
        Read the record before a sidecar that came with another file is told one: this replica may have been cut off
        from the engine, and know less than the one that it comes from. Without the engine it keeps what it has.
        """
        error_before = ""
        while True:
            await self._to_confirm.wait()
            self._to_confirm.clear()
            streams = [stream for stream in self.hub if not stream.is_sure]
            try:
                await self.rollouts.confirm()
            except EngineError as error:
                if str(error) != error_before:
                    error_before = str(error)
                    logger.warning(event("record_not_confirmed", sidecars=len(streams), error=error))
                await asyncio.sleep(TICK_S)
                self._to_confirm.set()
                continue
            error_before = ""
            for stream in streams:
                stream.assure()

    async def _watched(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            # A fault of ours. Half a control plane is worse than none: sidecars go on without, and it is started again.
            logger.exception("control_broken task=%s", name)
            self.broken.set()
