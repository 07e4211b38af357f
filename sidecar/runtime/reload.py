"""
How a configuration takes the place of another: read, build, bind, swap; or refuse and change nothing. *Cold.*

    read and judge (a process) -> look up new names -> build (slices) -> bind what is new -> | swap | -> close the rest

Everything before the bar may fail, and then leaves no trace but a log, a metric and what `/config` shows. The swap
itself does not await: no request sees half of a reload. Exchanges in flight keep the plan that they began with; it is
let go in slices when the last of them is over.

What comes from outside of this process are frames (`frames`), and whoever has them is a `PlanSource`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import SourceWatch
from sidecar.net.timers import Timers
from sidecar.proxy.live import Live
from sidecar.proxy.plan import Plan
from sidecar.runtime.compile import Compiler, Draft, make_draft
from sidecar.runtime.compile_telemetry import telemetry_settings
from sidecar.runtime.effective import Effective
from sidecar.runtime.frames import FrameError, PlanSource, PlanSourceError, read_header, read_problems
from sidecar.runtime.listeners import DoorFactory, ListenerError, Listeners
from sidecar.runtime.loop import without_collection
from sidecar.runtime.outcome import Outcome
from sidecar.runtime.process_log import event
from sidecar.runtime.retired import Retired
from sidecar.runtime.slices import in_slices
from sidecar.runtime.takeover import TakeoverError
from sidecar.telemetry.recorder import Telemetry
from sidecar.upstream.registry import Registry

if TYPE_CHECKING:
    from sidecar.config.model import Config

logger = logging.getLogger(__name__)

POLL_PERIOD_S = 0.5
"""A change is seen within a second. Polling, because a ConfigMap's links, NFS and overlays send no file events."""

DNS_TIMEOUT_S = 2.0
"""What the first lookups of new upstreams may take together; one without an answer begins without endpoints."""


class ClosedError(Exception):
    """The process ends and loads nothing any more."""

    def __init__(self) -> None:
        super().__init__("the sidecar is draining and loads nothing any more; nothing was changed")


