"""
From the mesh's source to the wanted revision: judged as a whole, refused as a whole. *On the loop.*

A content with problems changes nothing: the wanted revision stays, and the problems are kept for people to see. What
fails for another reason (the compiling process ended, the disk is full) is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Final

from sidecar.control.engines.interface import Content, Engine, EngineError, Trouble
from sidecar.control.revision.compiler import Compiler, CompilerError
from sidecar.control.revision.rollouts import Rollouts
from sidecar.control.revision.worker import ProblemTold, Rejected
from sidecar.control.rollout.view import View
from sidecar.process_log import event

logger = logging.getLogger(__name__)

RETRY_S: Final = 5.0
_LOGGED: Final = 20
"""Problems of one content that the log shows; `/v1/mesh` has all."""


class Follower:
    """
    Args:
        view: Gives the mesh as it is now.
        now_s: Since the Unix epoch.

    Attributes:
        problems: Of the content that is wanted, where that is refused.
        trouble: Why the source cannot be read just now, or empty.
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
        view: Callable[[], View],
        now_s: Callable[[], float],
    ) -> None:
        self.problems: tuple[ProblemTold, ...] = ()
        self.trouble = ""
        self.since_s: float | None = None
        self.refusals = 0
        self.first = asyncio.Event()
        self.version: str | None = None
        self._judged: str | None = None
        self._turn = asyncio.Event()
        self._engine = engine
        self._compiler = compiler
        self._rollouts = rollouts
        self._view = view
        self._now_s = now_s

    def shown(self) -> list[ProblemTold]:
        """`source.problems` of `/v1/mesh`."""
        shown = list(self.problems)
        if self.trouble:
            trouble = {"file": "", "line": 0, "column": 0, "path": "", "message": self.trouble, "hint": ""}
            shown.append({**trouble, "severity": "error"})
        return shown

    async def run(self) -> None:
        """Follow the source; ends only by being cancelled."""
        changes: AsyncIterator[Content | Trouble] = self._engine.mesh.follow()
        async with aclosing(changes) as followed:  # type: ignore[type-var]
            async for change in followed:
                if isinstance(change, Trouble):
                    self._on_trouble(change.error)
                else:
                    self.version = change.version
                    self._turned()
                    await self._take(change)
                    self._judged = change.version
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

    async def _take(self, content: Content) -> None:
        while True:
            try:
                judged = await self._compiler.judge(content.files)
                if isinstance(judged, Rejected):
                    self._refuse(judged.problems)
                    return
                is_wanted = partial(self._engine.mesh.is_wanted, content.version)
                is_new = await self._rollouts.propose(judged, self._view(), is_wanted)
            except (CompilerError, EngineError) as error:
                self._on_trouble(str(error))
                await asyncio.sleep(RETRY_S)
                continue
            break
        was_wrong = bool(self.problems)
        self.problems = ()
        self._on_trouble("")
        for warning in judged.warnings:
            logger.warning(event("mesh_warning", **_place(warning)))
        if is_new or was_wrong:
            logger.info(
                event(
                    "mesh_accepted", mesh=judged.name, revision=self._rollouts.revision, hash=judged.hash,
                    services=len(judged.services), compiled=len(judged.compiled),
                )
            )  # fmt: skip

    def _refuse(self, problems: tuple[ProblemTold, ...]) -> None:
        self.refusals += 1
        self.problems = problems
        self.trouble = ""
        self.since_s = self._now_s()
        logger.error(event("mesh_refused", problems=len(problems), revision=self._rollouts.revision))
        for one in problems[:_LOGGED]:
            logger.error(event("mesh_problem", **_place(one)))

    def _on_trouble(self, error: str) -> None:
        if error != self.trouble:
            if error:
                logger.error(event("mesh_source_failed", error=error))
            else:
                logger.info(event("mesh_source_works"))
        self.trouble = error
        if not error and not self.problems:
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
