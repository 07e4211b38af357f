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

from sidecar.compile.frames import FrameError, Header, Kind, make_frame, read_header
from sidecar.loader.plan_source import PlanSource, PlanSourceError
from sidecar.runtime.app_process import AppProcess
from sidecar.runtime.loop import run_in_loop

_KEY = b"workers"
_SAYS_ONE = re.compile(rb"^(?:[ \t]*#.*|workers:[ \t]+1[ \t]*(?:#.*)?)\r?$", re.MULTILINE)
"""Lines that cannot ask for several: comments, and the key with the one value that needs no waiting."""
EXIT_STOPPED = 0


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
        return Header(False, header.digest_hex, error=error)


def serve(
    path: str, env: Mapping[str, str], source: PlanSource, *, takes_over: bool = False, command: Sequence[str] = ()
) -> int:
    """Run a sidecar, of one process or several, as `runtime.server.serve` says."""
    if not mentions_workers(path):
        # Only here: a supervisor needs nothing of the data path.
        from sidecar.runtime.server import serve as serve_alone

        return serve_alone(path, env, Settled(path, source, 1), takes_over=takes_over, command=command)

    async def main() -> int:
        try:
            first = await _first_frames(source)
            header = read_header(first[0]) if first else None
        except (PlanSourceError, FrameError):
            first, header = [], Header(False)  # the load asks again, and says why
        if header is None:
            return EXIT_STOPPED
        count = header.workers if header.is_ok else 1
        dependent = AppProcess(command) if command else None
        loop = asyncio.get_running_loop()
        settled = Settled(path, source, count, first)
        if count > 1:
            from sidecar.workers.supervisor import Supervisor

            return await Supervisor(
                path, env, settled, loop, count=count, takes_over=takes_over, dependent=dependent
            ).run()
        from sidecar.runtime.server import Sidecar

        return await Sidecar(path, env, settled, loop, takes_over=takes_over, dependent=dependent).run()

    return run_in_loop(main)


def mentions_workers(path: str) -> bool:
    """Whether the file may want several; whatever cannot be read twice may."""
    if not os.path.isfile(path):
        return os.path.exists(path)
    try:
        with open(path, "rb") as file:
            return _KEY in _SAYS_ONE.sub(b"", file.read())
    except OSError:
        return False


async def _first_frames(source: PlanSource) -> list[bytes]:
    """All frames; none if a signal ends the process before they are here."""

    async def read() -> list[bytes]:
        async with aclosing(source.frames("start")) as frames:
            return [frame async for frame in frames]

    loop = asyncio.get_running_loop()
    reading = loop.create_task(read())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reading.cancel)
    try:
        return await reading
    except asyncio.CancelledError:
        return []
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
