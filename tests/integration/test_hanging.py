"""A file on a mount that hangs, for which a FIFO that nobody writes to does: everything else goes on, and ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

FILE = """
    service: storefront
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{port}"}}
    {more}
"""


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app."""
    with Origin("app") as origin:
        yield origin


def hang(path: Path) -> None:
    """Whoever opens the file from now on waits for ever."""
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    os.replace(fifo, path)


def children_of(pid: int) -> list[int]:
    """Its children of now."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("workers", ["", "workers: 2"])
class TestConfiguration:
    """Whatever waits for the file, in this process or another, waits alone."""

    def test_a_start_that_hangs_ends_by_sigterm(self, tmp_path: Path, workers: str) -> None:
        """With 0; nothing was served yet."""
        sidecar = SidecarProcess(tmp_path)
        hang(sidecar.config)
        sidecar.start()
        try:
            assert sidecar.process is not None
            pid = sidecar.process.pid
            eventually(lambda: any("sidecar.loader" in command_of(one) for one in children_of(pid)), "its compiler")
            assert sidecar.stop() == 0
        finally:
            sidecar.kill()

    def test_a_file_that_hangs_while_it_is_followed_is_felt_by_nobody(
        self, tmp_path: Path, app: Origin, workers: str
    ) -> None:
        """Requests and probes are answered, a reload that is asked for hangs alone, SIGTERM ends all."""
        with running_sidecar(tmp_path, FILE.format(port=app.port, more=workers)) as sidecar:
            hang(sidecar.config)
            sidecar.signal(signal.SIGHUP)
            eventually(lambda: "signal=SIGHUP" in sidecar.stderr(), "the signal to be seen")
            assert sidecar.inbound("/x").status == 200
            assert sidecar.metrics("/ready").status == 200
            assert sidecar.admin("/server_info").status == 200
            assert sidecar.stop() == 0


def command_of(pid: int) -> str:
    """How a process was started, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""


BLACK_HOLE = """
    import os, socket, subprocess, sys
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 53))
    silent.set_inheritable(True)
    os.execv(sys.argv[2], sys.argv[2:])
"""
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]


def can_have_a_network() -> bool:
    """Whether this machine lets a test have a network whose name server never answers."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_have_a_network(), reason="needs a network namespace of its own")
def test_a_lookup_that_hangs_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """The system's resolver gives up after minutes, and cannot be told to earlier."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite("""
        service: storefront
        outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}", unmatched: passthrough}
        upstreams: {slow: {dns: "slow.test:80"}}
        drain: {timeout: 1s}
    """)
    ask = (
        "import http.client as h, os, signal, sys, time\n"
        "def request(port, host):\n"
        "    c = h.HTTPConnection('127.0.0.1', port, timeout=60)\n"
        "    c.request('GET', '/ready', headers={'Host': host})\n"
        "    return c.getresponse().status\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        f"    os.execv(sys.executable, [sys.executable, '-m', 'sidecar', 'run', '--config', {str(sidecar.config)!r}])\n"
        "deadline = time.monotonic() + 60\n"
        "while time.monotonic() < deadline:\n"
        "    try:\n"
        f"        if request({sidecar.metrics_port}, 'localhost') == 200: break\n"
        "    except OSError: time.sleep(0.01)\n"
        f"assert request({sidecar.outbound_port}, 'hangs.test') == 503\n"
        "os.kill(pid, signal.SIGTERM)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    program = [sys.executable, "-c", textwrap.dedent(BLACK_HOLE), str(tmp_path / "resolv.conf")]
    process = subprocess.Popen(
        [*UNSHARE, *program, sys.executable, "-c", ask], env={**os.environ, **sidecar.env}, start_new_session=True
    )
    try:
        assert process.wait(60) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
