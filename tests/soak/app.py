"""
An app that writes down what reaches it, and costs little: `python -m tests.soak.app NAME JOURNAL PORT`.

Each request is a line of the journal, `METHOD PATH`, written by one system call before it is answered, so that an app
that is killed has written down what it saw. The answer is `NAME PATH`. The line `up` on stdout says that it listens;
the end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import uvloop

ROOT = Path(__file__).parent.parent.parent
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class App:
    """
    One as a process; its journal outlives it.

    Args:
        name: What it answers.
        directory: Where the journal is kept.
        port: The same after each start.
    """

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.name = name
        self.port = port
        self.journal = directory / f"{name}.journal"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens when this returns."""
        command = [sys.executable, "-m", "tests.soak.app", self.name, str(self.journal), str(self.port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n", f"{self.name} did not start"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(15)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None

    def arrivals(self) -> list[str]:
        """`METHOD PATH` of all that reached it, health checks aside."""
        if not self.journal.exists():
            return []
        return [line for line in self.journal.read_text().splitlines() if not line.endswith(" /")]


class _Exchanges(asyncio.Protocol):
    """Of one connection."""

    def __init__(self, name: bytes, journal: int) -> None:
        self._name = name
        self._journal = journal
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._held, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length is not None else 0)
            if len(self._held) < whole:
                return
            method, path, _ = self._held[: self._held.index(b"\r\n")].split(b" ")
            self._held = self._held[whole:]
            os.write(self._journal, b"%b %b\n" % (method, path))
            answer = b"%b %b" % (self._name, path)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


async def _serve(name: str, journal: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    await loop.create_server(lambda: _Exchanges(name.encode(), file), "127.0.0.1", port, backlog=1024)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
