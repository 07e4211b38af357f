"""
A server that writes down what it sees and fails as it is told.

    python -m tests.soak.recorder NAME JOURNAL ADDRESS...

It serves HTTP/1.1 at every address. A request says by its fields who it is (`x-id`) and which answer it wants
(`x-size`, `x-framing`); its body and the answer's are `tagged` with the id, so that both ends recognise a byte in the
wrong place.
Each event is a line of the journal, written by one system call before anything else happens, so that a server that is
killed has written down what it saw:

    R ID METHOD CALLER   the head of a request is here: it may be processed from now on. CALLER is whom the other
                         end is, or the sidecar says that it is (`x-forwarded-client-cert`), if anybody
    S ID                 the answer begins
    E ID                 all of the answer is handed to the kernel
    X ID HOW             it was hurt on purpose
    W ID WHAT            the request was not as its id says

Each line on stdin is a JSON object, the `Temper` from now on. The line `up` on stdout says that it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import struct
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tagged import framed, read_body, read_head, tagged

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset and drops what is not sent."""

GARBAGE = (
    b"\x00\xff\xfe not HTTP \r\n\r\n",
    b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
)


@dataclass(frozen=True)
class Temper:
    """
    How it behaves, as probabilities of a request, but for the last three.

    Attributes:
        reset_before: Resets the connection when the request was read.
        reset_within: Resets it in the middle of the answer.
        cut_within: Closes it there, by TLS without a close_notify; in clear it would pass for an end.
        garbage: Answers what is not HTTP.
        bad_chunk: Answers a chunked body that breaks off in nonsense.
        error: Answers 503.
        trailing: Sends another whole answer, for nobody, behind the right one.
        close_after: Closes behind the answer, without having said so.
        close_idle: Closes within a quarter of a second after the answer, if nothing comes; half of the times with an
            unsolicited 408, as servers do.
        mute: Never answers.
        delay_min_s, delay_max_s: How long it takes for an answer.
    """

    reset_before: float = 0.0
    reset_within: float = 0.0
    cut_within: float = 0.0
    garbage: float = 0.0
    bad_chunk: float = 0.0
    error: float = 0.0
    trailing: float = 0.0
    close_after: float = 0.0
    close_idle: float = 0.0
    mute: float = 0.0
    delay_min_s: float = 0.0
    delay_max_s: float = 0.0


_LETHAL = ("reset_before", "mute", "garbage", "error", "bad_chunk", "reset_within", "cut_within")
_URI = re.compile(r"URI=([^;,]+)")


class Recorder:
    """
    One process's worth of it.

    Attributes:
        high_water: Of octets that the kernel has not taken, beyond which an answer is not handed to it.
    """

    high_water = 0

    def __init__(self, name: str, journal: Path) -> None:
        self.name = name
        self.temper = Temper()
        self._chance = random.Random()
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, line: str) -> None:
        """Into the journal, now."""
        os.write(self._journal, f"{line}\n".encode())

    async def run(self, addresses: list[str]) -> None:
        """Serve until stdin ends."""
        for address in addresses:
            host, _, port = address.rpartition(":")
            await self.listen(host, int(port))
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        sys.stdout.write("up\n")
        sys.stdout.flush()
        while line := await reader.readline():
            self.told(line)

    def told(self, line: bytes) -> None:
        """A `Temper`."""
        self.temper = Temper(**json.loads(line))

    async def listen(self, host: str, port: int) -> None:
        """Take who connects."""
        await asyncio.start_server(self.accept, host, port, backlog=4096)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody is there."""
        self.spawn(self._serve(reader, writer))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside all else; held, for a task that waits for a stream is referred to by nothing else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                if self._chance.random() < self.temper.close_idle:
                    await self._wait_and_close(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _wait_and_close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Close in a while unless a request comes first; it is noticed by looking, for nothing may be read here."""
        patience_s, step_s = self._chance.random() * 0.25, 0.005
        while patience_s > 0:
            await asyncio.sleep(step_s)
            patience_s -= step_s
            if reader._buffer or reader.at_eof():  # type: ignore[attr-defined]
                return
        if self._chance.random() < 0.5:
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        raise ConnectionResetError

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, sent = await read_head(reader)
        tag, method = sent.get("x-id", "?"), line.split(" ")[0]
        self.note(f"R {tag} {method} {self.caller(writer, sent)}".rstrip())
        body = await read_body(reader, sent, is_response=False)
        if body != tagged(tag, int(sent.get("x-sent", "0"))) or f"/{tag} " not in f"{line} ":
            self.note(f"W {tag} {line!r} with {len(body)} bytes, {body[:60]!r}")
        temper = self.temper
        if temper.delay_max_s:
            await asyncio.sleep(self._chance.uniform(temper.delay_min_s, temper.delay_max_s))
        how = next((name for name in _LETHAL if self._chance.random() < getattr(temper, name)), "")
        return await self.answer(writer, tag, sent, how, temper)

    def caller(self, writer: asyncio.StreamWriter, sent: dict[str, str]) -> str:
        """Whom the sidecar says that it is; nobody where it says nothing."""
        found = _URI.search(sent.get("x-forwarded-client-cert", ""))
        return found[1] if found is not None else ""

    async def answer(
        self, writer: asyncio.StreamWriter, tag: str, sent: dict[str, str], how: str, temper: Temper
    ) -> bool:
        """Answer, or do harm."""
        framing = sent.get("x-framing", "length")
        if how == "bad_chunk":
            framing = "chunked"
        if how:
            self.note(f"X {tag} {how}")
        if how == "mute":
            await asyncio.Event().wait()
        if how == "reset_before":
            return reset(writer)
        if how == "garbage":
            writer.write(self._chance.choice(GARBAGE))
            await writer.drain()
            return False
        field, data = framed(tagged(tag, int(sent.get("x-size", "0"))), framing)
        status = "503 Service Unavailable" if how == "error" else "200 OK"
        head = f"HTTP/1.1 {status}\r\nX-Id: {tag}\r\nX-Server: {self.name}\r\n{field}\r\n".encode()
        self.note(f"S {tag}")
        if how in ("reset_within", "cut_within"):
            writer.write(head + data[: len(data) // 2])
            await writer.drain()
            await asyncio.sleep(0.02)
            if framing == "length" and not data:
                self.note(f"E {tag}")  # There was nothing to cut.
            return reset(writer) if how == "reset_within" else cut(writer)
        if how == "bad_chunk":
            writer.write(head + data[: len(data) // 2] + b"\r\nnonsense\r\n")
            await writer.drain()
            return False
        # Of a short answer only, so that both are in one segment: one that came later could not be told from the answer
        # to the next request. The connection stays open, so whoever used it again would get it.
        if framing != "close" and len(data) < 4000 and self._chance.random() < temper.trailing:
            data += b"HTTP/1.1 200 OK\r\nX-Id: nobody\r\nContent-Length: 6\r\n\r\nnobody"
        writer.transport.set_write_buffer_limits(high=self.high_water)
        writer.write(head + data)
        await writer.drain()
        self.note(f"E {tag}")
        return framing != "close" and self._chance.random() >= temper.close_after


def reset(writer: asyncio.StreamWriter) -> bool:
    """Close with a reset."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
    return False


def cut(writer: asyncio.StreamWriter) -> bool:
    """Close without another word."""
    writer.transport.abort()
    return False


if __name__ == "__main__":
    asyncio.run(Recorder(sys.argv[1], Path(sys.argv[2])).run(sys.argv[3:]))
