"""The demonstration of one sidecar: unattended, live, on a terminal, and ended in every way."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import demo
from tests.support.demo import assert_nothing_is_left, is_alive
from tests.support.peers import require
from tests.support.wait import eventually

DEFAULT_PORTS = (15000, 15001, 15020, 9901)
COMMAND = (*demo.COMMAND, "--single")
CLAIMS = 17


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
    with demo.running(tmp_path, "--single", "--seconds", "3") as shown:
        pids = shown.pids()
        assert shown.wait() == 0, shown.output + shown.stderr()
        assert re.findall(r"^FAILED.*", shown.output, re.MULTILINE) == []
        assert len(re.findall(r"^ok    ", shown.output, re.MULTILINE)) == CLAIMS
        assert shown.output.endswith(f"\n{CLAIMS} claims hold, 0 do not")
        ports = {int(port) for port in re.findall(r":(\d{4,5})\b", shown.output)}
        assert not ports & set(DEFAULT_PORTS)
        assert_nothing_is_left(shown, pids)
        assert shown.stderr() == ""


def test_unattended_run_fails_when_a_version_dies(tmp_path: Path) -> None:
    """A service that is killed while customers are served is told, claim by claim, and the exit code is 1."""
    with demo.running(tmp_path, "--single", "--seconds", "1") as shown:
        pids = shown.pids()
        os.kill(pids[2], signal.SIGKILL)
        assert shown.wait() == 1
        assert re.search(
            r"^FAILED  every request is answered 200.*status 502.*connect_failed", shown.output, re.MULTILINE
        )
        assert re.search(r"^FAILED  SIGTERM ends all with code 0: .*recommendations -9", shown.output, re.MULTILINE)
        assert_nothing_is_left(shown, pids)


def test_unattended_run_fails_when_the_sidecar_dies(tmp_path: Path) -> None:
    """Without a sidecar nothing can be verified: one line says so, and the exit code is 1."""
    with demo.running(tmp_path, "--single", "--seconds", "1") as shown:
        pids = shown.pids()
        os.kill(pids[0], signal.SIGKILL)
        assert shown.wait() == 1
        assert "the demonstration failed: sidecar has ended with code -9" in shown.stderr()
        assert "Traceback" not in shown.stderr()
        assert_nothing_is_left(shown, pids)


def test_live_run_shows_edits_and_ends_on_interrupt(tmp_path: Path) -> None:
    """The commands that it prints work, edits of the file show, mistakes are named, and Ctrl-C ends it with 0."""
    curl = require("curl")
    with demo.running(tmp_path, "--single", "--requests-per-second", "50") as shown:
        pids = shown.pids()
        file = Path(shown.wait_for(r"^  edit:  (\S+)$")[1])
        shown.wait_for(r"canary \d+\.\d/\d+\.\d % of \d+ \(file: 95/5\)")

        def answer(command: str) -> str:
            program, *arguments = shlex.split(command)
            assert program == "curl"
            return subprocess.run(
                [curl, "-s", *arguments], capture_output=True, text=True, timeout=30, check=True
            ).stdout

        beta, teapot, nowhere = re.findall(r"^  try:  (.*?)    #", shown.output, re.MULTILINE)
        assert '"version": "beta"' in answer(beta)
        assert "418" in answer(teapot).splitlines()[0]
        refusal = answer(nowhere)
        assert "404" in refusal.splitlines()[0]
        assert '"flag": "NR"' in refusal

        text = file.read_text()
        file.write_text(text.replace("recommendations: 95, recommendations-beta: 5", "recommendations-beta: 1"))
        shown.wait_for(r"^reloaded: generation 2, hash [0-9a-f]{12}, at \S+Z$")
        file.write_text(text.replace("      match:\n", "      mach:\n", 1))
        shown.wait_for(r"^the file was refused; .*\n  \S+sidecar\.yaml:\d+:\d+: .*did you mean `match`\?$")
        file.write_text(text)
        shown.wait_for(r"^reloaded: generation 3")

        shown.wait_for(
            r"^  SERVER GET pages -> app 200 .*\n  └─ CLIENT GET \S+ -> recommendations\S* 200 .* parent \w{16}$"
        )
        assert file.parent.name in shown.left_behind()
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 0, shown.stderr()
        assert "exit codes: sidecar 0, storefront 0, recommendations 0, recommendations-beta 0" in shown.output
        assert ", 0 failed, " in shown.output.splitlines()[-1]
        assert_nothing_is_left(shown, pids)
        assert shown.stderr() == ""


def test_unattended_run_that_is_interrupted_has_verified_nothing(tmp_path: Path) -> None:
    """Ctrl-C before the claims are checked is no success, and leaves nothing either."""
    with demo.running(tmp_path, "--single", "--seconds", "60") as shown:
        pids = shown.pids()
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 130
        assert "claims hold" not in shown.output
        assert_nothing_is_left(shown, pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process that was killed")
def test_killed_demonstration_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL, after which nothing can be cleaned up, still ends the children."""
    with demo.running(tmp_path, "--single", "--seconds", "60") as shown:
        pids = shown.pids()
        assert all(is_alive(pid) for pid in pids)
        shown.process.kill()
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
