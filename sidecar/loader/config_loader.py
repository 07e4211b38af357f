"""
A file that is loaded again and again: when, one load at a time, and what came of each. *Cold.*

    change that two looks agree on -> load -> in force
                                        |---> refused for what is in the file: until it changes
                                        +---> refused for what is not (no process, no memory, a port that is taken):
                                              again after 1 s, 2 s, ... 1 min, until it changes or is in force

What it means to put a configuration in force differs: `reload` does it in its own process, `workers.reload` in a group
of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from sidecar import process_log
from sidecar.compile.frames import FrameError, Header, read_header, read_problems
from sidecar.config.problems import ConfigError, Problem
from sidecar.loader.file_watch import Contents, FileWatch
from sidecar.loader.load_outcome import LoadOutcome, shown_live, shown_time
from sidecar.loader.plan_source import PlanSource, PlanSourceError, PreviewQuestion
from sidecar.process_log import event
from sidecar.redact import NO_SECRETS, Secrets

logger = logging.getLogger(__name__)

POLL_PERIOD_S = 0.25
"""
A change is seen within a second: two looks have to agree on it. Polling, because a ConfigMap's links, NFS and overlays
send no file events.
"""

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
"""Between loads that fail for what is not in the file."""

FORCE: Final = "force"
"""The trigger of a load that `reload.guard` does not stop."""

MAX_SHOWN: Final = 10
"""Of each list of a report that says why a file was refused; a preview of the file has all."""

SLOW_S = 5.0
"""A load, or a look at the file, that takes longer is told of while it goes on."""


class NotNowError(Exception):
    """A good configuration is not put in force, for something that is not in the file; the message is one line."""


class ClosedError(NotNowError):
    """The process ends and loads nothing any more."""

    def __init__(self) -> None:
        super().__init__("the sidecar is draining and loads nothing any more; nothing was changed")


class GuardError(NotNowError):
    """
    `reload.guard` does not let it be put in force.

    Attributes:
        report: What it would do to recent requests.
    """

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class NotHereError(ConfigError):
    """What the file asks for cannot be had on this machine, and may be later: an address that is taken."""


class _UnsettledError(Exception):
    """The compiler has read something else than what two looks had agreed on."""


class ConfigLoader:
    """
    Args:
        path: Of the file, for problems and for seeing that it changed.
        source: Has the configuration.
        secrets: What no outcome may show; learns what the file reads from others.

    Attributes:
        last: Outcome of the last load; None before the first.
        last_good: Outcome of the last load that succeeded.
        generation: Of the configuration in force; 0 for none. Whoever installs one counts it up.
        on_installed: Told the header and the frames of what has just come into force.
        on_outcome: Told what came of each load.
        is_guarded: Whether `reload.guard` of the configuration in force is asked; a worker's is by its supervisor.
    """

    def __init__(self, path: str, source: PlanSource, secrets: Secrets = NO_SECRETS) -> None:
        self.path = path
        self.secrets = secrets if secrets is not NO_SECRETS else Secrets()
        self.last: LoadOutcome | None = None
        self.last_good: LoadOutcome | None = None
        self.generation = 0
        self.on_installed: Callable[[Header, Sequence[bytes]], None] = lambda header, frames: None
        self.on_outcome: Callable[[LoadOutcome], None] = lambda outcome: None
        self.is_guarded = True
        self._in_force: tuple[Header, Sequence[bytes]] | None = None
        self._source = source
        self._watch = FileWatch(path)
        self._one_at_a_time = asyncio.Lock()
        self._tried: Contents | None = None
        self._retries = 0
        self._retry_at_s: float | None = None
        self._loading_since_s: float | None = None

    # --- what differs ------------------------------------------------------------------------------------------

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        """
        Put what the frames say in force, or change nothing.

        Raises:
            ConfigError: It cannot be had on this machine; `NotHereError`: not now.
            NotNowError: It cannot be had now.
        """
        raise NotImplementedError

    async def _rings(self) -> Sequence[Sequence[bytes]]:
        """Recent requests of each process, as `insight.preview.wire.pack` makes them."""
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

    async def preview(self, name: str, text: bytes) -> dict[str, Any]:
        """
        What another file would do with the requests that were seen last; nothing is changed.

        Args:
            name: Of the file, for positions and problems.
            text: What it says.

        Raises:
            PlanSourceError: That cannot be found out.
        """
        if self._in_force is None:
            raise PlanSourceError(f"{self.path}: no configuration is in force yet, with which to compare")
        rings = await self._rings()
        try:
            return await self._source.report(PreviewQuestion(self._in_force[1], rings, name, text))
        except FrameError as failure:
            raise PlanSourceError(f"{self.path}: what the compiler says makes no sense: {failure}") from None

    async def _ask_guard(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        """Raise `GuardError` for what sends too many of the recent requests elsewhere; nobody asks who forces it."""
        guard = self._in_force[0].guard if self._in_force is not None else None
        if guard is None or self._in_force is None or not self.is_guarded or trigger in ("start", FORCE):
            return
        max_moved, min_requests = guard
        name = header.pushed or self.path
        rings = await self._rings()
        report = await self._source.report(PreviewQuestion(self._in_force[1], rings, name, new=frames))
        if report["problems"]:
            raise PlanSourceError(str(report["problems"][0]["text"]))
        if report["requests"] >= min_requests and report["moved_share"] * 100 > max_moved:
            raise GuardError(
                f"{name}: {report['moved_share']:.1%} of the last {report['requests']} requests would go elsewhere, and"
                f" `reload.guard` allows {max_moved:g}%; `sidecar preview` says which, and POST /reload?force puts it"
                " in force all the same; nothing was changed",
                {name: one[:MAX_SHOWN] if isinstance(one, list) else one for name, one in report.items()},
            )

    def shown(self) -> dict[str, object]:
        """As `/server_info` shows it: what is in force, and what is under way."""
        now_s = time.monotonic()
        loading, retry = self._loading_since_s, self._retry_at_s
        return {
            "file": self.path,
            **shown_live(self.last_good),
            "last_load_ok": self.last.is_ok if self.last is not None else None,
            "last_load_at": shown_time(self.last.finished_s) if self.last is not None else None,
            "loading_for_s": round(now_s - loading, 1) if loading is not None else None,
            "retry_in_s": round(max(0.0, retry - now_s), 1) if retry is not None else None,
            "retries": self._retries,
        }

    async def _load(self, trigger: str, settled: Contents | None = None) -> LoadOutcome:
        """As `load`; of nothing but what is settled, if that is given: else `_UnsettledError`."""
        slow = asyncio.get_running_loop().call_later(SLOW_S, self._tell_slow, trigger)
        self._loading_since_s = time.monotonic()
        try:
            return await self._load_now(trigger, settled)
        finally:
            self._loading_since_s = None
            slow.cancel()

    async def _load_now(self, trigger: str, settled: Contents | None) -> LoadOutcome:
        began = time.monotonic()
        config_hash, error = "", ""
        problems: tuple[Problem, ...] = ()
        warnings: tuple[str, ...] = ()
        is_transient = False
        preview: Mapping[str, Any] | None = None
        try:
            frames = await self._frames(trigger)
            header = read_header(frames[0])
            config_hash = header.config_hash
            self._take_note(header, settled)
            error, is_transient = header.error, header.is_transient
            if header.is_ok:
                await self._ask_guard(trigger, header, frames)
                await self._install(trigger, header, frames)
                self._in_force = header, frames
                self.on_installed(header, frames)
                warnings = header.warnings
            elif not error:
                problems = tuple(one for frame in frames[1:-1] for one in read_problems(frame))
        except ConfigError as refusal:
            problems = tuple(refusal.problems)
            is_transient = isinstance(refusal, NotHereError)
        except (PlanSourceError, NotNowError) as refusal:
            error = str(refusal)
            is_transient = not isinstance(refusal, ClosedError | GuardError)
            preview = refusal.report if isinstance(refusal, GuardError) else None
        except FrameError as failure:
            error = f"{self.path}: what the compiler says makes no sense: {failure}; nothing was changed"
        except _UnsettledError:
            raise
        except Exception as failure:
            logger.exception(event("config_load_failed", file=self.path))
            error = f"{self.path}: the sidecar failed while loading this file; please report it: {failure!r}"
        is_ok = not problems and not error
        took_s = time.monotonic() - began
        problems, error = tuple(one.without(self.secrets) for one in problems), self.secrets.hide(error)
        is_transient = is_transient and not is_ok and trigger != "start"
        self.last = LoadOutcome(
            trigger, time.time(), took_s, is_ok, config_hash, self.generation, problems, error, warnings, is_transient,
            preview,
        )  # fmt: skip
        self._report(self.last)
        self._plan_retry(is_transient=is_transient)
        self.on_outcome(self.last)
        return self.last

    def _take_note(self, header: Header, settled: Contents | None) -> None:
        """Good or bad, this content has been dealt with, and is what is followed from now on."""
        self.secrets.learn(header.secrets)
        process_log.learn(header.secrets)
        own = header.local_files or (
            [(self.path, header.digest_hex)] if header.digest_hex and not header.pushed else ()
        )
        contents = dict((*own, *header.secret_files))
        if not contents:
            return  # nothing was read
        # A local file that may be absent is looked for all the same.
        contents.setdefault(self.path, "")
        if settled is not None and any(settled.get(path, found) != found for path, found in contents.items()):
            raise _UnsettledError()
        self._watch.accept(contents)
        self._tried = None

    def _plan_retry(self, *, is_transient: bool) -> None:
        """Not at the start: the process ends, and whoever started it tries again."""
        if not is_transient:
            self._retries, self._retry_at_s = 0, None
            return
        wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2**self._retries)
        self._retries += 1
        self._retry_at_s = time.monotonic() + wait_s
        logger.warning(event("config_load_retry", file=self.path, retry=self._retries, in_s=wait_s))

    def _tell_slow(self, trigger: str) -> None:
        logger.warning(event("config_load_slow", file=self.path, trigger=trigger, after_s=SLOW_S))

    async def watch(self) -> None:
        """Load the file whenever it changes, and again where that failed for what is not in it; for ever."""
        while True:
            await asyncio.sleep(POLL_PERIOD_S)
            if self._one_at_a_time.locked():
                continue  # who changed the file also asked for a load, which knows the content only when it was read
            try:
                await self._follow()
            except Exception:
                logger.exception(event("config_watch_failed", file=self.path))

    async def _follow(self) -> None:
        if self._retry_at_s is not None and time.monotonic() >= self._retry_at_s:
            await self.load("retry")
            return
        found = await self._look()
        # What was tried with this content, and failed before it was read, is tried again by and by, not at each look.
        if found is None or found == self._tried or self._one_at_a_time.locked():
            return
        self._tried = found
        changed = [path for path, digest_hex in found.items() if digest_hex != self._watch.known.get(path)]
        logger.info(event("config_changed", files=",".join(changed)))
        async with self._one_at_a_time:
            self._retries = 0
            try:
                await self._load("file", found)
            except _UnsettledError:
                self._tried = None
                logger.info(event("config_unsettled", file=self.path))

    async def _look(self) -> dict[str, str] | None:
        """See `FileWatch.changed`; a mount that hangs is told of, and waited for."""
        looking = asyncio.ensure_future(self._watch.changed())
        try:
            await asyncio.wait({looking}, timeout=SLOW_S)
            if not looking.done():
                logger.error(event("config_watch_hangs", file=self.path, after_s=SLOW_S))
                await asyncio.wait({looking})
                logger.warning(event("config_watch_recovered", file=self.path))
            return looking.result()
        finally:
            looking.cancel()

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
