"""
The compiling process as the control plane sees it: one at a time, started when needed, and anew when it dies. *Cold.*

Reading 200 files and judging what is compiled of them takes seconds, in which streams must not wait. So it is done in
another process, which stands back where both want the same CPU.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from sidecar.control.revision import questions
from sidecar.control.revision.judged import Considered, Judged, ProblemTold, Rejected
from sidecar.loader.low_priority import background_niceness
from sidecar.mesh.told import IDENTITY, Told
from sidecar.process_log import event

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class CompilerError(Exception):
    """The compiling process ended in the middle of its work; the text says so for people."""


class Compiler:
    """
    One process, and the questions to it, in the order in which they are asked.

    Args:
        has_identity: Whether the mesh's sidecars get identities, so that TLS and `callers` are compiled.
    """

    def __init__(self, has_identity: bool = IDENTITY) -> None:
        self._has_identity = has_identity
        self._pool: ProcessPoolExecutor | None = None

    async def judge(self, files: Mapping[str, bytes]) -> Judged | Rejected:
        """Judge a content of the mesh. Raises CompilerError."""
        return await self._ask(questions.judge, dict(files), self._has_identity)

    async def consider(self, files: Mapping[str, bytes], running: Mapping[str, Told]) -> Considered | Rejected:
        """As `worker.consider`. Raises CompilerError."""
        return await self._ask(questions.consider, dict(files), dict(running), self._has_identity)

    async def translate(self, service: str, hash_: str, problems: Sequence[ProblemTold]) -> tuple[ProblemTold, ...]:
        """Problems of a compiled file, at their places in the mesh's files. Raises CompilerError."""
        return await self._ask(questions.translate, service, hash_, list(problems))

    async def routes(self, caller: str, callee: str) -> list[dict[str, Any]]:
        """As `worker.routes`. Raises CompilerError."""
        return await self._ask(questions.routes, caller, callee)

    async def close(self) -> None:
        """
        End it; what it is doing is of no interest any more.

        Waits for its end: an interpreter that ends while the pool's own thread is just closing its pipe says so on
        standard error (`concurrent.futures.process._python_exit`).
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):
                process.kill()
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _ask(self, function: Callable[..., _T], *arguments: Any) -> _T:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, questions.begin, (background_niceness(),))
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            logger.error(event("compiler_died", doing=function.__name__))
            raise CompilerError(
                "the process that compiles the mesh ended; it is started again for the next try"
            ) from None
