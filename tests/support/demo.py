"""A demonstration as its users run it: a process, what it says, what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.wait import eventually

COMMAND = (sys.executable, "-m", "sidecar", "demo")


class Demo:
    """A demonstration that runs; what it says is collected as it comes."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self._stderr = directory / "stderr.log"
        environment = {**os.environ, "TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"}
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.decode().rstrip("\n"))

    @property
    def output(self) -> str:
        """What it has said so far."""
        return "\n".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it says this."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output, re.MULTILINE)
            assert match or self.process.poll() is None, f"ended without {pattern!r}:\n{self.output}\n{self.stderr()}"
            return match

        match = eventually(found, f"the demonstration to say {pattern!r}", 60)
        assert match is not None
        return match

    def pids(self) -> list[int]:
        """Of its children, in the order in which it names them."""
        return [int(pid) for pid in self.wait_for(r"^  pids +([\d ]+)$")[1].split()]

    def wait(self, limit_s: float = 60) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(limit_s)
        self._reader.join(10)
        return code

    def stderr(self) -> str:
        """What went to standard error."""
        return self._stderr.read_text()

    def left_behind(self) -> list[str]:
        """Directories that are still there."""
        return [path.name for path in self.directory.iterdir() if path.name.startswith("sidecar-demo-")]


@contextlib.contextmanager
def running(directory: Path, *arguments: str) -> Iterator[Demo]:
    """A demonstration, killed at the end if it is still there."""
    demo = Demo(directory, *arguments)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.wait()
        assert demo.process.stdout is not None
        demo.process.stdout.close()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def assert_nothing_is_left(demo: Demo, pids: list[int]) -> None:
    """No child and no file outlives it."""
    assert [pid for pid in pids if is_alive(pid)] == []
    assert demo.left_behind() == []
