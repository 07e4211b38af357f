"""The demonstration as its users run it: as a process, unattended, live, on a terminal, and ended in every way."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.wait import eventually

DEFAULT_PORTS = (15000, 15001, 15020, 9901)
COMMAND = (sys.executable, "-m", "sidecar", "demo")
CLAIMS = 17


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
        """Of its children: the sidecar, the storefront, both versions."""
        return [int(pid) for pid in self.wait_for(r"^  pids ([\d ]+)$")[1].split()]

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(60)
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


@pytest.fixture
def taken_ports() -> Iterator[None]:
    """The product's own ports, held by somebody; whoever else has one may keep it."""
    with contextlib.ExitStack() as stack:
        for port in DEFAULT_PORTS:
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                holder.listen()
        yield


@pytest.mark.usefixtures("taken_ports")
def test_unattended_run_settles_every_claim_on_ports_that_are_free(tmp_path: Path) -> None:
    """`sidecar demo --seconds 3` holds all its claims beside somebody who has the default ports, and exits with 0."""
    with running(tmp_path, "--seconds", "3") as demo:
        pids = demo.pids()
        assert demo.wait() == 0, demo.output + demo.stderr()
        assert re.findall(r"^FAILED.*", demo.output, re.MULTILINE) == []
        assert len(re.findall(r"^ok    ", demo.output, re.MULTILINE)) == CLAIMS
        assert demo.output.endswith(f"\n{CLAIMS} claims hold, 0 do not")
        ports = {int(port) for port in re.findall(r":(\d{4,5})\b", demo.output)}
        assert not ports & set(DEFAULT_PORTS)
        assert_nothing_is_left(demo, pids)
        assert demo.stderr() == ""


def test_unattended_run_fails_when_a_version_dies(tmp_path: Path) -> None:
    """A service that is killed while customers are served is told, claim by claim, and the exit code is 1."""
    with running(tmp_path, "--seconds", "1") as demo:
        pids = demo.pids()
        os.kill(pids[2], signal.SIGKILL)
        assert demo.wait() == 1
        assert re.search(
            r"^FAILED  every request is answered 200.*status 502.*connect_failed", demo.output, re.MULTILINE
        )
        assert re.search(r"^FAILED  SIGTERM ends all with code 0: .*recommendations -9", demo.output, re.MULTILINE)
        assert_nothing_is_left(demo, pids)


def test_unattended_run_fails_when_the_sidecar_dies(tmp_path: Path) -> None:
    """Without a sidecar nothing can be verified: one line says so, and the exit code is 1."""
    with running(tmp_path, "--seconds", "1") as demo:
        pids = demo.pids()
        os.kill(pids[0], signal.SIGKILL)
        assert demo.wait() == 1
        assert "the demonstration failed: sidecar has ended with code -9" in demo.stderr()
        assert "Traceback" not in demo.stderr()
        assert_nothing_is_left(demo, pids)


def test_live_run_shows_edits_and_ends_on_interrupt(tmp_path: Path) -> None:
    """The commands that it prints work, edits of the file show, mistakes are named, and Ctrl-C ends it with 0."""
    curl = require("curl")
    with running(tmp_path, "--requests-per-second", "50") as demo:
        pids = demo.pids()
        file = Path(demo.wait_for(r"^  edit:  (\S+)$")[1])
        demo.wait_for(r"canary \d+\.\d/\d+\.\d % of \d+ \(file: 95/5\)")

        def answer(command: str) -> str:
            program, *arguments = shlex.split(command)
            assert program == "curl"
            return subprocess.run(
                [curl, "-s", *arguments], capture_output=True, text=True, timeout=30, check=True
            ).stdout

        beta, teapot, nowhere = re.findall(r"^  try:  (.*?)    #", demo.output, re.MULTILINE)
        assert '"version": "beta"' in answer(beta)
        assert "418" in answer(teapot).splitlines()[0]
        refusal = answer(nowhere)
        assert "404" in refusal.splitlines()[0]
        assert '"flag": "NR"' in refusal

        text = file.read_text()
        file.write_text(text.replace("recommendations: 95, recommendations-beta: 5", "recommendations-beta: 1"))
        demo.wait_for(r"^reloaded: generation 2, hash [0-9a-f]{12}, at \S+Z$")
        file.write_text(text.replace("      match:\n", "      mach:\n", 1))
        demo.wait_for(r"^the file was refused; .*\n  \S+sidecar\.yaml:\d+:\d+: .*did you mean `match`\?$")
        file.write_text(text)
        demo.wait_for(r"^reloaded: generation 3")

        demo.wait_for(
            r"^  SERVER GET pages -> app 200 .*\n  └─ CLIENT GET \S+ -> recommendations\S* 200 .* parent \w{16}$"
        )
        assert file.parent.name in demo.left_behind()
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 0, demo.stderr()
        assert "exit codes: sidecar 0, storefront 0, recommendations 0, recommendations-beta 0" in demo.output
        assert ", 0 failed, " in demo.output.splitlines()[-1]
        assert_nothing_is_left(demo, pids)
        assert demo.stderr() == ""


def test_unattended_run_that_is_interrupted_has_verified_nothing(tmp_path: Path) -> None:
    """Ctrl-C before the claims are checked is no success, and leaves nothing either."""
    with running(tmp_path, "--seconds", "60") as demo:
        pids = demo.pids()
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 130
        assert "claims hold" not in demo.output
        assert_nothing_is_left(demo, pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process that was killed")
def test_killed_demonstration_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL, after which nothing can be cleaned up, still ends the children."""
    with running(tmp_path, "--seconds", "60") as demo:
        pids = demo.pids()
        assert all(is_alive(pid) for pid in pids)
        demo.process.kill()
        eventually(lambda: not any(is_alive(pid) for pid in pids), "the children to end", 30)


def test_terminal_shows_everything_and_comes_back(tmp_path: Path) -> None:
    """The screen has the split, the cookie, the table and a trace; Ctrl-C brings back what was there before."""
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
        "NO_COLOR": "1",
    }
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, COMMAND, environment)
    seen = bytearray()

    def has(*wanted: str) -> bool:
        with contextlib.suppress(OSError):  # EIO: the other side has closed
            seen.extend(os.read(terminal, 65536))
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", bytes(seen)).decode(errors="replace")
        return all(word in text for word in wanted)

    words = ("Ctrl-C ends it", "edit", "canary", "file 95 %", "BETA_USER", "p99 ms", "CLIENT GET canary", "█")
    try:
        eventually(lambda: has(*words), "the screen", 60)
        assert b"\x1b[?1049h" in seen
        os.write(terminal, b"\x03")
        eventually(lambda: has("exit codes: sidecar 0, storefront 0"), "the end", 30)
        assert b"\x1b[?1049l" in seen
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        child = 0
        assert list(tmp_path.iterdir()) == []
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)


def test_terminal_that_cannot_be_drawn_on_gets_lines(tmp_path: Path) -> None:
    """`TERM=dumb`: a line a second, no code for a cursor."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, COMMAND, {**os.environ, "TMPDIR": str(tmp_path), "TERM": "dumb"})
    seen = bytearray()

    def has(word: bytes) -> bool:
        with contextlib.suppress(OSError):  # EIO: the other side has closed
            seen.extend(os.read(terminal, 65536))
        return word in seen

    try:
        eventually(lambda: has(b"answered, 0 failed"), "a line", 60)
        os.write(terminal, b"\x03")
        eventually(lambda: has(b"exit codes: sidecar 0, storefront 0"), "the end", 30)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        child = 0
        assert b"\x1b" not in seen
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
