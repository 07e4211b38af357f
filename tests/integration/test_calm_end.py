"""Ends and successions of a real process that lose nothing: the drain's delay, and one sidecar after another."""

from __future__ import annotations

import functools
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app, which is its own dependency."""
    with Origin("app") as origin:
        yield origin


def config(app: Origin, drain: str) -> str:
    """A file with an app, and a dependency that is the same server."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{dependency: {{endpoints: ["127.0.0.1:{app.port}"]}}}}
        drain: {drain}
    """


class Load:
    """
    Clients that keep their connections and send one request after the other; who is told to close connects anew.

    Attributes:
        served: Responses with 200.
        failures: Everything else.
    """

    def __init__(self, port: int, clients: int = 4) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._port = port
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._is_over.is_set():
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.request("GET", "/x", headers={"Host": "dependency"})
                reply = connection.getresponse()
                reply.read()
            except Exception as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if reply.status == 200:
                self.served += 1
            else:
                self.failures.append(f"status {reply.status}")
            if reply.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the clients."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more requests were served."""
        goal = self.served + count
        eventually(lambda: self.served >= goal or self.failures, f"{count} more requests")


def _answers(sidecar: SidecarProcess) -> bool:
    """Whether it is this process that answers at the admin port."""
    assert sidecar.process is not None
    return bool(sidecar.admin("/server_info").json()["pid"] == sidecar.process.pid)