class Reloader:
    """
    Reads one file, again and again, into the live data path.

    Args:
        path: Of the file, for problems and for seeing that it changed.
        env: Of the process, of which nothing secret is shown.
        source: Has the configuration.
        loop: The loop of the data path.
        telemetry: Reconfigured at each load.
        registry: Of upstreams.
        timers: Of the data path.
        door_for: Makes what stands behind the listeners; asked only after `live` exists.

    Attributes:
        live: The data path; None until the first file was good.
        listeners: What is open.
        config: The configuration in force without its routes, upstreams and tests; None until the first file was good.
        effective: All of it, explained.
        last: Outcome of the last load; None before the first.
        last_good: Outcome of the last load that succeeded.
        compiler: Makes the plans.
    """

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        source: PlanSource,
        loop: asyncio.AbstractEventLoop,
        telemetry: Telemetry,
        registry: Registry,
        timers: Timers,
        door_for: DoorFactory,
    ) -> None:
        self.path = path
        self.env = env
        self.live: Live | None = None
        self.config: Config | None = None
        self.effective: Effective | None = None
        self.last: Outcome | None = None
        self.last_good: Outcome | None = None
        self.listeners = Listeners(loop, door_for)
        self._source = source
        self._loop = loop
        self._telemetry = telemetry
        self._registry = registry
        self._timers = timers
        self.compiler = Compiler(telemetry.scope)
        self._retired = Retired(loop, lambda: registry.clusters)
        self._generation = 0
        self._watch = SourceWatch(path)
        self._one_at_a_time = asyncio.Lock()
        self._is_closed = False

    async def load(self, trigger: str) -> Outcome:
        """
        Read the file now and put it in force if it is good. Loads that are asked for at once happen one by one.

        Returns:
            What came of it; a fault of ours is a problem too, never an exception.
        """
        async with self._one_at_a_time:
            began = time.monotonic()
            config_hash, error = "", ""
            problems: tuple[Problem, ...] = ()
            try:
                frames = await self._frames(trigger)
                header = read_header(frames[0])
                config_hash = header.config_hash
                # Good or bad, this content has been dealt with.
                self._watch.accept(header.digest_hex)
                error = header.error
                if header.is_ok:
                    with without_collection():
                        await self._install(frames)
                elif not error:
                    problems = tuple(one for frame in frames[1:-1] for one in read_problems(frame))
            except ConfigError as refusal:
                problems = tuple(refusal.problems)
            except (PlanSourceError, ClosedError, TakeoverError) as refusal:
                error = str(refusal)
            except FrameError as failure:
                error = f"{self.path}: what the compiler says makes no sense: {failure}; nothing was changed"
            except Exception as failure:
                logger.exception(event("config_load_failed", file=self.path))
                error = f"{self.path}: the sidecar failed while loading this file; please report it: {failure!r}"
            is_ok = not problems and not error
            took_s = time.monotonic() - began
            self.last = Outcome(trigger, time.time(), took_s, is_ok, config_hash, self._generation, problems, error)
            self._report(self.last)
            return self.last

    def close(self) -> None:
        """Refuse every further load, because the process ends and must not open listeners again."""
        self._is_closed = True
        self._retired.close()

    async def watch(self) -> None:
        """Load the file whenever it changes; for ever."""
        while True:
            await asyncio.sleep(POLL_PERIOD_S)
            try:
                # In a thread, because a mount that hangs must not hang the data path.
                if await asyncio.to_thread(self._watch.changed):
                    await self.load("file")
            except Exception:
                logger.exception(event("config_watch_failed", file=self.path))

    async def _frames(self, trigger: str) -> list[bytes]:
        """All frames; a frame is small, so that reading on while they come holds the loop for microseconds."""
        async with aclosing(self._source.frames(trigger)) as frames:
            return [frame async for frame in frames]

    async def _install(self, frames: Sequence[bytes]) -> None:
        if self._is_closed:
            raise ClosedError()
        draft = await in_slices(make_draft(frames))
        preparation = await self._registry.prepare(draft.clusters, DNS_TIMEOUT_S)
        built: Plan | None = None
        try:
            plan = built = await in_slices(self.compiler.compile(draft, preparation.clusters, self._generation + 1))
            settings = telemetry_settings(draft.written.settings)
            if self.live is None:
                # Doors need it; nothing is open yet, so nobody can reach it before the swap below.
                self.live = Live(plan, self._telemetry, self._timers, self._loop)
            change = await self.listeners.open(draft.listeners)
            if self._is_closed:
                change.abandon()
                raise ClosedError()
        except BaseException as error:
            preparation.abandon()
            if built is not None:
                self._retired.add(built)
            if isinstance(error, ListenerError):
                raise ConfigError([_problem_at(self.path, draft, error)]) from None
            raise
        # --- the swap: from here to the next await, all or nothing ---
        preparation.commit()
        self._telemetry.reconfigure(settings)
        if self.live.plan is not plan:
            self._retired.add(self.live.plan)
        self.live.plan = plan
        self.config = draft.written.settings
        self.effective = Effective(self.path, draft.written)
        self._generation += 1
        self._telemetry.config_applied(plan.config_hash, is_reload=self._generation > 1)
        # --- end of the swap ---
        await change.commit()

    def _report(self, outcome: Outcome) -> None:
        self._telemetry.config_loaded(outcome.took_s, is_ok=outcome.is_ok)
        if outcome.is_ok:
            self.last_good = outcome
            logger.info(
                event(
                    "config_loaded", file=self.path, trigger=outcome.trigger, hash=outcome.config_hash,
                    generation=outcome.generation, took_ms=round(outcome.took_s * 1000, 1),
                )
            )  # fmt: skip
            return
        if outcome.trigger == "start":
            return  # the process ends, and the problems are its last words
        self._telemetry.config_refused()
        for line in outcome.lines:
            logger.error(event("config_refused", trigger=outcome.trigger, problem=line))


def _problem_at(path: str, draft: Draft, error: ListenerError) -> Problem:
    """A listener that cannot be opened, at its place in the file."""
    wanted = next(one for one in draft.header.listeners if one.location == error.spec.location)
    return Problem(path, wanted.line, wanted.column, wanted.path, str(error))
