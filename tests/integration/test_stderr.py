"""Standard error is a pipe that nobody reads: nothing waits for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess


def text(app: Origin, more: str) -> str:
    """A file with an app."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        drain: {{timeout: 1s}}
        {more}
    """


@contextmanager
def unread_pipe() -> Iterator[int]:
    """The writing end of a pipe of one page that is full already."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("workers", ["", "workers: 2"])
def test_requests_probes_reloads_and_the_end_go_on(tmp_path: Path, workers: str) -> None:
    """What is lost is counted."""
    sidecar = SidecarProcess(tmp_path)
    with Origin("app") as app, unread_pipe() as writer:
        sidecar.rewrite(text(app, workers))
        sidecar.process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "run", "--config", str(sidecar.config), "--log-level", "debug"],
            stderr=writer, env={**os.environ, **sidecar.env}, start_new_session=True,
        )  # fmt: skip
        try:
            sidecar.wait_ready()
            nonsense = "\n".join(f"        nonsense_{number}: {'y' * 100}" for number in range(400))
            bad = text(app, f"{workers}\n{nonsense}")
            sidecar.rewrite(bad)
            for _ in range(3):
                assert sidecar.admin("/reload", method="POST").status == 400
            assert sidecar.inbound("/x").status == 200
            assert sidecar.metrics("/ready").status == 200
            assert sidecar.metric("sidecar_process_log_lines_dropped_total", reason="rate") > 0
            sidecar.rewrite(text(app, workers + "\n        limits: {max_headers: 99}"))
            assert sidecar.admin("/reload", method="POST").status == 200
            assert sidecar.stop() == 0
        finally:
            sidecar.kill()


def test_a_start_that_fails_ends_too(tmp_path: Path) -> None:
    """Its last words are lost, its code is not."""
    sidecar = SidecarProcess(tmp_path)
    sidecar.rewrite("nonsense: 1\n")
    with unread_pipe() as writer:
        command = [sys.executable, "-m", "sidecar", "run", "--config", str(sidecar.config)]
        done = subprocess.run(command, stderr=writer, env={**os.environ, **sidecar.env}, timeout=60)
    assert done.returncode == 1