class TestDelay:
    """`drain.delay`."""

    def test_inbound_serves_while_readiness_fails_already(self, tmp_path: Path, app: Origin) -> None:
        """During the delay new connections are accepted, and every response tells its client to close."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s, delay: 3s}")) as sidecar:
            began = time.monotonic()
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: sidecar.metrics("/ready").status == 503, "readiness to fail")
            reply = sidecar.inbound("/x")
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert sidecar.outbound("/x", host="dependency").headers.get("connection") != "close"
            assert sidecar.wait() == 0
            assert time.monotonic() - began >= 3

    def test_clients_under_load_that_connect_anew_lose_nothing_in_the_delay(self, tmp_path: Path, app: Origin) -> None:
        """Whoever goes elsewhere within the delay, as readiness asks, sees no failure."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s, delay: 4s}")) as sidecar:
            load = Load(sidecar.inbound_port)
            load.wait_for_more(50)
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "readiness to fail")
            load.wait_for_more(50)
            load.stop()
            assert load.failures == []
            assert sidecar.wait() == 0

    def test_sigint_does_not_wait_for_the_delay(self, tmp_path: Path, app: Origin) -> None:
        """At once means at once."""
        with running_sidecar(tmp_path, config(app, "{timeout: 120s, delay: 60s}")) as sidecar:
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "readiness to fail")
            sidecar.signal(signal.SIGINT)
            assert sidecar.wait() == 0

    def test_a_request_on_its_way_over_a_new_connection_is_served(self, tmp_path: Path, app: Origin) -> None:
        """A connection without a request yet is not closed in the same moment as the listener."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s}")) as sidecar:
            with sidecar.connect(sidecar.inbound_port) as fresh:
                before = sidecar.admin("/server_info").json()["connections"]["inbound"]
                assert before == 1
                sidecar.signal(signal.SIGTERM)
                eventually(lambda: "listener_closed role=inbound" in sidecar.stderr(), "the listener to close")
                fresh.sendall(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
                answer = b""
                while chunk := fresh.recv(65536):
                    answer += chunk
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            assert sidecar.wait() == 0


@pytest.mark.long
class TestTakeover:
    """`sidecar run --takeover`."""

    def _successor(self, sidecar: SidecarProcess, directory: Path, text: str) -> SidecarProcess:
        """Another process with the ports of the first."""
        other = SidecarProcess(directory)
        for name in ("inbound_port", "outbound_port", "admin_port", "metrics_port"):
            setattr(other, name, getattr(sidecar, name))
        other.env = dict(sidecar.env)
        other.rewrite(text)
        return other

    @pytest.mark.long
    def test_a_successor_takes_over_under_load_and_nothing_is_lost(self, tmp_path: Path, app: Origin) -> None:
        """Three successions, on both sides, with keep-alive clients: no failure, and each predecessor exits with 0."""
        text = config(app, "{timeout: 20s}")
        with running_sidecar(tmp_path / "0", text) as first:
            inbound, outbound = Load(first.inbound_port), Load(first.outbound_port)
            current = first
            for number in range(1, 4):
                inbound.wait_for_more(50)
                outbound.wait_for_more(50)
                successor = self._successor(first, tmp_path / str(number), text)
                successor.start("--takeover")
                try:
                    assert current.wait() == 0
                    eventually(functools.partial(_answers, successor), "the successor to answer")
                    assert successor.is_ready()
                    assert "taken_over" in current.stderr()
                except BaseException:
                    successor.kill()
                    raise
                current = successor
            inbound.wait_for_more(50)
            outbound.wait_for_more(50)
            inbound.stop()
            outbound.stop()
            assert current.stop() == 0
            assert inbound.failures == []
            assert outbound.failures == []

    def test_an_exchange_in_flight_ends_with_the_predecessor(self, tmp_path: Path, app: Origin) -> None:
        """While the successor serves everybody else."""
        text = config(app, "{timeout: 20s}")
        with running_sidecar(tmp_path / "a", text) as first:
            connection = http.client.HTTPConnection("127.0.0.1", first.inbound_port, timeout=30)
            connection.request("GET", "/slow")
            assert app.entered.wait(30)
            successor = self._successor(first, tmp_path / "b", text)
            successor.start("--takeover")
            try:
                eventually(lambda: "taken_over" in first.stderr(), "the first to be taken over")
                assert successor.inbound("/x").text == "app"
                assert first.process is not None
                assert first.process.poll() is None
                app.release()
                reply = connection.getresponse()
                assert (reply.status, reply.read()) == (200, b"app")
                assert first.wait() == 0
                assert successor.stop() == 0
            finally:
                successor.kill()

    def test_a_successor_that_cannot_start_leaves_the_first_as_it_was(self, tmp_path: Path, app: Origin) -> None:
        """One whose file is wrong, and one that wants another port that is taken; Unix sockets keep their files."""
        path = tmp_path / "out.sock"
        text = config(app, "{timeout: 20s}").replace(
            '"127.0.0.1:${OUTBOUND_PORT}"', f'["127.0.0.1:${{OUTBOUND_PORT}}", "unix:{path}"]'
        )
        with running_sidecar(tmp_path / "a", text) as first, socket.create_server(("127.0.0.1", 0)) as stranger:
            taken = f'"127.0.0.1:{stranger.getsockname()[1]}"'
            bad = [
                text.replace("app:", "ap:"),
                text.replace('"127.0.0.1:${INBOUND_PORT}"', f'["127.0.0.1:${{INBOUND_PORT}}", {taken}]'),
            ]
            for number, wrong in enumerate(bad):
                successor = self._successor(first, tmp_path / f"b{number}", wrong)
                successor.start("--takeover")
                try:
                    assert successor.wait() == 1
                finally:
                    successor.kill()
            assert first.is_ready()
            assert first.inbound("/x").text == "app"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            successor = self._successor(first, tmp_path / "good", text)
            successor.start("--takeover")
            try:
                assert first.wait() == 0
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                assert successor.stop() == 0
                assert not path.exists()
            finally:
                successor.kill()

    def test_without_a_predecessor_it_starts_as_usual(self, tmp_path: Path, app: Origin) -> None:
        """So that a unit file can always say --takeover."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s}"), "--takeover") as sidecar:
            assert sidecar.inbound("/x").text == "app"

    def test_a_port_in_use_by_a_stranger_stays_an_error(self, tmp_path: Path, app: Origin) -> None:
        """And so does a second sidecar that was not told to take over."""
        text = config(app, "{timeout: 20s}")
        sidecar = SidecarProcess(tmp_path / "a")
        sidecar.rewrite(text)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", sidecar.inbound_port))
            stranger.listen()
            sidecar.start("--takeover")
            assert sidecar.wait() == 1
            assert "the address is already in use" in sidecar.stderr()
        with running_sidecar(tmp_path / "b", text) as first:
            second = self._successor(first, tmp_path / "c", text)
            second.start()
            assert second.wait() == 1
            assert "the address is already in use" in second.stderr()
            assert first.is_ready()


