"""A program that one talks to line by line, such as `openssl s_client` and `openssl s_server`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.wait import eventually


class Talk:
    """What it said, on either stream, and what it is told."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._said += piece

    @property
    def said(self) -> str:
        """All so far."""
        return bytes(self._said).decode("utf-8", "replace")

    def tell(self, octets: bytes) -> None:
        """Write to its standard input, in one piece: a command is the first letter of one."""
        assert self._process.stdin is not None
        self._process.stdin.write(octets)
        self._process.stdin.flush()

    def hear(self, text: str, times: int = 1) -> None:
        """Wait until it has said this, so often."""
        eventually(lambda: self.said.count(text) >= times, f"{text!r} {times} times in {self.said}")

    def end(self) -> int:
        """Wait for its own end; the exit code."""
        code = self._process.wait(30)
        self._reader.join(30)
        return code


@contextlib.contextmanager
def talking(command: Sequence[str], folder: Path | None = None) -> Iterator[Talk]:
    """The program, killed on leaving. What it says comes line by line, though nobody sees it on a terminal."""
    process = subprocess.Popen(
        ["stdbuf", "-oL", *command], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    talk = Talk(process)
    try:
        yield talk
    finally:
        process.kill()
        talk.end()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
