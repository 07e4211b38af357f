"""
Frames from a compiler process: the `PlanSource` of a sidecar without workers, and of a supervisor. *Cold.*

A compiler lives for a load, and a few seconds more: files often change several times in a row, and four fifths of what
a small one costs is the compiler's start. One that had much to do ends at once, for its memory is the file's.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sidecar.compile.frames import FrameError, Kind, kind_of
from sidecar.loader.low_priority import background_niceness
from sidecar.loader.plan_source import MeshRequest, PlanSourceError, PreviewQuestion
from sidecar.loader.spawn import Child, spawn_compiler
from sidecar.loader.wire import prefixed, read_frame

LIMIT_S = 60.0
"""What reading and judging a file may take; 10,000 routes take 1.5 s of an idle core."""

LINGER_S = 3.0
"""For how long a compiler waits for the next load."""

LINGER_BYTES = 256 * 1024
"""Of frames: a compiler that has sent more is not kept; some 1,000 routes."""

PATIENCE_S = 1.0
"""Between the end of a compiler's output and its own, and between its being killed and its being gone."""

_READ_BYTES = 64 * 1024  # what a pipe holds


class CompilerProcess:
    """
    Reads a file by way of compilers.

    Args:
        path: Of the file.
        env: For `${NAME}`.
        started: A compiler that is there already; it serves the first load.
        limit_s: Seconds after which a compiler that has not finished is given up.
        spawn: Starts a compiler; told whether beside traffic.
        mesh: Says, when asked for the trigger of a load, what else the configuration is made of, if a control plane is
            followed; None if none is.
    """

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        started: Child | None = None,
        limit_s: float = LIMIT_S,
        spawn: Callable[[Mapping[str, str], int | None], Child] = spawn_compiler,
        mesh: Callable[[str], MeshRequest | None] = lambda trigger: None,
    ) -> None:
        self._path = path
        self._env = env
        self._started = started
        self._limit_s = limit_s
        self._spawn = spawn
        self.mesh = mesh
        self._idle: _Compiler | None = None
        self._killed: _Compiler | None = None
        """The last one that was ended before it was done; one whose mount hangs is not even gone then."""

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """As `PlanSource.frames`; beside traffic, that is at every trigger but `start`, the compiler stands back."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limit_s
        niceness = None if trigger == "start" else background_niceness()
        compiler = await self._compiler(loop, niceness)
        sent_bytes = 0
        kind: Kind | None = None
        try:
            mesh = self.mesh(trigger)
            request = {"path": self._path, "niceness": niceness, "mesh": mesh.shown() if mesh is not None else None}
            async with asyncio.timeout_at(deadline):
                await compiler.ask(request)
            while kind is not Kind.END:
                async with asyncio.timeout_at(deadline):
                    frame = await read_frame(compiler.reader)
                kind = kind_of(frame)
                sent_bytes += len(frame)
                yield frame
        except TimeoutError:
            raise self._failure(f"the compiler has not finished within {self._limit_s:g} s") from None
        except asyncio.IncompleteReadError:
            how = await compiler.end()
            raise self._failure(f"the compiler ended before it was done: {how}") from None
        finally:
            if kind is Kind.END and sent_bytes <= LINGER_BYTES:
                self._idle = compiler
                compiler.rest(LINGER_S)
            else:
                compiler.close()
                self._killed = compiler

    async def report(self, question: PreviewQuestion) -> dict[str, Any]:
        """As `PlanSource.report`, by a compiler of its own, which stands back for traffic."""
        loop = asyncio.get_running_loop()
        niceness = background_niceness()
        mesh = self.mesh("preview")
        asked = {
            "name": question.name, "live": len(question.live), "new": len(question.new),
            "rings": [len(ring) for ring in question.rings],
        }  # fmt: skip
        request = {
            "path": self._path, "niceness": niceness, "mesh": mesh.shown() if mesh is not None else None,
            "preview": asked,
        }  # fmt: skip
        blocks = [*question.live, *(question.new or [question.text])]
        blocks += (block for ring in question.rings for block in ring)
        try:
            child = await loop.run_in_executor(None, self._spawn, self._env, niceness)
        except OSError as error:
            raise self._failure(f"cannot start a compiler: {(error.strerror or str(error)).lower()}") from None
        compiler = _Compiler(child, loop)
        compiler.open()
        try:
            async with asyncio.timeout(self._limit_s):
                await compiler.ask(request, blocks)
                frame = await read_frame(compiler.reader)
        except TimeoutError:
            raise self._failure(f"the preview has not finished within {self._limit_s:g} s") from None
        except asyncio.IncompleteReadError:
            how = await compiler.end()
            raise self._failure(f"the compiler ended before the preview was done: {how}") from None
        finally:
            compiler.close()
        if kind_of(frame) is not Kind.REPORT:
            raise FrameError(f"expected a report, found {frame[:20]!r}")
        report: dict[str, Any] = json.loads(frame[1:])
        return report

    async def _compiler(self, loop: asyncio.AbstractEventLoop, niceness: int | None) -> _Compiler:
        """One that waits for a request: the last load's, the one that was there before us, or a new one."""
        compiler, self._idle = self._idle, None
        if self._killed is not None and not await self._killed.gone():
            # One more at each try would hang, too.
            raise self._failure("the last compiler has not ended since it was killed: does the mount of the file hang?")
        if compiler is None or not compiler.wake():
            started, self._started = self._started, None
            try:
                child = started
                if child is None:
                    child = await loop.run_in_executor(None, self._spawn, self._env, niceness)
            except OSError as error:
                raise self._failure(f"cannot start a compiler: {(error.strerror or str(error)).lower()}") from None
            compiler = _Compiler(child, loop)
        compiler.open()
        return compiler

    def _failure(self, why: str) -> PlanSourceError:
        return PlanSourceError(f"{self._path}: {why}; nothing was changed")