APP = """
import http.server, os, signal, sys, threading, urllib.request

log = open(os.environ["APP_LOG"], "a", buffering=1)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"app")
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)

def end(number, frame):
    # Its last deed is a call to a dependency, through the sidecar.
    call = urllib.request.Request("http://127.0.0.1:" + os.environ["OUTBOUND_PORT"], headers={"Host": "dependency"})
    print("ended by", number, urllib.request.urlopen(call, timeout=10).read().decode(), file=log)
    os._exit(7)

signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", number, file=log))
print("started", sys.argv[1:], file=log)
server.serve_forever()
"""


class TestExec:
    """`sidecar exec -- COMMAND`."""

    def _start(self, sidecar: SidecarProcess, text: str, *command: str, app_port: int = 0) -> Path:
        """Start it with a command; returns the app's own log."""
        log = sidecar.directory / "app.log"
        log.touch()
        sidecar.env |= {"APP_LOG": str(log), "APP_PORT": str(app_port)}
        sidecar.rewrite(text)
        sidecar.start(command="exec", trailing=("--", *command))
        return log

    def test_the_app_starts_when_the_proxy_is_ready_and_its_code_is_the_end(self, tmp_path: Path, app: Origin) -> None:
        """What the app asks of a dependency at its very start already works; what it says is left alone."""
        sidecar = SidecarProcess(tmp_path)
        code = (
            "import os, urllib.request as u, sys;"
            "r = u.Request('http://127.0.0.1:' + os.environ['OUTBOUND_PORT'], headers={'Host': 'dependency'});"
            "print(u.urlopen(r, timeout=10).read().decode(), sys.argv[1:]); sys.exit(42)"
        )
        self._start(sidecar, config(app, "{timeout: 20s}"), sys.executable, "-c", code, "--flag", "-c", "x")
        try:
            assert sidecar.wait() == 42
        finally:
            sidecar.kill()
        assert sidecar.stdout() == "app ['--flag', '-c', 'x']\n"
        assert "app_ended code=42" in sidecar.stderr()
        assert sidecar.wait_for_log_lines(1)[0]["response_code"] == 200

    def test_sigterm_drains_inbound_before_it_reaches_the_app(self, tmp_path: Path, app: Origin) -> None:
        """Clients lose nothing, the app still reaches its dependency in its last moment, and its code is the end."""
        sidecar = SidecarProcess(tmp_path)
        app_port = free_port()
        text = config(app, "{timeout: 20s, delay: 4s}").replace(
            f'app: "127.0.0.1:{app.port}"', 'app: "127.0.0.1:${APP_PORT}"'
        )
        log = self._start(sidecar, text, sys.executable, "-c", APP, "one", app_port=app_port)
        try:
            sidecar.wait_ready()
            eventually(lambda: "started ['one']" in log.read_text(), "the app to start")
            eventually(lambda: sidecar.inbound("/").status == 200, "the app to listen")
            load = Load(sidecar.inbound_port)
            load.wait_for_more(20)
            sidecar.signal(signal.SIGUSR1)
            eventually(lambda: f"signal {int(signal.SIGUSR1)}" in log.read_text(), "the signal to arrive")
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "readiness to fail")
            load.wait_for_more(20)
            load.stop()
            assert load.failures == []
            assert "ended by" not in log.read_text()
            assert sidecar.wait() == 7
            assert f"ended by {int(signal.SIGTERM)} app" in log.read_text()
        finally:
            sidecar.kill()

    def test_quitquitquit_ends_the_app_too(self, tmp_path: Path, app: Origin) -> None:
        """As SIGTERM does; an app that a signal ends gives 128 and its number."""
        sidecar = SidecarProcess(tmp_path)
        self._start(sidecar, config(app, "{timeout: 20s}"), "sleep", "600")
        try:
            eventually(lambda: "app_started" in sidecar.stderr(), "the app to start")
            assert sidecar.admin("/quitquitquit", method="POST").status == 200
            assert sidecar.wait() == 128 + signal.SIGTERM
        finally:
            sidecar.kill()

    def test_a_second_sigterm_reaches_the_app_at_once(self, tmp_path: Path, app: Origin) -> None:
        """Whoever insists does not wait for a long delay to be over, though the sidecar's own end does."""
        sidecar = SidecarProcess(tmp_path)
        self._start(sidecar, config(app, "{timeout: 30s, delay: 4s}"), "sleep", "600")
        try:
            eventually(lambda: "app_started" in sidecar.stderr(), "the app to start")
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: "drain_started" in sidecar.stderr(), "the drain")
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: f"app_ended code={128 + signal.SIGTERM}" in sidecar.stderr(), "the app to end", 3)
            assert "listener_closed role=inbound" not in sidecar.stderr()
            assert sidecar.wait() == 128 + signal.SIGTERM
        finally:
            sidecar.kill()

    @pytest.mark.parametrize(("program", "code"), [("/nowhere/app", 127), ("/etc/passwd", 126)])
    def test_a_program_that_cannot_be_run_is_one_line(
        self, tmp_path: Path, app: Origin, program: str, code: int
    ) -> None:
        """With the codes of shells."""
        sidecar = SidecarProcess(tmp_path)
        self._start(sidecar, config(app, "{timeout: 120s, delay: 60s}"), program)
        try:
            assert sidecar.wait() == code
        finally:
            sidecar.kill()
        assert f"sidecar: cannot run {program}: " in sidecar.stderr()

    def test_where_the_sidecar_cannot_start_nothing_is_run(self, tmp_path: Path, app: Origin) -> None:
        """Exit code 1 and the problems; the app never saw a world without its proxy."""
        sidecar = SidecarProcess(tmp_path)
        self._start(sidecar, "service: x\nnothing: {}\n", "touch", str(tmp_path / "ran"))
        try:
            assert sidecar.wait() == 1
        finally:
            sidecar.kill()
        assert "unknown key `nothing`" in sidecar.stderr()
        assert not (tmp_path / "ran").exists()


