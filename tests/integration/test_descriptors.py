"""Descriptors that run short: told, refused for a reason of ours, blamed on nobody, and probes are answered."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess
from tests.support.wait import eventually

SMALL = 256


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app, which is its own dependency."""
    with Origin("app") as origin:
        yield origin


def text(app: Origin, more: str = "") -> str:
    """A file whose dependency is watched by everything that could blame it."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          dependency:
            endpoints: ["127.0.0.1:{app.port}"]
            outlier_detection: {{consecutive_5xx: 1, max_ejection_percent: 100}}
            health_check: {{path: /, interval: 100ms, unhealthy_threshold: 1}}
        drain: {{timeout: 1s}}
        {more}
    """


@contextlib.contextmanager
def limited(
    directory: Path, config: str, soft: int, hard: int, *, command: str = "run", trailing: tuple[str, ...] = ()
) -> Iterator[SidecarProcess]:
    """A sidecar that may open so many files."""
    sidecar = SidecarProcess(directory)
    sidecar.rewrite(config)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of the child alone.
    shell = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    program = [sys.executable, "-m", "sidecar", command, "--config", str(sidecar.config), *trailing]
    environment = sidecar.environment()
    with sidecar.stderr_path.open("ab") as err, sidecar.stdout_path.open("ab") as out:
        sidecar.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *program], stdout=out, stderr=err, env=environment, start_new_session=True
        )
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    try:
        yield sidecar
        assert "Traceback" not in sidecar.stderr()
        assert "unhandled_exception" not in sidecar.stderr()
    finally:
        sidecar.kill()


@pytest.mark.parametrize("workers", ["", "workers: 2"])
def test_the_limit_is_raised_and_both_are_told(tmp_path: Path, app: Origin, workers: str) -> None:
    """400 connections are nothing, where the process may have more than it was given."""
    with limited(tmp_path, text(app, workers), SMALL, 4000) as sidecar, contextlib.ExitStack() as clients:
        sidecar.wait_ready()
        eventually(lambda: f"descriptors limit=4000 raised_from={SMALL}" in sidecar.stderr(), "the limits to be told")
        eventually(
            lambda: "descriptors_short limit=4000 max_connections=10000 possible_connections=1684" in sidecar.stderr(),
            "the log to say so",
        )
        for _ in range(400):
            clients.enter_context(sidecar.connect(sidecar.inbound_port))
        assert sidecar.inbound("/x").status == 200
        assert sidecar.stop() == 0


def test_more_clients_than_descriptors_are_refused_for_a_reason_of_ours(tmp_path: Path, app: Origin) -> None:
    """Nobody is blamed, and whoever looks after the sidecar is answered all the time."""
    with limited(tmp_path, text(app), SMALL, SMALL) as sidecar, contextlib.ExitStack() as clients:
        sidecar.wait_ready()
        open_ones = []
        for _ in range(400):
            client = clients.enter_context(socket.socket())
            client.settimeout(15)
            client.connect(("127.0.0.1", sidecar.inbound_port))
            open_ones.append(client)
            if len(open_ones) % 50 == 0:
                assert sidecar.metrics("/ready").status == 200
        assert sidecar.metrics("/metrics").status == 200
        assert sidecar.admin("/config").status == 200
        assert sidecar.admin("/reload", method="POST").json()["ok"]

        def refused() -> tuple[float, float]:
            name = "http_server_request_duration_seconds_count"
            return (
                sidecar.metric("sidecar_requests_total", direction="inbound", flag="UO"),
                sidecar.metric(name, error_type="local_exhaustion"),
            )

        # A client that is answered is counted when the answer has left it or its time is over.
        eventually(lambda: refused() == (400 - 80, 400 - 80), "all but those for whom there is room to be refused")
        # Those who are in are served, to the last.
        for client in open_ones[:5]:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert_nobody_is_blamed(sidecar)
        for client in open_ones:
            client.close()
        eventually(lambda: sidecar.outbound("/x", host="dependency").status == 200, "room for a client")
        assert_nobody_is_blamed(sidecar)
        assert sidecar.stop() == 0


def assert_nobody_is_blamed(sidecar: SidecarProcess) -> None:
    """Neither as a failed connect nor by health checks nor by an ejection."""
    assert sidecar.metric("sidecar_upstream_connect_failures_total") == 0
    assert sidecar.metric("sidecar_upstream_ejections_total") == 0
    assert "endpoint_unhealthy" not in sidecar.stderr()
    assert "endpoint_ejected" not in sidecar.stderr()


def test_far_too_few_are_one_clear_line_and_exit_code_1(tmp_path: Path, app: Origin) -> None:
    """No traceback, and no sidecar that can do nothing."""
    with limited(tmp_path, text(app), 32, 32) as sidecar:
        assert sidecar.wait() == 1
        assert sidecar.stderr() == "sidecar: expected a limit of open files (nofile) of at least 64, found 32\n"


def test_an_app_that_is_a_child_has_the_limit_that_the_sidecar_was_given(tmp_path: Path, app: Origin) -> None:
    """Some close every descriptor up to it, one by one."""
    look = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    command = ("--", sys.executable, "-c", look)
    with limited(tmp_path, text(app), SMALL, 4000, command="exec", trailing=command) as sidecar:
        assert sidecar.wait() == 0
        assert sidecar.stdout() == f"{SMALL} 4000\n"
