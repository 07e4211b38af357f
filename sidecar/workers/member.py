"""
One worker as its supervisor sees it: a process, what it says, and what it is told; `worker` is the other end. *Cold.*

    STARTING --hello, prepared, loaded--> LIVE --the process is gone, and all that it said has been heard--> ended

A worker that does not answer pings for HUNG_AFTER turns of the supervisor's clock is killed. Turns, not seconds: on
a machine that was suspended, or is too busy to run the supervisor, no worker is hung for that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sidecar.process_log import event, get_level
from sidecar.telemetry.metrics.merge import Merged
from sidecar.telemetry.metrics.report import Piece
from sidecar.workers.channel import Channel, Key, Message, send_sockets

logger = logging.getLogger(__name__)

BEAT_S = 1.0
HUNG_AFTER = 5
"""Turns without an answer; a loop that is held for so long serves nobody."""
SLOW_AFTER = 2
"""Turns without an answer after which a worker gets no new connections, if there are others."""

_BOOT = "import sys; at = sys.argv.index('--'); arguments = sys.argv[1:at]; sys.path[:] = sys.argv[at + 1 :]; " \
    "from sidecar.runtime.inherited import put_right; put_right(); " \
    "from sidecar.workers.worker import main; main(arguments)"  # fmt: skip


class MemberGoneError(Exception):
    """The worker has ended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A worker's answer to an admin request.

    Attributes:
        stream: Further pieces of the body, if they come by and by.
    """

    status: int
    content_type: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    stream: MemberStream | None


class MemberStream:
    """Pieces of a worker's answer: an `endpoints.Stream`."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_first = True

    def put(self, piece: bytes) -> None:
        """It came; empty: the end."""
        self._pieces.put_nowait(piece)

    async def next(self) -> bytes:
        """The next piece; only then is one more asked for."""
        if not self._is_first:
            self._channel.send("more", self._number)
        self._is_first = False
        return await self._pieces.get()

    def finish(self) -> None:
        """Come to an end soon."""
        self._channel.send("finish", self._number)

    def close(self) -> None:
        """Nobody reads."""
        self._channel.send("close", self._number)


