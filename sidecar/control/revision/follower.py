"""
From the mesh's source to the wanted revision: judged as a whole, refused as a whole. *On the loop.*

A content with problems changes nothing: the wanted revision stays, and the problems are kept for people to see. What
fails for another reason is tried again, until the source tells another content (the newest is what is wanted), and told
as what it is: the compiling process that ended as trouble of the source, a full disk as what could not be stored, for
nothing is wrong with the files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from sidecar.control.engines.interface import Content, Engine, EngineError, Trouble
from sidecar.control.revision.compiler import Compiler, CompilerError
from sidecar.control.revision.judged import ProblemTold, Rejected
from sidecar.control.revision.rollouts import Rollouts
from sidecar.control.rollout.view import View
from sidecar.control.storing import Storing
from sidecar.process_log import event

logger = logging.getLogger(__name__)

RETRY_S: Final = 5.0
"""At most, after something failed; the first time a tenth of it: one call that was lost shall not make a push late."""
_LOGGED: Final = 20
"""Problems of one content that the log shows; `/v1/mesh` has all."""


class Follower:
    """
    Args:
        storing: Told when a content that is good could not be made the wanted one.
        view: Gives the mesh as it is now.
        now_s: Since the Unix epoch.

    Attributes:
        problems: Of the content that is wanted, where that is refused.
        since_s: Since when one of the two is so.
        refusals: Contents that were refused, since the start.
        first: Set when the first content was judged, whatever came of it.
        version: Of the content that the source told last; None before the first.
    """

    def __init__(
        self,
        engine: Engine,
        compiler: Compiler,
        rollouts: Rollouts,
        storing: Storing,
        view: Callable[[], View],
        now_s: Callable[[], float],
    ) -> None:
        self.problems: tuple[ProblemTold, ...] = ()
        self.since_s: float | None = None
        self.refusals = 0
        self.first = asyncio.Event()
        self.version: str | None = None
        self._judged: str | None = None
        self._newest: Content | None = None
        self._turn = asyncio.Event()
        self._troubles = {"source": "", "work": ""}
        self._engine = engine
        self._compiler = compiler
        self._rollouts = rollouts
        self._storing = storing
        self._view = view
        self._now_s = now_s

    def shown(self) -> list[ProblemTold]:
        """`source.problems` of `/v1/mesh`."""
        shown = list(self.problems)
        if self.trouble:
            trouble = {"file": "", "line": 0, "column": 0, "path": "", "message": self.trouble, "hint": ""}
            shown.append({**trouble, "severity": "error"})
        return shown

    @property
    def trouble(self) -> str:
        """Why the source cannot be read, or its content be judged or put in force, just now; empty if it can."""
        return self._troubles["work"] or self._troubles["source"]

    async def run(self) -> None:
        """Follow the source; ends only by being cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._listen())
            both.create_task(self._work())

    async def _listen(self) -> None:
        changes: AsyncIterator[Content | Trouble] = self._engine.mesh.follow()
        async with aclosing(changes) as followed:  # type: ignore[type-var]
            async for change in followed:
                if isinstance(change, Trouble):
                    self._on_trouble("source", change.error)
                else:
                    self._on_trouble("source", "")
                    self.version, self._newest = change.version, change
                    self._turned()

    async def _work(self) -> None:
        taken: Content | None = None
        while True:
            while self._newest is taken:
                await self._turn.wait()
            taken = self._newest
            if taken is not None and await self._take(taken):
                self._judged = taken.version
                self._turned()
                self.first.set()

    async def told_other_than(self, version: str | None) -> None:
        """Wait until the source has told another content than that of this version."""
        while self.version == version:
            await self._turn.wait()

    async def judged(self, version: str) -> bool:
        """
        Wait until a content that was pushed was judged; false if another one was pushed over it before that.

        Raises:
            EngineError: Which is wanted cannot be known.
        """
        while self._judged != version:
            await self._turn.wait()
            if self.version != version and not await self._engine.mesh.is_wanted(version):
                return False
        return True

    def _turned(self) -> None:
        # Who waits for the event looks again; who comes later waits for the next one.
        self._turn.set()
        self._turn = asyncio.Event()

    async def _take(self, content: Content) -> bool:
        """Judge a content and want it, or refuse it; whether it came to that before the source told another one."""
        pause_s = RETRY_S / 10
        while True:
            try:
                judged = await self._compiler.judge(content.files)
            except CompilerError as error:
                self._on_trouble("work", str(error))
                if await self._is_overtaken(content, pause_s):
                    return False
                pause_s = min(RETRY_S, 2 * pause_s)
                continue
            if isinstance(judged, Rejected):
                self._storing.written("revision")
                self._refuse(judged.problems)
                return True
            was_wrong = bool(self.problems)
            self.problems = ()
            self._on_trouble("work", "")
            is_wanted = partial(self._engine.mesh.is_wanted, content.version)
            try:
                is_new = await self._rollouts.propose(judged, self._view(), is_wanted)
            except EngineError as error:
                self._storing.failed("revision", error)
                logger.error(event("revision_not_stored", error=error))
                if await self._is_overtaken(content, pause_s):
                    return False
                pause_s = min(RETRY_S, 2 * pause_s)
                continue
            self._storing.written("revision")
            break
        for warning in judged.warnings:
            logger.warning(event("mesh_warning", **_place(warning)))
        if is_new or was_wrong:
            logger.info(
                event(
                    "mesh_accepted", mesh=judged.name, revision=self._rollouts.revision, hash=judged.hash,
                    services=len(judged.services), compiled=len(judged.compiled),
                )
            )  # fmt: skip
        return True

    async def _is_overtaken(self, content: Content, pause_s: float) -> bool:
        """Wait before the next try; whether the source has told another content meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                while self._newest is content:
                    await self._turn.wait()
            return True
        return False

    def _refuse(self, problems: tuple[ProblemTold, ...]) -> None:
        self.refusals += 1
        self.problems = problems
        self._troubles["work"] = ""
        self.since_s = self._now_s()
        logger.error(event("mesh_refused", problems=len(problems), revision=self._rollouts.revision))
        for one in problems[:_LOGGED]:
            logger.error(event("mesh_problem", **_place(one)))

    def _on_trouble(self, of: str, error: str) -> None:
        before = self.trouble
        self._troubles[of] = error
        if self.trouble != before:
            if self.trouble:
                logger.error(event("mesh_source_failed", error=self.trouble))
            else:
                logger.info(event("mesh_source_works"))
        if not self.trouble and not self.problems:
            self.since_s = None
        elif self.since_s is None:
            self.since_s = self._now_s()


def _place(problem: ProblemTold) -> dict[str, object]:
    where = f"{problem['file']}:{problem['line']}:{problem['column']}"
    return {
        "at": where,
        "path": problem["path"] or None,
        "message": problem["message"],
        "hint": problem["hint"] or None,
    }
