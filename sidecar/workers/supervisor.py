"""
The process above the workers: it owns what they share, and speaks for them. *Cold; no request passes through it.*

    INITIALIZING --all workers have the first file--> LIVE --SIGTERM, /drain, /quitquitquit--> DRAINING --> exit 0
         |                                              |                                         ^
         +-- file bad, port taken: exit 1               +-- SIGINT at any time: exit 0 at once ---+

It follows the file, has it compiled once and forwards the frames verbatim; it has the metrics and admin listeners; it
keeps the sockets of the others, and lends them. A drain is the workers' own (`runtime.server`), but that outbound of
all stays open until inbound of all has come to rest, and the app, if it is a child, has ended.

If this process dies, its workers see it, drain and end: whoever restarts it finds the ports free again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from sidecar import __version__
from sidecar.admin.endpoints import Endpoints
from sidecar.config.problems import Problem
from sidecar.config.source import SourceWatch
from sidecar.runtime.admin_door import AdminDoor
from sidecar.runtime.companion import FORWARDED, Companion
from sidecar.runtime.frames import FrameError, Header, PlanSource, PlanSourceError, Wanted, read_header, read_problems
from sidecar.runtime.listeners import Change, Door, ListenerError, Listeners, ListenerSpec, Role
from sidecar.runtime.outcome import Outcome
from sidecar.runtime.process_log import event
from sidecar.runtime.takeover import Offer, Predecessor, TakeoverError, meeting_point
from sidecar.telemetry.standing import Configuration
from sidecar.workers.channel import Key
from sidecar.workers.group import Group
from sidecar.workers.sockets import SocketChange, SocketError, Sockets
from sidecar.workers.views import GroupViews

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
EXIT_FAILED = 1

POLL_PERIOD_S = 0.5
"""As `runtime.reload` looks at the file."""

OFFER_PERIOD_S = 1.0

STOP_SLACK_S = 5.0
"""What a worker gets beyond `drain.timeout` before it is killed."""
INTERRUPT_LIMIT_S = 3.0

_OWN = (Role.METRICS, Role.ADMIN)


class RefusedError(Exception):
    """A configuration is not put in force, for something that is not in the file; the message is one line."""


class Supervisor:
    """
    The supervisor.

    Args:
        path: Of the file.
        env: Of the processes.
        source: Has the configuration, of always as many workers.
        loop: The loop of this process.
        count: How many workers there are to be.
        takes_over: Inherit the sockets of the sidecar that has the same admin address, if there is one.
        companion: The app, if it is to be this process's child.

    Attributes:
        state: INITIALIZING, LIVE or DRAINING, as of a single process.
        started_s: Seconds since the Unix epoch.
        group: The workers.
        listeners: Metrics and admin.
        last: Outcome of the last load; None before the first.
        last_good: Outcome of the last load that succeeded.
    """

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        source: PlanSource,
        loop: asyncio.AbstractEventLoop,
        *,
        count: int,
        takes_over: bool = False,
        companion: Companion | None = None,
    ) -> None:
        self.path = path
        self.env = env
        self.count = count
        self.state = "INITIALIZING"
        self.started_s = time.time()
        self.last: Outcome | None = None
        self.last_good: Outcome | None = None
        self.configuration = Configuration()
        self.sockets = Sockets(count)
        self.group = Group(path, env, count, self.sockets)
        self.wanted: tuple[Wanted, ...] = ()
        self._source = source
        self._loop = loop
        self._views = GroupViews(self)
        self.listeners = Listeners(loop, self._door_for)
        self.listeners.wants = lambda spec: spec.role in _OWN
        if takes_over:
            self.listeners.meet = self._meet
        self._offer = Offer(loop, lambda: [*self.listeners.current.values(), *self.sockets.offered()], self._on_taken)
        self._watch = SourceWatch(path)
        self._companion = companion
        self._generation = 0
        self._is_closed = False
        self._one_at_a_time = asyncio.Lock()
        self._quit = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- what others ask for -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Fail readiness and let inbound end in all workers; outbound and the processes stay."""
        if self.state != "LIVE":
            return
        self.state = "DRAINING"
        logger.info(event("drain_started", workers=len(self.group.live)))
        self._is_closed = True
        self.group.is_draining = True
        self._offer.close()
        # Before the workers close theirs, so that their closing is the last, and empties the backlogs.
        self.sockets.close((Role.INBOUND,))
        self.group.tell("drain")

    def quit(self) -> None:
        """Drain, then exit with 0."""
        self._quit.set()

    def interrupt(self) -> None:
        """Exit with 0 at once."""
        self._interrupt.set()

    def reopen(self) -> None:
        """Open the access log anew, in all workers."""
        self.group.tell("reopen")

    def _on_taken(self) -> None:
        """A successor serves: everything that comes from now on is its own, probes of health included."""
        if self.state == "DRAINING":
            return
        self.state = "DRAINING"
        logger.info(event("taken_over", timeout_s=self._drain_timeout_s()))
        self._is_closed = True
        self.group.end()
        self.listeners.close(_OWN, "takeover")
        self.sockets.close(tuple(Role))
        self.group.tell("taken")
        self._quit.set()

    # --- life --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """The whole life; returns the exit code."""
        self._install_signals()
        try:
            start = self._spawn(self._start(), "start")
            await self._first(start, self._quit, self._interrupt)
            if start.done():
                outcome = start.result()
                if not outcome.is_ok:
                    sys.stderr.write("".join(f"{line}\n" for line in outcome.lines))
                    return EXIT_FAILED
                self.state = "LIVE"
                self.group.keep()
                if self.sockets.predecessor is not None:
                    await self.sockets.predecessor.take_over()
                    self.sockets.own()
                logger.info(
                    event("live", version=__version__, pid=os.getpid(), file=self.path, workers=len(self.group.live))
                )
                self._spawn(self._be_found(), "offer")
                self._spawn(self._follow_file(), "watch")
                if self._companion is not None:
                    self._spawn(self._accompany(self._companion), "app")
                await self._first(self._quit, self._interrupt)
                if not self._interrupt.is_set():
                    await self._drain_all()
            return EXIT_STOPPED if self._companion is None else self._companion.code
        finally:
            await self._end()

    async def _start(self) -> Outcome:
        try:
            await self.group.start()
        except OSError as error:
            raise RuntimeError(f"cannot start workers: {error}") from error
        return await self.load("start")

    async def _drain_all(self) -> None:
        timeout_s = self._drain_timeout_s()
        self.drain()
        self.group.end()
        members = self.group.live
        self.group.tell("quit")
        at_rest = self._spawn(self._all_at_rest(), "drain")
        await self._first(at_rest, self._interrupt)
        if self._companion is not None and not self._interrupt.is_set():
            # As long as the app runs it may need its dependencies; how long that is, whoever sent the signal decides.
            self._companion.send(signal.SIGTERM)
            await self._companion.ended.wait()
        self.sockets.close((Role.OUTBOUND,))
        for member in members:
            member.tell("release")
        ended = self._spawn(self.group.ended(timeout_s + STOP_SLACK_S), "stop")
        await self._first(ended, self._interrupt)

    async def _all_at_rest(self) -> None:
        await asyncio.gather(*(member.inbound_empty.wait() for member in self.group.live))

    async def _accompany(self, companion: Companion) -> None:
        """Run the app, and end with it."""
        await companion.run()
        self._quit.set()

    async def _end(self) -> None:
        """Give everything back; leaves no task and no process."""
        self.state = "DRAINING"
        self._is_closed = True
        self._offer.close()
        if self.sockets.predecessor is not None:
            self.sockets.predecessor.close()
        if self._companion is not None:
            self._companion.kill()
        self.group.end()
        self.sockets.close(tuple(Role))
        self.group.tell("interrupt")
        await self.group.ended(INTERRUPT_LIMIT_S)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.group.stop()
        # Last, so that probes see why until the very end.
        doors = [opened.door for opened in self.listeners.current.values()]
        self.listeners.close(_OWN, "stop")
        for door in doors:
            if isinstance(door, AdminDoor):
                door.abort()
        if self.last_good is not None:
            logger.info(event("stopped", uptime_s=round(time.time() - self.started_s, 1)))

    # --- before and after this process -------------------------------------------------------------------------

    async def _meet(self, specs: Sequence[ListenerSpec]) -> Predecessor | None:
        """The sidecar that this one takes over from, if there is one."""
        predecessor = Predecessor(meeting_point(specs), self.count)
        self.sockets.predecessor = predecessor if await predecessor.meet() else None
        return self.sockets.predecessor

    async def _be_found(self) -> None:
        """Offer what is open to a successor, under the admin address in force, which a reload may have changed."""
        while self.state == "LIVE":
            address = meeting_point([opened.spec for opened in self.listeners.current.values()])
            if address and address != self._offer.address:
                self._offer.open(address)
            await asyncio.sleep(OFFER_PERIOD_S)

    # --- loading -----------------------------------------------------------------------------------------------

    async def load(self, trigger: str) -> Outcome:
        """Read the file now and put it in force in all workers if it is good; loads happen one by one."""
        async with self._one_at_a_time:
            began = time.monotonic()
            config_hash, error = "", ""
            problems: tuple[Problem, ...] = ()
            try:
                frames = await self._frames(trigger)
                header = read_header(frames[0])
                config_hash = header.config_hash
                self._watch.accept(header.digest_hex)
                error = header.error
                if header.is_ok:
                    problems = tuple(await self._install(trigger, header, frames))
                elif not error:
                    problems = tuple(one for frame in frames[1:-1] for one in read_problems(frame))
            except (PlanSourceError, RefusedError, TakeoverError) as refusal:
                error = str(refusal)
            except FrameError as failure:
                error = f"{self.path}: what the compiler says makes no sense: {failure}; nothing was changed"
            except Exception as failure:
                logger.exception(event("config_load_failed", file=self.path))
                error = f"{self.path}: the sidecar failed while loading this file; please report it: {failure!r}"
            is_ok, took_s = not problems and not error, time.monotonic() - began
            self.last = Outcome(trigger, time.time(), took_s, is_ok, config_hash, self._generation, problems, error)
            self._report(self.last)
            return self.last

    async def _frames(self, trigger: str) -> list[bytes]:
        async with aclosing(self._source.frames(trigger)) as frames:
            return [frame async for frame in frames]

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> list[Problem]:
        """Returns what of the file cannot be had on this machine; nothing if it is in force."""
        if self._is_closed:
            raise RefusedError("the sidecar is draining and loads nothing any more; nothing was changed")
        specs = [ListenerSpec(Role(one.role), one.address, one.location) for one in header.listeners]
        try:
            change = await self.listeners.open(specs)
        except ListenerError as error:
            return [self._problem(header, error.spec.key, str(error))]
        try:
            sockets = await self.sockets.open([spec.key for spec in specs if spec.role not in _OWN])
        except SocketError as error:
            change.abandon()
            return [self._problem(header, error.key, str(error))]
        try:
            lines = await self.group.load(trigger, frames, sockets.added, partial(self._swap, header, change, sockets))
        except BaseException:
            change.abandon()
            sockets.abandon()
            raise
        if lines:
            change.abandon()
            sockets.abandon()
            raise RefusedError(lines[0])
        return []

    async def _swap(self, header: Header, change: Change, sockets: SocketChange) -> None:
        """All workers are prepared. From here on nothing can fail that could be undone."""
        sockets.commit()
        self.wanted = header.listeners
        self._generation += 1
        self.configuration.applied(header.config_hash, is_reload=self._generation > 1)
        await change.commit()

    def _problem(self, header: Header, key: Key, message: str) -> Problem:
        """A listener that cannot be opened, at its place in the file."""
        wanted = next(one for one in header.listeners if (Role(one.role), one.address) == key)
        return Problem(self.path, wanted.line, wanted.column, wanted.path, message)

    def _report(self, outcome: Outcome) -> None:
        result = "success" if outcome.is_ok else "failure"
        self.configuration.durations.child(result).observe(round(outcome.took_s * 1e9))
        if outcome.is_ok:
            self.last_good = outcome
            logger.info(
                event(
                    "config_loaded", file=self.path, trigger=outcome.trigger, hash=outcome.config_hash,
                    generation=outcome.generation, took_ms=round(outcome.took_s * 1000, 1),
                )
            )  # fmt: skip
        elif outcome.trigger != "start":  # else the problems are the last words
            self.configuration.refused()
            self.group.tell("refused")
            for line in outcome.lines:
                logger.error(event("config_refused", trigger=outcome.trigger, problem=line))

    async def _follow_file(self) -> None:
        while True:
            await asyncio.sleep(POLL_PERIOD_S)
            try:
                if await asyncio.to_thread(self._watch.changed):
                    await self.load("file")
            except Exception:
                logger.exception(event("config_watch_failed", file=self.path))

    # --- parts -------------------------------------------------------------------------------------------------

    def _door_for(self, spec: ListenerSpec) -> Door:
        is_public = spec.role is Role.METRICS
        return AdminDoor(Endpoints.read_only(self._views) if is_public else Endpoints.everything(self._views))

    def _drain_timeout_s(self) -> float:
        return max((float(member.facts.get("drain_timeout_s", 0.0)) for member in self.group.live), default=0.0)

    def _install_signals(self) -> None:
        actions: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self.quit,
            signal.SIGINT: self.interrupt,
            signal.SIGHUP: lambda: self._spawn(self.load("signal"), "reload"),
            signal.SIGUSR1: self.reopen,
        }
        if self._companion is not None:
            actions = {number: partial(self._companion.send, number) for number in FORWARDED}
            actions[signal.SIGTERM] = self._quit_or_insist
        for number, action in actions.items():
            self._loop.add_signal_handler(number, self._on_signal, number, action)

    def _quit_or_insist(self) -> None:
        """The first SIGTERM ends inbound and then the app; a second one reaches the app at once."""
        if self._quit.is_set() and self._companion is not None:
            self._companion.send(signal.SIGTERM)
        self._quit.set()

    def _on_signal(self, number: signal.Signals, action: Callable[[], object]) -> None:
        logger.info(event("signal", signal=number.name))
        action()

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _first(self, *things: asyncio.Task[Any] | asyncio.Event) -> None:
        """Wait until one of the tasks is done or one of the events is set."""
        waits = [thing if isinstance(thing, asyncio.Task) else self._spawn(thing.wait(), "wait") for thing in things]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for thing, wait in zip(things, waits, strict=True):
            if thing is not wait:
                wait.cancel()