class Member:
    """
    One worker.

    Args:
        index: From 0.
        merged: Where its numbers are added.

    Attributes:
        pid: Of the process; 0 before `start`.
        state: STARTING, LIVE or ENDED.
        why: Why it was ended by us: `hung` or `not_ready`; else `died`.
        why_not_ready: Why it is of no use, as it said last: certificates are each worker's own; empty if it is.
        certificate: What it said last of a certificate that it has by itself: the fields of `IdentityReport`, or none.
        facts: What it said of the configuration in force: `resource`, `bound` by listener, drain times.
        inbound_empty: It has no inbound work any more, as asked by `quit`.
        ended: It is gone, and all that it said has been heard.
    """

    def __init__(self, index: int, merged: Merged) -> None:
        self.index = index
        self.pid = 0
        self.state = "STARTING"
        self.why = "died"
        self.why_not_ready = ""
        self.certificate: tuple[Any, ...] = ()
        self.started_s = time.time()
        self.facts: Mapping[str, Any] = {}
        self.inbound_empty = asyncio.Event()
        self.ended = asyncio.Event()
        self.code: int | None = None
        self._share = merged.join()
        self._channel = Channel(self._on_message, self._on_lost)
        self._lost = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._lender: socket.socket | None = None
        self._unanswered = 0
        self._waits: dict[str, asyncio.Future[Any]] = {}
        self._asked = 0
        self._streams: dict[int, MemberStream] = {}

    def __repr__(self) -> str:
        return f"<Member {self.index} pid={self.pid} {self.state}>"

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self, path: str, env: Mapping[str, str], turns: int) -> asyncio.Task[None]:
        """
        Start the process.

        Args:
            turns: Descriptor of the lock under which workers write to the access log.

        Returns:
            A task that is done when it has ended.

        Raises:
            OSError: The system does not let us.
        """
        own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lender, borrower = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lender.setblocking(False)
        descriptors = (its.fileno(), borrower.fileno(), turns)
        arguments = (str(self.index), *map(str, descriptors), get_level(), path)
        try:
            # -P: what lies in the current directory is no module of ours.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-c", _BOOT, *arguments, "--", *sys.path,
                pass_fds=descriptors, stdin=asyncio.subprocess.DEVNULL, env=dict(env),
            )  # fmt: skip
        except BaseException:
            own.close()
            raise
        finally:
            its.close()
            borrower.close()
        self.pid = self._process.pid
        await self._channel.open(own)
        return asyncio.get_running_loop().create_task(self._see_it_end(), name=f"worker-{self.index}")

    def beat(self) -> None:
        """Once every BEAT_S: ask whether it is there, and end it if it has not said so for long."""
        if self.state != "LIVE":
            return
        if self._unanswered >= HUNG_AFTER:
            self.kill("hung")
        self._unanswered += 1
        self._channel.send("ping")

    @property
    def is_answering(self) -> bool:
        """Whether it serves, and said something lately."""
        return self.state == "LIVE" and self._unanswered <= SLOW_AFTER

    def kill(self, why: str = "died") -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self.why = why
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _see_it_end(self) -> None:
        assert self._process is not None
        code = await self._process.wait()
        # What it said before is still to be read: its last report.
        await self._lost.wait()
        self.code = code
        self.state = "ENDED"
        self._share.leave()
        if self._lender is not None:
            self._lender.close()
        self.inbound_empty.set()
        self.ended.set()

    # --- loading -----------------------------------------------------------------------------------------------

    async def prepare(
        self, trigger: str, frames: Sequence[bytes], sockets: Sequence[tuple[Key, socket.socket]]
    ) -> list[str]:
        """
        Have it prepare a configuration; exactly one of `commit` and `abandon` must follow if it could.

        Returns:
            What is wrong, a line each; nothing if it could.

        Raises:
            MemberGoneError: It died over it, or for another reason.
        """
        prepared = self._wait("prepared")
        loaded = self._wait("loaded")
        assert self._lender is not None
        try:
            times = send_sockets(self._lender, sockets)
        except OSError as error:
            raise MemberGoneError(str(error)) from None
        self._channel.send("load", trigger, times)
        for frame in frames:
            self._channel.send("frame", frame)
        await asyncio.wait((prepared, loaded), return_when=asyncio.FIRST_COMPLETED)
        if not loaded.done():
            prepared.result()
            return []
        is_ok, lines, _ = loaded.result()
        return list(lines) if not is_ok else []

    async def commit(self) -> list[str]:
        """
        Put in force what was prepared.

        Returns:
            Why that went wrong, which it does not: a fault of ours.

        Raises:
            MemberGoneError: It died over it.
        """
        loaded = self._wait("loaded")
        self._channel.send("commit")
        is_ok, lines, facts = await loaded
        if not is_ok:
            return list(lines)
        self.facts = facts
        self.state = "LIVE"
        return []

    async def abandon(self, why: str) -> None:
        """Forget what was prepared."""
        loaded = self._wait("loaded")
        self._channel.send("abandon", why)
        with suppress(MemberGoneError):
            await loaded

    # --- asking and telling ------------------------------------------------------------------------------------

    def tell(self, name: str, *values: object) -> None:
        """Say what needs no answer."""
        self._channel.send(name, *values)

    async def report(self) -> None:
        """
        Have its numbers of now.

        Raises:
            MemberGoneError: It is gone; what it told before is kept.
        """
        self._asked += 1
        reported = self._wait(f"reported {self._asked}")
        self._channel.send("report", self._asked)
        await reported

    async def recent(self) -> list[bytes]:
        """
        Have the heads of its last requests, as `insight.preview.wire.pack` makes them.

        Raises:
            MemberGoneError: It is gone.
        """
        self._asked += 1
        told = self._wait(f"recent {self._asked}")
        self._channel.send("recent", self._asked)
        blocks: list[bytes] = await told
        return blocks

    async def ask(self, method: str, target: str, accept: str = "") -> Answer:
        """
        Have it answer an admin request.

        Raises:
            MemberGoneError: It is gone.
        """
        self._asked += 1
        answered = self._wait(f"answer {self._asked}")
        self._channel.send("ask", self._asked, method, target, accept)
        answer: Answer = await answered
        return answer

    def _wait(self, what: str) -> asyncio.Future[Any]:
        """A future of something that it will say; an earlier one of the same name, if it is not done yet."""
        found = self._waits.get(what)
        if found is None or found.done():
            found = self._waits[what] = asyncio.get_running_loop().create_future()
            # Not every answer is waited for to the end.
            found.add_done_callback(lambda future: future.cancelled() or future.exception())
            if self._lost.is_set():
                found.set_exception(MemberGoneError(f"worker {self.index} is gone"))
        return found

    def _answered(self, what: str, value: object) -> None:
        future = self._waits.pop(what, None)
        if future is not None and not future.done():
            future.set_result(value)

    # --- messages ----------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        name, *values = message
        self._unanswered = 0
        getattr(self, f"_on_{name}")(*values)

    def _on_lost(self) -> None:
        self._lost.set()
        for future in self._waits.values():
            if not future.done():
                future.set_exception(MemberGoneError(f"worker {self.index} is gone"))
        for stream in self._streams.values():
            stream.put(b"")

    def _on_hello(self) -> None:
        logger.debug(event("worker_started", worker=self.index, pid=self.pid))

    def _on_bye(self, code: int) -> None:
        logger.debug(event("worker_stopped", worker=self.index, pid=self.pid, code=code))

    def _on_pong(self, why_not_ready: str) -> None:
        """That it is there, anything that it says tells."""
        self.why_not_ready = why_not_ready

    def _on_certificate(self, *told: Any) -> None:
        self.certificate = told

    def _on_prepared(self, why_not_ready: str) -> None:
        self.why_not_ready = why_not_ready
        self._answered("prepared", None)

    def _on_loaded(self, is_ok: bool, lines: list[str], facts: Mapping[str, Any]) -> None:
        self._answered("loaded", (is_ok, lines, facts))

    def _on_inbound_empty(self) -> None:
        self.inbound_empty.set()

    def _on_piece(self, piece: Piece) -> None:
        self._share.take(piece)

    def _on_reported(self, number: int) -> None:
        self._answered(f"reported {number}", None)

    def _on_recent(self, number: int, blocks: list[bytes]) -> None:
        self._answered(f"recent {number}", blocks)

    def _on_answer(
        self, number: int, status: int, content_type: bytes, headers: list[list[bytes]], body: bytes, is_stream: bool
    ) -> None:
        stream = MemberStream(self._channel, number) if is_stream else None
        if stream is not None:
            self._streams[number] = stream
        pairs = [(name, value) for name, value in headers]
        self._answered(f"answer {number}", Answer(status, content_type, pairs, body, stream))

    def _on_stream(self, number: int, piece: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.put(piece)
            if not piece:
                del self._streams[number]
