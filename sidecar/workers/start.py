"""
One process or several, and whom it follows: what `sidecar run` decides before the data path is imported. *Cold.*

Only a file that may want several, or a control plane, is waited for: one that mentions `workers` beyond `workers: 1`
and comments, or `control`. With any other the data path is imported while the compiler reads it, as it takes 200 ms.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NoReturn

from sidecar.compile.frames import FrameError, Header, Kind, make_frame, read_header
from sidecar.loader.compiler_process import CompilerProcess
from sidecar.loader.plan_source import MeshRequest, PlanSource, PlanSourceError, PreviewQuestion
from sidecar.process_log import event
from sidecar.runtime.app_process import AppProcess
from sidecar.runtime.inherited import obey_signals
from sidecar.runtime.loop import run_and_leave
from sidecar.runtime.mesh.control import Control

logger = logging.getLogger(__name__)

_WORKERS = b"workers"
_CONTROL = re.compile(rb"""(?:^|[{,])[ \t]*["']?control["']?[ \t]*:""", re.MULTILINE)
_SAYS_ONE = re.compile(rb"^(?:[ \t]*#.*|workers:[ \t]+1[ \t]*(?:#.*)?)\r?$", re.MULTILINE)
"""Lines that cannot ask for several: comments, and the key with the one value that needs no waiting."""
EXIT_STOPPED = 0

_UNREAD = Header(False)

ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
"""Signals that end a start at once; others wait until there is a process that knows what they mean."""

LOOK_LIMIT_S = 2.0
"""For a look at the file, which takes a fraction of a millisecond unless its mount hangs."""


class Settled:
    """
    A `PlanSource` whose number of workers and whose control plane are settled: later files that say otherwise are
    refused.

    Args:
        path: Of the file, for the refusal.
        source: Has the configuration.
        settled: Header of the first file, or one like it.
        first: What `source` gave already, for the first load.
    """

    def __init__(self, path: str, source: PlanSource, settled: Header, first: Sequence[bytes] = ()) -> None:
        self._path = path
        self._source = source
        self._settled = settled
        self._first = list(first)

    async def report(self, question: PreviewQuestion) -> dict[str, Any]:
        """As `PlanSource.report`."""
        return await self._source.report(question)

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """As `PlanSource.frames`."""
        first, self._first = self._first if trigger == "start" else [], []
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
        count = self._settled.workers
        if not header.is_ok or (header.workers == count and header.control == self._settled.control):
            return None
        what = f"workers: expected {count} as at the start, found {header.workers}"
        if header.workers == count:
            what = "control: expected the control plane, the service and the names as at the start, found others"
        error = f"{self._path}: {what}; nothing was changed; restart the sidecar to change it"
        return replace(header, is_ok=False, listeners=(), error=error)


def serve(
    path: str,
    env: Mapping[str, str],
    source: CompilerProcess,
    *,
    request: MeshRequest | None = None,
    takes_over: bool = False,
    command: Sequence[str] = (),
) -> NoReturn:
    """
    Run a sidecar, of one process or several, with the file at `path` until a signal ends it, and end the process.

    The exit code is that of the command; without one, 0: stopped as asked; 1: could not start. Then stderr says why, a
    line a problem, and no command was run.

    Args:
        source: Has the configuration.
        request: What the command line says of a control plane; None if nothing.
        takes_over: Inherit the sockets of the sidecar that has the same admin address, if there is one.
        command: The app, if it is to be this process's child.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        if request is not None:
            source.mesh = lambda trigger: request
        deciding = loop.create_task(_decide(path, source, must_ask=request is not None))
        # The process that follows puts its own handlers in the place of these, and nothing is lost between the two.
        for number in ENDING:
            loop.add_signal_handler(number, deciding.cancel)
        obey_signals(ENDING)
        try:
            header, first = await deciding
        except asyncio.CancelledError:
            return EXIT_STOPPED
        count = header.workers
        control = _control(header, request, source)
        settled = Settled(path, source, header, first)
        dependent = AppProcess(command) if command else None
        # Only here: the compiler reads the file meanwhile, and a supervisor needs nothing of the data path.
        if count > 1:
            from sidecar.workers.supervisor import Supervisor

            return await Supervisor(
                path, env, settled, loop, count=count, takes_over=takes_over, dependent=dependent, control=control
            ).run()
        from sidecar.runtime.server import Sidecar

        return await Sidecar(
            path, env, settled, loop, takes_over=takes_over, dependent=dependent, control=control
        ).run()

    run_and_leave(main)


def _control(header: Header, request: MeshRequest | None, source: CompilerProcess) -> Control | None:
    """The control plane that is to be followed, if there is one."""
    if header.control is not None:

        def let_ask(mesh: Callable[[str], MeshRequest]) -> None:
            source.mesh = mesh

        return Control(header, request or MeshRequest(), let_ask)
    if request is not None and header.is_ok:
        options = ",".join(f"--{name}" for name in request.options)
        logger.warning(event("options_unused", options=options, reason="no control plane is named"))
    return None


async def _decide(path: str, source: PlanSource, *, must_ask: bool = False) -> tuple[Header, list[bytes]]:
    """What there is to be, and the frames of the file, if it had to be asked; else one worker and no control plane."""
    if not must_ask:
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                must_ask = await asyncio.to_thread(must_be_read, path)
        except TimeoutError:
            must_ask = True  # the mount hangs: whoever reads the file has a limit, and says so
    if not must_ask:
        return _UNREAD, []
    try:
        async with aclosing(source.frames("start")) as frames:
            first = [frame async for frame in frames]
        header = read_header(first[0])
    except (PlanSourceError, FrameError):
        return _UNREAD, []  # the load asks again, and says why
    return header, first


def must_be_read(path: str) -> bool:
    """Whether the file may want several workers or a control plane; whatever cannot be read twice may."""
    if not os.path.isfile(path):
        return os.path.exists(path)
    try:
        with open(path, "rb") as file:
            text = file.read()
            return _CONTROL.search(text) is not None or _WORKERS in _SAYS_ONE.sub(b"", text)
    except OSError:
        return False
