"""
The mesh as somebody pushes it: judged as a whole, then written as a whole, then taken as any change is. *On the loop.*

What is pushed becomes the wanted content by compare-and-swap in the engine, and the revision comes of that by the one
way there is (`Follower`), at whichever replica is faster; here it is only waited for, so that it can be told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sidecar.control.engines.interface import Conflict, Engine, Unavailable
from sidecar.control.revision.compiler import Compiler
from sidecar.control.revision.follower import Follower
from sidecar.control.revision.judged import Considered, Rejected
from sidecar.control.revision.rollouts import Rollouts
from sidecar.control.rollout.view import View
from sidecar.process_log import event

logger = logging.getLogger(__name__)

TAKEN_S: Final = 60.0
"""In which what was pushed should be the wanted revision: it is judged once more by then."""
TOLD_S: Final = 5.0
"""In which the source tells what somebody else has pushed."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Pushed:
    """
    It is the wanted content.

    Attributes:
        version: Of the content, for the next push.
        revision: What came of it; None if that is not known yet, or another push was faster.
    """

    considered: Considered
    version: str
    revision: int | None


class Pushes:
    """
    One push at a time.

    Args:
        view: Gives the mesh as it is now.
    """

    def __init__(
        self, engine: Engine, compiler: Compiler, rollouts: Rollouts, follower: Follower, view: Callable[[], View]
    ) -> None:
        self._engine = engine
        self._compiler = compiler
        self._rollouts = rollouts
        self._follower = follower
        self._view = view
        self._one_at_a_time = asyncio.Lock()

    async def consider(self, files: Mapping[str, bytes]) -> Considered | Rejected:
        """What these files would change; nothing is. Raises CompilerError."""
        return await self._compiler.consider(files, self._rollouts.told())

    async def push(self, files: Mapping[str, bytes], expected: str | None, *, is_now: bool) -> Pushed | Rejected:
        """
        Make these files the mesh, if they are good.

        Args:
            expected: The version that they are an edit of, empty where nothing was ever pushed; None: any.
            is_now: Whether waves are skipped, also those that are under way.

        Raises:
            Conflict, Unsupported, Unavailable, EngineError: As `MeshSource.push` says.
            CompilerError: They could not be judged.
        """
        async with self._one_at_a_time:
            considered = await self.consider(files)
            if isinstance(considered, Rejected):
                return considered
            version = await self._write(files, expected)
            logger.info(event("pushed", mesh=considered.name, version=version, files=len(files), hash=considered.hash))
            is_taken = False
            with suppress(TimeoutError, Unavailable):
                async with asyncio.timeout(TAKEN_S):
                    is_taken = await self._follower.judged(version) and not self._follower.problems
            if is_taken and is_now:
                await self._rollouts.hurry(self._view())
            return Pushed(considered, version, self._rollouts.revision if is_taken else None)

    async def _write(self, files: Mapping[str, bytes], expected: str | None) -> str:
        if expected is not None:
            return await self._engine.mesh.push(files, expected)
        for _ in range(_TRIES):
            version = self._follower.version
            try:
                return await self._engine.mesh.push(files, version or "")
            except Conflict:
                # Somebody has pushed what is not told here yet.
                with suppress(TimeoutError):
                    async with asyncio.timeout(TOLD_S):
                        await self._follower.told_other_than(version)
        raise Conflict("others push all the time; say which version this is an edit of")