class _Compiler:
    """
    A compiler process and the reading end of its output.

    Attributes:
        reader: Of its frames, between `open` and `rest`.
    """

    def __init__(self, child: Child, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(loop=loop)
        self._child = child
        self._loop = loop
        self._is_reading = False
        self._leaving: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._ending: asyncio.Future[tuple[int, int]] | None = None

    def open(self) -> None:
        """
        Begin to read.

        Not by `connect_read_pipe`: uvloop closes a pipe's descriptor twice, the second time perhaps that of a socket
        which another thread got meanwhile.
        """
        self.reader = asyncio.StreamReader(loop=self._loop)
        os.set_blocking(self._child.stdout, False)
        self._loop.add_reader(self._child.stdout, self._on_readable)
        self._is_reading = True

    async def ask(self, request: Mapping[str, object], blocks: Sequence[bytes] = ()) -> None:
        """Write a request, and what belongs to it; to one that died before it makes no difference."""
        octets = json.dumps(request).encode() + b"\n"
        if len(octets) <= select.PIPE_BUF and not blocks:
            with suppress(BrokenPipeError):
                os.write(self._child.stdin, octets)
        else:
            # A pushed file is in it, and a pipe takes 64 KiB at a time. By a descriptor of its own: this one may be
            # closed, and its number be another's, before all is written.
            own = os.dup(self._child.stdin)
            await self._loop.run_in_executor(None, _write_all, own, octets, blocks)

    def rest(self, seconds: float) -> None:
        """Keep it so long, in case of another request; the loop may end meanwhile, of which nothing is kept."""
        self._stop_reading()
        self._leaving = self._loop.call_later(seconds, self.close)

    def wake(self) -> bool:
        """There is another request; False if it has left, or died, or says what nobody asked for."""
        if self._leaving is not None:
            self._leaving.cancel()
        if not self._is_closed and not self._has_said_something():
            return True
        self.close()
        return False

    def _has_said_something(self) -> bool:
        # Not `select`, which knows no descriptor above 1023: with so many connections, it may be one of those.
        poll = select.poll()
        poll.register(self._child.stdout, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """End it, whatever it does; may come twice."""
        if self._let_go():
            self._kill()
            self._wait()

    async def gone(self) -> bool:
        """Whether it is no more; waits a little for one that was closed."""
        if self._ending is not None:
            await asyncio.wait({self._ending}, timeout=PATIENCE_S)
        return self._ending is None or self._ending.done()

    async def end(self) -> str:
        """How it ended, now that its output is over; if it goes on nevertheless, it is ended."""
        if not self._let_go():
            return "it was closed"
        ending = self._wait()
        await asyncio.wait({ending}, timeout=PATIENCE_S)
        if not ending.done():
            self._kill()
            await asyncio.wait({ending}, timeout=PATIENCE_S)
        if not ending.done():
            return "it was killed, and is not gone"
        _, status = ending.result()
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}; was there enough memory?" if -code == signal.SIGKILL else name

    def _wait(self) -> asyncio.Future[tuple[int, int]]:
        self._ending = asyncio.ensure_future(self._loop.run_in_executor(None, os.waitpid, self._child.pid, 0))
        return self._ending

    def _let_go(self) -> bool:
        """Close our ends of its pipes; False if that was done already."""
        was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._stop_reading()
            os.close(self._child.stdin)
            os.close(self._child.stdout)
        return not was_closed

    def _on_readable(self) -> None:
        try:
            data = os.read(self._child.stdout, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self.reader.feed_data(data)
        else:
            self.reader.feed_eof()
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._child.stdout)
            self._is_reading = False

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGKILL)


def _write_all(descriptor: int, octets: bytes, blocks: Sequence[bytes] = ()) -> None:
    """Write to a pipe until nobody reads any more, and close it; blocks."""
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=_READ_BYTES) as pipe:
        pipe.write(octets)
        for block in blocks:
            pipe.write(prefixed(block))
