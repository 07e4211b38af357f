"""Start, readiness, drain and end of a real process: every signal, and every way in which a start can fail."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import Response, SidecarProcess, request, running_sidecar
from tests.support.wait import eventually


def both_sides(app: Origin, *, drain: str = "20s") -> str:
    """A file with an app, and a dependency that is the same server."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{dependency: {{endpoints: ["127.0.0.1:{app.port}"]}}}}
        drain: {{timeout: {drain}}}
    """


class InFlight:
    """A request that waits in `/slow` until the origin lets it go."""

    def __init__(self, port: int, origin: Origin, host: str = "app") -> None:
        self.response: Response | None = None
        self.error: Exception | None = None
        self._port = port
        self._host = host
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert origin.entered.wait(30)

    def _run(self) -> None:
        try:
            self.response = request(self._port, "/slow", headers={"Host": self._host}, timeout_s=30)
        except Exception as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app, which is its own dependency."""
    with Origin("app") as origin:
        yield origin


def can_connect(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def refused_start(sidecar: SidecarProcess, *arguments: str) -> str:
    """Start a sidecar that cannot start; returns what it says."""
    sidecar.start(*arguments)
    try:
        assert sidecar.wait() == 1
    finally:
        sidecar.kill()
    assert sidecar.stdout() == ""
    return sidecar.stderr()


# --- start ---------------------------------------------------------------------------------------------------------


def test_ready_means_bound_and_live(tmp_path: Path, app: Origin) -> None:
    """Where `/ready` is 200 every listener answers, and health is told on both ports."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        assert sidecar.inbound("/x").text == "app"
        assert sidecar.outbound("/x", host="dependency").text == "app"
        for path in ("/ready", "/healthz/ready", "/live"):
            assert sidecar.metrics(path).status == 200
            assert sidecar.admin(path).status == 200
        assert '"state": "LIVE"' in sidecar.admin("/server_info").text
        assert sidecar.metrics("/server_info").status == 404
        assert sidecar.metric("sidecar_config_last_reload_successful") == 1


@pytest.mark.parametrize("which", ["inbound_port", "outbound_port", "admin_port", "metrics_port"])
def test_a_port_in_use_is_one_clear_line_and_exit_code_1(tmp_path: Path, app: Origin, which: str) -> None:
    """The line names file, line and address; there is no traceback."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite(both_sides(app))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(sidecar, which)))
        taken.listen()
        said = refused_start(sidecar)
    assert len(said.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{getattr(sidecar, which)}: the address is already in use" in said
    assert said.startswith(f"{sidecar.config}:")


def test_a_missing_file_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    """No traceback."""
    sidecar = SidecarProcess(tmp_path)
    assert refused_start(sidecar) == f"cannot read {sidecar.config}: no such file\n"


def test_a_directory_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    """A mount that went wrong often makes one."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.config.mkdir()
    assert refused_start(sidecar) == f"cannot read {sidecar.config}: it is a directory\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_one_clear_line_and_exit_code_1(tmp_path: Path, app: Origin) -> None:
    """Whoever runs as user 1337 meets this."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite(both_sides(app))
    sidecar.config.chmod(0)
    assert refused_start(sidecar) == f"cannot read {sidecar.config}: permission denied\n"


def test_a_bad_file_is_a_line_for_each_problem_and_exit_code_1(tmp_path: Path) -> None:
    """All problems at once, each with its place."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite('service: x\ninbound: {app: "127.0.0.1"}\nlimits: {max_headers: many}\n')
    lines = refused_start(sidecar).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{sidecar.config}:2:16: inbound.app: ")
    assert lines[1].startswith(f"{sidecar.config}:3:23: limits.max_headers: ")


def test_a_file_whose_own_test_fails_is_refused_with_what_would_happen(tmp_path: Path, app: Origin) -> None:
    """`tests:` are run by the code that routes live traffic."""
    sidecar = SidecarProcess(tmp_path)
    promise = 'tests: [{name: p, request: {url: "http://other/"}, expect: {to: dependency}}]\n'
    sidecar.rewrite(sidecar.complete(both_sides(app)) + promise)
    (line,) = refused_start(sidecar).splitlines()
    assert "tests[0]: the test `p` fails: expected to `dependency`, found no route, so 404" in line


def test_sigterm_before_the_start_is_over_ends_it(tmp_path: Path, app: Origin) -> None:
    """A pod that is deleted while it starts goes at once, with 0 or by the signal itself."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite(both_sides(app))
    sidecar.start()
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in sidecar.stderr()


def test_wrong_usage_is_exit_code_2_and_version_is_told() -> None:
    """As command lines do."""
    command = [sys.executable, "-m", "sidecar"]
    assert subprocess.run([*command, "run", "--nonsense"], capture_output=True, timeout=60).returncode == 2
    version = subprocess.run([*command, "--version"], capture_output=True, timeout=60, text=True)
    assert version.stdout.startswith("sidecar")


def test_run_imports_nothing_that_only_others_need() -> None:
    """Start time and memory of every sidecar depend on it; what reading a file takes is another process's."""
    code = "import sys, sidecar.cli.run, sidecar.loader.compiler_process, sidecar.runtime.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, check=True)
    imported = set(done.stdout.split())
    others = {"rich", "opentelemetry", "jsonschema", "httpx", "requests", "sidecar.cli.demo", "sidecar.cli.check"}
    reading = {"pydantic", "pydantic_core", "yaml", "sidecar.config.model.root", "sidecar.config.load"}
    assert not imported & (others | reading)


def test_a_running_sidecar_has_read_its_file_elsewhere(tmp_path: Path, app: Origin) -> None:
    """Neither the start, nor a reload, nor the pages that explain a file load YAML or the models into the data path."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        assert sidecar.admin("/reload", method="POST").json()["ok"]
        for page in ("/config", "/routes", "/upstreams"):
            assert sidecar.admin(page).status == 200
        assert sidecar.process is not None
        mapped = Path(f"/proc/{sidecar.process.pid}/maps").read_text()
        assert "uvloop" in mapped
        assert not {"pydantic_core", "_yaml"} & {part for part in re.split(r"[/.\s]", mapped) if part}


# --- the end -------------------------------------------------------------------------------------------------------


def test_sigterm_drains_inbound_first_and_loses_nothing(tmp_path: Path, app: Origin) -> None:
    """
    Readiness fails, inbound accepts no more, idle connections close, outbound serves on, what is in flight ends with
    `Connection: close`, and the process exits with 0 long before the timeout.
    """
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        idle = http.client.HTTPConnection("127.0.0.1", sidecar.inbound_port, timeout=15)
        idle.request("GET", "/x")
        assert idle.getresponse().read() == b"app"
        in_flight = InFlight(sidecar.inbound_port, app)
        began = time.monotonic()
        sidecar.signal(signal.SIGTERM)

        eventually(lambda: sidecar.metrics("/ready").status == 503, "readiness to fail")
        assert sidecar.metrics("/ready").text == "draining\n"
        assert '"state": "DRAINING"' in sidecar.admin("/server_info").text
        assert not can_connect(sidecar.inbound_port)
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        idle.close()
        assert sidecar.outbound("/x", host="dependency").text == "app"
        assert sidecar.process is not None
        assert sidecar.process.poll() is None

        app.release()
        in_flight.join()
        assert in_flight.response is not None
        assert in_flight.response.text == "app"
        assert in_flight.response.headers["connection"] == "close"
        assert sidecar.wait() == 0
        assert time.monotonic() - began < 15
    flags = [line["response_flags"] for line in sidecar.access_log()]
    assert flags == ["-", "-", "-"]


def test_sigterm_lets_outbound_exchanges_finish(tmp_path: Path, app: Origin) -> None:
    """What the app has asked for is still answered."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        in_flight = InFlight(sidecar.outbound_port, app, "dependency")
        sidecar.signal(signal.SIGTERM)
        eventually(lambda: not can_connect(sidecar.outbound_port), "outbound to close")
        app.release()
        in_flight.join()
        assert in_flight.response is not None
        assert in_flight.response.text == "app"
        assert sidecar.wait() == 0


def test_sigterm_ends_within_the_drain_timeout_whatever_still_runs(tmp_path: Path, app: Origin) -> None:
    """What is cut is recorded as such, and said once in the log."""
    with running_sidecar(tmp_path, both_sides(app, drain="1s")) as sidecar:
        in_flight = InFlight(sidecar.inbound_port, app)
        began = time.monotonic()
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait() == 0
        assert 0.7 < time.monotonic() - began < 15
        in_flight.join()
        assert in_flight.response is None
    assert [line["response_flags"] for line in sidecar.access_log()] == ["DR"]
    assert "connections_cut" in sidecar.stderr()


def test_sigint_ends_at_once(tmp_path: Path, app: Origin) -> None:
    """Nothing is waited for."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        in_flight = InFlight(sidecar.inbound_port, app)
        began = time.monotonic()
        sidecar.signal(signal.SIGINT)
        assert sidecar.wait() == 0
        assert time.monotonic() - began < 15
        in_flight.join()
    assert [line["response_flags"] for line in sidecar.access_log()] == ["DR"]


def test_sigint_cuts_a_drain_short(tmp_path: Path, app: Origin) -> None:
    """The second Ctrl-C of somebody who has no time."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        InFlight(sidecar.inbound_port, app)
        sidecar.signal(signal.SIGTERM)
        eventually(lambda: sidecar.metrics("/ready").status == 503, "the drain to begin")
        began = time.monotonic()
        sidecar.signal(signal.SIGINT)
        assert sidecar.wait() == 0
        assert time.monotonic() - began < 15


def test_post_drain_gives_up_inbound_and_stays_and_quitquitquit_ends(tmp_path: Path, app: Origin) -> None:
    """For deployments that drain before they stop."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        assert sidecar.admin("/drain").status == 405
        assert sidecar.admin("/drain", method="POST").status == 200
        assert sidecar.metrics("/ready").status == 503
        assert sidecar.metrics("/live").status == 200
        assert not can_connect(sidecar.inbound_port)
        assert sidecar.outbound("/x", host="dependency").status == 200
        refused = sidecar.admin("/reload", method="POST")
        assert refused.status == 400
        assert "draining" in refused.json()["error"]
        assert sidecar.admin("/quitquitquit", method="POST").status == 200
        assert sidecar.wait() == 0


# --- the rest ------------------------------------------------------------------------------------------------------


def test_sigusr1_opens_the_access_log_again(tmp_path: Path, app: Origin) -> None:
    """What logrotate expects."""
    with running_sidecar(tmp_path, both_sides(app)) as sidecar:
        sidecar.inbound("/before")
        sidecar.wait_for_log_lines(1)
        (tmp_path / "access.log").rename(tmp_path / "access.log.1")
        sidecar.signal(signal.SIGUSR1)
        eventually(lambda: "SIGUSR1" in sidecar.stderr(), "the signal to be seen")
        sidecar.inbound("/after")
        assert [line["path"] for line in sidecar.wait_for_log_lines(1)] == ["/after"]
    assert json.loads((tmp_path / "access.log.1").read_text())["path"] == "/before"


def test_the_log_level_can_be_changed_while_running(tmp_path: Path, app: Origin) -> None:
    """POST /logging?level=."""
    with running_sidecar(tmp_path, both_sides(app), "--log-level", "error") as sidecar:
        assert sidecar.admin("/logging").json() == {"level": "error"}
        assert sidecar.stderr() == ""
        assert sidecar.admin("/logging?level=info", method="POST").json() == {"level": "info"}
        sidecar.admin("/reload", method="POST")
        eventually(lambda: "config_loaded" in sidecar.stderr(), "an info line")


def test_unix_sockets_serve_both_ends_and_are_cleaned_up(tmp_path: Path) -> None:
    """A stale socket file does not stop a start, and none is left behind."""
    inbound, behind = tmp_path / "in.sock", tmp_path / "app.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(inbound))
    stale.close()
    text = f'service: x\ninbound: {{listen: "unix:{inbound}", app: "unix:{behind}"}}\n'
    with Origin("app", unix=behind), running_sidecar(tmp_path / "run", text) as sidecar:
        assert stat.S_IMODE(inbound.stat().st_mode) == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(15)
            client.connect(str(inbound))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"app")
        assert sidecar.stop() == 0
    assert not inbound.exists()


def test_several_listeners_of_both_families_and_one_per_dependency(tmp_path: Path, app: Origin) -> None:
    """IPv4, IPv6, and a port whose every request is for one host."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback on this machine")
    text = f"""
        service: x
        outbound:
          listen:
            - "127.0.0.1:${{OUTBOUND_PORT}}"
            - "[::1]:${{OUTBOUND_PORT}}"
            - {{address: "127.0.0.1:${{INBOUND_PORT}}", host: dependency}}
        upstreams: {{dependency: {{endpoints: ["127.0.0.1:{app.port}"]}}}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        connection = http.client.HTTPConnection("::1", sidecar.outbound_port, timeout=15)
        connection.request("GET", "/x", headers={"Host": "dependency"})
        assert connection.getresponse().read() == b"app"
        connection.close()
        assert sidecar.outbound("/x", host="dependency").text == "app"
        assert sidecar.outbound("/x", host="stranger").status == 404
        assert sidecar.inbound("/x").text == "app"
