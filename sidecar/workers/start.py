"""
One process or several: what `sidecar run` decides before anything of the data path is imported. *Cold.*

Only a file that may want several is waited for: one that mentions `workers` beyond `workers: 1` and comments. With any
other the data path is imported while the compiler reads it, as it takes 200 ms.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NoReturn

from sidecar.compile.frames import FrameError, Header, Kind, make_frame, read_header
from sidecar.loader.plan_source import PlanSource, PlanSourceError
from sidecar.runtime.app_process import AppProcess
from sidecar.runtime.inherited import obey_signals
from sidecar.runtime.loop import run_and_leave

_KEY = b"workers"
_SAYS_ONE = re.compile(rb"^(?:[ \t]*#.*|workers:[ \t]+1[ \t]*(?:#.*)?)\r?$", re.MULTILINE)
"""Lines that cannot ask for several: comments, and the key with the one value that needs no waiting."""
EXIT_STOPPED = 0

ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
"""Signals that end a start at once; others wait until there is a process that knows what they mean."""

LOOK_LIMIT_S = 2.0
"""For a look at the file, which takes a fraction of a millisecond unless its mount hangs."""


class Settled:
    """
    A `PlanSource` whose number of workers is settled: later files that say otherwise are refused.

    Args:
        path: Of the file, for the refusal.
        source: Has the configuration.
        count: Of workers.
        first: What `source` gave already, for the first load.
    """

    def __init__(self, path: str, source: PlanSource, count: int, first: Sequence[bytes] = ()) -> None:
        self._path = path
        self._source = source
        self._count = count
        self._first = list(first)

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """As `PlanSource.frames`."""
        first, self._first = self._first, []
        for frame in first:
            yield frame
        if first:
            return
        is_header = True
        async with aclosing(self._source.frames(trigger)) as frames:
            async for frame in frames:
                refusal = self._refusal(read_header(frame)) if is_header else None
                is_header = False
                if refusal is not None:
                    yield refusal.to_frame()
                    yield make_frame(Kind.END)
                    return
                yield frame

    def _refusal(self, header: Header) -> Header | None:
        if not header.is_ok or header.workers == self._count:
            return None
        error = (
            f"{self._path}: workers: expected {self._count} as at the start, found {header.workers}; nothing was"
            " changed; restart the sidecar to change it"
        )
        return replace(header, is_ok=False, listeners=(), error=error)


def serve(
    path: str, env: Mapping[str, str], source: PlanSource, *, takes_over: bool = False, command: Sequence[str] = ()
) -> NoReturn:
    """
    Run a sidecar, of one process or several, with the file at `path` until a signal ends it, and end the process.

    The exit code is that of the command; without one, 0: stopped as asked; 1: could not start. Then stderr says why, a
    line a problem, and no command was run.

    Args:
        source: Has the configuration.
        takes_over: Inherit the sockets of the sidecar that has the same admin address, if there is one.
        command: The app, if it is to be this process's child.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        deciding = loop.create_task(_decide(path, source))
        # The process that follows puts its own handlers in the place of these, and nothing is lost between the two.
        for number in ENDING:
            loop.add_signal_handler(number, deciding.cancel)
        obey_signals(ENDING)
        try:
            count, first = await deciding
        except asyncio.CancelledError:
            return EXIT_STOPPED
        settled = Settled(path, source, count, first)
        dependent = AppProcess(command) if command else None
        # Only here: the compiler reads the file meanwhile, and a supervisor needs nothing of the data path.
        if count > 1:
            from sidecar.workers.supervisor import Supervisor

            return await Supervisor(
                path, env, settled, loop, count=count, takes_over=takes_over, dependent=dependent
            ).run()
        from sidecar.runtime.server import Sidecar

        return await Sidecar(path, env, settled, loop, takes_over=takes_over, dependent=dependent).run()

    run_and_leave(main)


async def _decide(path: str, source: PlanSource) -> tuple[int, list[bytes]]:
    """How many workers there are to be, and the frames of the file, if it had to be asked."""
    try:
        async with asyncio.timeout(LOOK_LIMIT_S):
            may_want_several = await asyncio.to_thread(mentions_workers, path)
    except TimeoutError:
        may_want_several = True  # the mount hangs: whoever reads the file has a limit, and says so
    if not may_want_several:
        return 1, []
    try:
        async with aclosing(source.frames("start")) as frames:
            first = [frame async for frame in frames]
        header = read_header(first[0])
    except (PlanSourceError, FrameError):
        return 1, []  # the load asks again, and says why
    return header.workers if header.is_ok else 1, first


def mentions_workers(path: str) -> bool:
    """Whether the file may want several; whatever cannot be read twice may."""
    if not os.path.isfile(path):
        return os.path.exists(path)
    try:
        with open(path, "rb") as file:
            return _KEY in _SAYS_ONE.sub(b"", file.read())
    except OSError:
        return False