def wait_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`sidecar wait`, to its end."""
    command = [sys.executable, "-m", "sidecar", "wait", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class TestWait:
    """`sidecar wait`."""

    def test_it_blocks_until_the_sidecar_is_ready(self, tmp_path: Path, app: Origin) -> None:
        """Begun before the sidecar, it returns 0 once it is ready, on the metrics as on the admin listener."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(config(app, "{timeout: 20s}"))
        command = [sys.executable, "-m", "sidecar", "wait", "--address", f"127.0.0.1:{sidecar.metrics_port}"]
        waiting = subprocess.Popen(command)
        try:
            sidecar.start()
            assert waiting.wait(30) == 0
            assert sidecar.is_ready()
            assert wait_command("--address", f"127.0.0.1:{sidecar.admin_port}", "--timeout", "0").returncode == 0
        finally:
            waiting.kill()
            waiting.wait()
            sidecar.kill()

    def test_it_gives_up_after_its_time_and_says_why(self, tmp_path: Path, app: Origin) -> None:
        """Nobody there, and somebody who is draining; 1 in both cases."""
        answer = wait_command("--address", f"127.0.0.1:{free_port()}", "--timeout", "200ms")
        assert answer.returncode == 1
        assert "is not ready after 0.2 s: " in answer.stderr
        assert "refused" in answer.stderr
        with running_sidecar(tmp_path, config(app, "{timeout: 20s}")) as sidecar:
            sidecar.admin("/drain", method="POST")
            answer = wait_command("--address", f"127.0.0.1:{sidecar.metrics_port}", "--timeout", "0")
            assert (answer.returncode, answer.stderr.endswith("503 draining\n")) == (1, True)

    @pytest.mark.parametrize("arguments", [("--timeout", "5"), ("--address", "here")])
    def test_wrong_usage_is_2(self, arguments: tuple[str, str]) -> None:
        """Durations and addresses are those of the file."""
        answer = wait_command(*arguments)
        assert answer.returncode == 2
        assert "expected a" in answer.stderr
