"""What a process gets from whoever started it: closed descriptors, signals in its first moment, being process 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

FILE = """
    service: storefront
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{port}"}}
    admin: {{listen: "127.0.0.1:${{ADMIN_PORT}}"}}
    {more}
"""
NO_LOG = 'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}, access_log: {path: /dev/stdout}}'


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app."""
    with Origin("app") as origin:
        yield origin


def streams_of(pid: int) -> list[str]:
    """What descriptors 0 to 2 of a process lead to."""
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


def children_of(pid: int) -> list[int]:
    """Its children of now."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def held(*numbers: signal.Signals) -> Iterator[None]:
    """Whoever is started meanwhile begins with these signals blocked, as `env --block-signal` does it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TestStandardStreams:
    """Descriptors 0 to 2 are never anything but standard streams."""

    @pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "1>&- 2>&-"])
    @pytest.mark.parametrize("workers", ["", "workers: 2"])
    def test_what_is_missing_leads_to_dev_null(self, tmp_path: Path, app: Origin, closed: str, workers: str) -> None:
        """Of the sidecar, its workers and its compiler; so that the access log reaches no client."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=app.port, more=f"{workers}\n    {NO_LOG}"))
        command = [sys.executable, "-m", "sidecar", "run", "--config", str(sidecar.config)]
        shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command]
        sidecar.process = subprocess.Popen(shell, env={**os.environ, **sidecar.env}, start_new_session=True)
        try:
            sidecar.wait_ready()
            with sidecar.connect(sidecar.inbound_port) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                for number in range(3):
                    assert sidecar.inbound(f"/{number}").status == 200
                sidecar.admin("/reload", method="POST")  # with a compiler, which lingers
                pid = sidecar.process.pid
                for process in (pid, *children_of(pid)):
                    assert not any("socket" in stream for stream in streams_of(process)), (process, streams_of(process))
                missing = [number for number in range(3) if f"{number}<&-" in closed or f"{number}>&-" in closed]
                assert {streams_of(pid)[number] for number in missing} == {"/dev/null"}
                assert sidecar.stop() == 0
                client.settimeout(5)
                assert client.recv(65536) == b"", "nothing but its own response reaches a client"
        finally:
            sidecar.kill()

    def test_an_app_that_is_a_child_has_them_too(self, tmp_path: Path, app: Origin) -> None:
        """`sidecar exec` of a parent that closed all three."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=app.port, more=NO_LOG))
        found = tmp_path / "found"
        look = (
            f"import os; open({str(found)!r}, 'w').write(repr([os.readlink(f'/proc/self/fd/{{n}}') for n in range(3)]))"
        )
        command = [sys.executable, "-m", "sidecar", "exec", "--config", str(sidecar.config), "--", sys.executable, "-c"]
        shell = ["/bin/sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *command, look]
        done = subprocess.run(shell, env={**os.environ, **sidecar.env}, timeout=60)
        assert done.returncode == 0
        assert found.read_text() == repr(["/dev/null"] * 3)


class TestFirstMoment:
    """A signal that comes before there is a handler waits for it."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("workers", ["", "workers: 2"])
    def test_a_signal_to_end_is_obeyed(self, tmp_path: Path, number: signal.Signals, workers: str) -> None:
        """With 0, as a stop that was asked for; not by the signal, and not never."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=1, more=workers))
        with held(number):
            sidecar.start()
        sidecar.signal(number)
        try:
            assert sidecar.wait() == 0
        finally:
            sidecar.kill()
        assert "Traceback" not in sidecar.stderr()

    def test_a_reload_is_done_once_there_is_something_to_reload(self, tmp_path: Path, app: Origin) -> None:
        """Whoever wrote the file again, and told us so."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=app.port, more=""))
        with held(signal.SIGHUP, signal.SIGUSR1):
            sidecar.start()
        sidecar.signal(signal.SIGUSR1)
        sidecar.signal(signal.SIGHUP)
        try:
            eventually(lambda: "config_loaded" in sidecar.stderr() and "trigger=signal" in sidecar.stderr(), "a reload")
            assert sidecar.stop() == 0
        finally:
            sidecar.kill()

    def test_sigint_ends_a_start_that_has_no_app_yet(self, tmp_path: Path) -> None:
        """`sidecar exec` passes it on to an app; as long as there is none it is the sidecar's."""
        sidecar = SidecarProcess(tmp_path)
        os.mkfifo(sidecar.config)
        with held(signal.SIGINT):
            sidecar.start(command="exec", trailing=("--", "true"))
        sidecar.signal(signal.SIGINT)
        try:
            assert sidecar.wait() == 0
        finally:
            sidecar.kill()

    def test_nothing_is_held_from_the_children(self, tmp_path: Path, app: Origin) -> None:
        """Neither the app nor the compiler nor, once it runs, the sidecar has a signal blocked."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=app.port, more=""))
        with held(signal.SIGTERM):
            sidecar.start(command="exec", trailing=("--", "sleep", "600"))
        try:
            sidecar.wait_ready()
            assert sidecar.process is not None
            pid = sidecar.process.pid
            eventually(lambda: "app_started" in sidecar.stderr(), "the app to start")
            eventually(lambda: {blocked_of(one) for one in (pid, *children_of(pid))} == {0}, "no signal to be blocked")
            assert len(children_of(pid)) >= 1
            assert sidecar.stop() == 128 + signal.SIGTERM
        finally:
            sidecar.kill()


def blocked_of(pid: int) -> int:
    """The mask of blocked signals of a process's main thread."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), 16)


UNSHARE = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child"]


def can_unshare() -> bool:
    """Whether this machine lets a test have a process 1."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="needs a PID namespace of its own")
class TestProcess1:
    """The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)); ours has, or holds it."""

    def _start(self, sidecar: SidecarProcess, *arguments: str) -> int:
        """Start a command as process 1 of a namespace, with SIGTERM held; returns its number out here."""
        with held(signal.SIGTERM):
            sidecar.process = subprocess.Popen(
                [*UNSHARE, sys.executable, "-m", "sidecar", *arguments],
                env={**os.environ, **sidecar.env}, start_new_session=True,
            )  # fmt: skip
        return eventually(lambda: children_of(sidecar.process.pid), "process 1")[0]  # type: ignore[union-attr]

    def test_sigterm_at_once_ends_it(self, tmp_path: Path) -> None:
        """As from `env --block-signal`, which the image's entry is."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(FILE.format(port=1, more=""))
        pid = self._start(sidecar, "run", "--config", str(sidecar.config))
        os.kill(pid, signal.SIGTERM)
        try:
            assert sidecar.wait() == 0
        finally:
            sidecar.kill()

    def test_a_command_that_waits_ends_by_sigterm(self, tmp_path: Path) -> None:
        """`docker stop` of a container that runs `sidecar wait`, or `top`."""
        sidecar = SidecarProcess(tmp_path)
        pid = self._start(sidecar, "wait", "--address", f"127.0.0.1:{sidecar.metrics_port}", "--timeout", "600s")
        os.kill(pid, signal.SIGTERM)
        try:
            assert sidecar.wait() == 128 + signal.SIGTERM
        finally:
            sidecar.kill()


def test_a_command_without_handlers_ends_by_the_signal_itself(tmp_path: Path) -> None:
    """What is held for the moment of a start is not held from those that start nothing."""
    sidecar = SidecarProcess(tmp_path)
    command = ["wait", "--address", f"127.0.0.1:{sidecar.metrics_port}", "--timeout", "600s"]
    with held(signal.SIGTERM):
        process = subprocess.Popen([sys.executable, "-m", "sidecar", *command], start_new_session=True)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(60) == -signal.SIGTERM
    finally:
        process.kill()


def test_ready_streams_are_left_alone(tmp_path: Path, app: Origin) -> None:
    """Of a usual start: the log is where it was sent."""
    with running_sidecar(tmp_path, FILE.format(port=app.port, more="")) as sidecar:
        eventually(lambda: " live " in sidecar.stderr(), "the log to be where it was sent")
