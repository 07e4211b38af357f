"""
A file that is loaded again and again: when, one load at a time, and what came of each. *Cold.*

What it means to put a configuration in force differs: `reload` does it in its own process, `workers.reload` in a group
of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing

from sidecar.compile.frames import FrameError, Header, read_header, read_problems
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import SourceWatch
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSource, PlanSourceError
from sidecar.process_log import event
from sidecar.redact import NO_SECRETS, Secrets

logger = logging.getLogger(__name__)

POLL_PERIOD_S = 0.5
"""A change is seen within a second. Polling, because a ConfigMap's links, NFS and overlays send no file events."""


class NotNowError(Exception):
    """A good configuration is not put in force, for something that is not in the file; the message is one line."""


class ClosedError(NotNowError):
    """The process ends and loads nothing any more."""

    def __init__(self) -> None:
        super().__init__("the sidecar is draining and loads nothing any more; nothing was changed")


class ConfigLoader:
    """
    Args:
        path: Of the file, for problems and for seeing that it changed.
        source: Has the configuration.
        secrets: What no outcome may show.

    Attributes:
        last: Outcome of the last load; None before the first.
        last_good: Outcome of the last load that succeeded.
        generation: Of the configuration in force; 0 for none. Whoever installs one counts it up.
    """

    def __init__(self, path: str, source: PlanSource, secrets: Secrets = NO_SECRETS) -> None:
        self.path = path
        self.secrets = secrets
        self.last: LoadOutcome | None = None
        self.last_good: LoadOutcome | None = None
        self.generation = 0
        self._source = source
        self._watch = SourceWatch(path)
        self._one_at_a_time = asyncio.Lock()

    # --- what differs ------------------------------------------------------------------------------------------

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        """
        Put what the frames say in force, or change nothing.

        Raises:
            ConfigError: It cannot be had on this machine.
            NotNowError: It cannot be had now.
        """
        raise NotImplementedError

    def _count(self, outcome: LoadOutcome) -> None:
        """Add a load to the metrics."""
        raise NotImplementedError

    def _count_refused(self) -> None:
        """A file that is not the first was refused."""
        raise NotImplementedError

    # --- what does not -----------------------------------------------------------------------------------------

    async def load(self, trigger: str) -> LoadOutcome:
        """
        Read the file now and put it in force if it is good. Loads that are asked for at once happen one by one.

        Returns:
            What came of it; a fault of ours is a problem too, never an exception.
        """
        async with self._one_at_a_time:
            return await self._load(trigger)

    async def _load(self, trigger: str) -> LoadOutcome:
        began = time.monotonic()
        config_hash, error = "", ""
        problems: tuple[Problem, ...] = ()
        warnings: tuple[str, ...] = ()
        try:
            frames = await self._frames(trigger)
            header = read_header(frames[0])
            config_hash = header.config_hash
            # Good or bad, this content has been dealt with.
            self._watch.accept(header.digest_hex)
            error = header.error
            if header.is_ok:
                await self._install(trigger, header, frames)
                warnings = header.warnings
            elif not error:
                problems = tuple(one for frame in frames[1:-1] for one in read_problems(frame))
        except ConfigError as refusal:
            problems = tuple(refusal.problems)
        except (PlanSourceError, NotNowError) as refusal:
            error = str(refusal)
        except FrameError as failure:
            error = f"{self.path}: what the compiler says makes no sense: {failure}; nothing was changed"
        except Exception as failure:
            logger.exception(event("config_load_failed", file=self.path))
            error = f"{self.path}: the sidecar failed while loading this file; please report it: {failure!r}"
        is_ok = not problems and not error
        took_s = time.monotonic() - began
        problems, error = tuple(one.without(self.secrets) for one in problems), self.secrets.hide(error)
        self.last = LoadOutcome(
            trigger, time.time(), took_s, is_ok, config_hash, self.generation, problems, error, warnings
        )
        self._report(self.last)
        return self.last

    async def watch(self) -> None:
        """Load the file whenever it changes; for ever."""
        while True:
            await asyncio.sleep(POLL_PERIOD_S)
            if self._one_at_a_time.locked():
                continue  # who changed the file also asked for a load, which knows the content only when it was read
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

    def _report(self, outcome: LoadOutcome) -> None:
        self._count(outcome)
        if outcome.is_ok:
            self.last_good = outcome
            logger.info(
                event(
                    "config_loaded", file=self.path, trigger=outcome.trigger, hash=outcome.config_hash,
                    generation=outcome.generation, took_ms=round(outcome.took_s * 1000, 1),
                )
            )  # fmt: skip
            for line in outcome.warnings:
                logger.warning(event("config_warning", trigger=outcome.trigger, warning=line))
        elif outcome.trigger != "start":  # else the process ends, and the problems are its last words
            self._count_refused()
            for line in outcome.lines:
                logger.error(event("config_refused", trigger=outcome.trigger, problem=line))
