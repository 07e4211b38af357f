"""
A real `sidecar run` as a subprocess, on ports of its own, ready when you get it.

    def test_something(tmp_path):
        with Origin("v1") as app, running_sidecar(tmp_path, f'''
            service: storefront
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        ''') as sidecar:
            assert sidecar.inbound("/hello").status == 200
            assert sidecar.access_log()[0]["response_code"] == 200

The YAML may use `${INBOUND_PORT}`, `${OUTBOUND_PORT}`, `${ADMIN_PORT}` and `${METRICS_PORT}`: free ports that the
subprocess gets as environment variables. If the text has no top-level `admin` it gets one on ADMIN_PORT; if it has no
top-level `telemetry` it gets metrics on METRICS_PORT and an access log in a file that `access_log()` reads.

`rewrite(text)` replaces the file in place (same additions), `wait_for_generation` waits for a reload to be live.
On leaving the context the process gets SIGTERM (unless it has ended), must end in time, must have been of the build
that is under test, compiled or interpreted, and must not have logged an unhandled exception. `tests/support/origin.py`
has small servers to put behind it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar import build
from tests.support.wait import eventually, free_port

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Response:
    """A response, read whole; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()


def request(
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 15.0,
) -> Response:
    """One request on a new connection to 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class SidecarProcess:
    """
    A sidecar as a subprocess; `running_sidecar` makes it, and tests of starting and ending make it by hand.

    Attributes:
        inbound_port, outbound_port, admin_port, metrics_port: Free ports, whether the file uses them or not.
        config: Path of the file.
        process: The subprocess; None before `start`.
    """

    def __init__(self, directory: Path, *, env: Mapping[str, str] | None = None, config: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.config = config or directory / "sidecar.yaml"
        self.inbound_port = free_port()
        self.outbound_port = free_port()
        self.admin_port = free_port()
        self.metrics_port = free_port()
        self.env = {
            "INBOUND_PORT": str(self.inbound_port),
            "OUTBOUND_PORT": str(self.outbound_port),
            "ADMIN_PORT": str(self.admin_port),
            "METRICS_PORT": str(self.metrics_port),
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr_path = directory / "stderr.log"
        self.stdout_path = directory / "stdout.log"
        self._access_log_path = directory / "access.log"

    # --- the file ----------------------------------------------------------------------------------------------

    def complete(self, text: str) -> str:
        """`text` dedented, with `admin` and `telemetry` added where it has none."""
        text = textwrap.dedent(text).strip() + "\n"
        if not re.search(r"^admin:", text, re.MULTILINE):
            text += 'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
        if not re.search(r"^telemetry:", text, re.MULTILINE):
            metrics = 'metrics: {listen: "127.0.0.1:${METRICS_PORT}"}'
            text += f"telemetry: {{{metrics}, access_log: {{path: {json.dumps(str(self._access_log_path))}}}}}\n"
        return text

    def rewrite(self, text: str) -> None:
        """Replace the content of the file in place; takes effect within a second."""
        self.config.write_text(self.complete(text))

    # --- life --------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, command: str = "run", trailing: Sequence[str] = ()) -> None:
        """Start `sidecar run`, or another command that takes a file, with `trailing` at its end; does not wait."""
        environment = self.environment()
        program = [sys.executable, "-m", "sidecar", command, "--config", str(self.config), *arguments, *trailing]
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
            )

    def environment(self) -> dict[str, str]:
        """What the process gets: ours without what would configure it, and `env`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SIDECAR_"))}
        return environment | self.env

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until `/ready` is 200; fails at once, with the log, when the process ends instead."""
        eventually(self._is_ready_or_gone, f"the sidecar to be ready; its log:\n{self.stderr()}", timeout_s)

    def _is_ready_or_gone(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self.stderr()}")
        return self.is_ready()

    def is_ready(self) -> bool:
        """Whether `/ready` on the metrics listener is 200 right now."""
        try:
            return self.metrics("/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end; returns the exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the sidecar did not end within {timeout_s} s:\n{self.stderr()[-5000:]}") from None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, then wait for the end; returns the exit code."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End it whatever it does, for clean-up."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)

    # --- asking ------------------------------------------------------------------------------------------------

    def inbound(self, path: str = "/", **options: Any) -> Response:
        """A request to the inbound listener (`request`)."""
        return request(self.inbound_port, path, **options)

    def outbound(
        self, path: str = "/", *, host: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Response:
        """A request to the outbound listener for `host` (`request`)."""
        return request(self.outbound_port, path, headers={"Host": host, **(headers or {})}, **options)

    def admin(self, path: str, **options: Any) -> Response:
        """A request to the admin listener (`request`)."""
        return request(self.admin_port, path, **options)

    def metrics(self, path: str = "/metrics", **options: Any) -> Response:
        """A request to the metrics listener (`request`)."""
        return request(self.metrics_port, path, **options)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples called `name` that have these labels, 0.0 if there is none."""
        total = 0.0
        for line in self.metrics().text.splitlines():
            found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
                if labels.items() <= have.items():
                    total += float(found[3])
        return total

    def generation(self) -> int:
        """How many configurations have been live, from `/server_info`."""
        return int(self.admin("/server_info").json()["config"]["generation"])

    def wait_for_generation(self, generation: int, timeout_s: float = 30.0) -> None:
        """Wait until the configuration counted `generation` (the first is 1), or a later one, is live."""
        eventually(lambda: self.generation() >= generation, f"configuration {generation} to be live", timeout_s)

    def stderr(self) -> str:
        """The process log so far."""
        return self.stderr_path.read_text() if self.stderr_path.exists() else ""

    def stdout(self) -> str:
        """What went to stdout so far."""
        return self.stdout_path.read_text() if self.stdout_path.exists() else ""

    def access_log(self) -> list[dict[str, Any]]:
        """The access log's whole lines so far, if the file uses the default `telemetry` of this module."""
        if not self._access_log_path.exists():
            return []
        text = self._access_log_path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for_log_lines(self, count: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Wait until the access log has `count` lines, and return all."""
        eventually(lambda: len(self.access_log()) >= count, f"{count} access log lines", timeout_s)
        return self.access_log()

    def memory_kib(self) -> int:
        """Resident memory of the process."""
        assert self.process is not None
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def connect(self, port: int, timeout_s: float = 15.0) -> socket.socket:
        """A TCP connection to one of its ports, for tests that write bytes by hand."""
        return socket.create_connection(("127.0.0.1", port), timeout_s)


@contextlib.contextmanager
def running_sidecar(
    directory: Path, text: str, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[SidecarProcess]:
    """
    A sidecar that is ready, with this YAML (see the module's docstring); ended on leaving.

    Args:
        directory: Where its file and logs are kept, usually `tmp_path`.
        text: The YAML; indentation common to all lines is removed.
        arguments: Further arguments of `sidecar run`.
        env: Further environment variables.

    Raises:
        AssertionError: It did not become ready, did not end in time, or logged an unhandled exception.
    """
    sidecar = SidecarProcess(directory, env=env)
    sidecar.rewrite(text)
    sidecar.start(*arguments)
    try:
        sidecar.wait_ready()
        yield sidecar
        assert sidecar.process is not None
        if sidecar.process.poll() is None:
            sidecar.signal(signal.SIGTERM)
            sidecar.wait()
        log = sidecar.stderr()
        # At the log levels that tell.
        assert set(re.findall(r" live version=\S+ build=(\w+) ", log)) <= {build.KIND}, log
        assert "Traceback" not in log, log
        assert "unhandled_exception" not in log, log
    finally:
        sidecar.kill()
