"""
A real `sidecar control` as a subprocess, and sidecars that speak its protocol and nothing else.

    with running_control(tmp_path, SHOP) as control, Peer(control, "storefront") as peer:
        config = peer.wait_for(Config)
        peer.report(health="healthy", ...)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from sidecar.link.messages import Config, Current, EndpointEntry, Endpoints, Line, Watch, apply_endpoints, read_line
from sidecar.link.report import Port, Refused, Report, Running, write_report
from sidecar.mesh.told import LANGUAGE
from tests.support.process import Response, request
from tests.support.wait import eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
L = TypeVar("L")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

SHOP = {
    "mesh.yaml": "mesh: shop\n",
    "storefront.yaml": "service: storefront\napp: 127.0.0.1:8080\ncalls: {recommendations: {}, catalog: {}}\n",
    "recommendations.yaml": (
        "service: recommendations\napp: 127.0.0.1:8080\n"
        "instances:\n  stable: {registered: {version: v1}}\n  beta: {registered: {version: beta}}\n"
        "routes:\n  - {name: split, to: {stable: 95, beta: 5}}\ncalls: {catalog: {}}\n"
    ),
    "catalog.yaml": "service: catalog\napp: 127.0.0.1:8080\ncalls: {}\n",
    "payments.yaml": "service: payments\nendpoints: [10.9.9.9:443]\n",
}
"""A small mesh; whoever changes `catalog` concerns its callers."""


class Control:
    """
    The subprocess.

    Attributes:
        keeps: Options that say where it has its mesh, and what outlives it.
        has_identity: It was started once with options that say that sidecars have identities.
    """

    def __init__(self, directory: Path, files: Mapping[str, str]) -> None:
        self.directory = directory
        self.mesh = directory / "mesh"
        self.state = directory / "state"
        self.port = free_port()
        self.ops_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.keeps = ["--mesh", str(self.mesh), "--state", str(self.state)]
        self.stderr_path = directory / "control.log"
        self.stdout_path = directory / "control.out"
        self.token = ""
        self.has_identity = False
        self.mesh.mkdir(parents=True, exist_ok=True)
        self.write(files)

    def write(self, files: Mapping[str, str]) -> None:
        """Write or replace files of the mesh."""
        for name, text in files.items():
            (self.mesh / name).write_text(text)

    def start(self, *arguments: str, is_ready: bool = True) -> None:
        """Start it, and wait until it is ready; without identities, unless the arguments say something of them."""
        self.has_identity = self.has_identity or bool({"--accept", "--create-ca"}.intersection(arguments))
        if not self.has_identity:
            arguments = (*arguments, "--accept", "clear")
        program = [
            sys.executable, "-m", "sidecar", "control", *self.keeps, "--listen", f"127.0.0.1:{self.port}",
            "--ops-listen", f"127.0.0.1:{self.ops_port}", *arguments,
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        if is_ready:
            eventually(self.is_ready, f"a control plane that is ready: {self.log()}", START_TIMEOUT_S)

    def is_ready(self) -> bool:
        """Whether `/ready` is 200; fails if it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return request(self.ops_port, "/ready").status == 200
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and what it started; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)

    def log(self) -> str:
        """What it wrote on stderr."""
        return self.stderr_path.read_text() if self.stderr_path.exists() else ""

    def get(self, path: str, **headers: str) -> Response:
        """Ask 15010."""
        return request(self.port, path, headers=self._headers(headers))

    def post(self, path: str, body: bytes, **headers: str) -> Response:
        """Tell 15010."""
        return request(self.port, path, method="POST", body=body, headers=self._headers(headers))

    def join_token(self, service: str) -> str:
        """A new one, as `sidecar mesh token create` makes it."""
        answer = self.post("/v1/tokens", json.dumps({"service": service}).encode())
        assert answer.status == 200, answer.text
        return str(answer.json()["token"])

    def shown(self) -> Any:
        """`/v1/mesh`."""
        answer = self.get("/v1/mesh")
        assert answer.status == 200, answer.text
        return answer.json()

    def instance(self, id_: str) -> Any:
        """One of its instances; None if there is none."""
        return next((one for one in self.shown()["instances"] if one["id"] == id_), None)

    def metric(self, name: str) -> float:
        """The value of a sample, named with its labels as it is written."""
        for line in request(self.ops_port, "/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(name)

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        bearer = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return {**bearer, **{name.replace("_", "-"): value for name, value in headers.items()}}


@contextlib.contextmanager
def running_control(directory: Path, files: Mapping[str, str] = SHOP, *arguments: str) -> Iterator[Control]:
    """It is ready; on leaving it must end in time, and have logged no unhandled exception."""
    control = Control(directory, files)
    control.start(*arguments)
    try:
        yield control
    finally:
        assert control.process is not None
        if control.process.poll() is None:
            try:
                assert control.stop() == 0, control.log()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(control.process.pid, signal.SIGKILL)
        assert "Traceback" not in control.log(), control.log()


@contextlib.contextmanager
def replica(folder: Path, url: str, name: str, *arguments: str, is_ready: bool = True) -> Iterator[Control]:
    """A control plane that keeps everything in etcd."""
    control = Control(folder / name, {})
    advertised = f"http://127.0.0.1:{control.port}"
    control.keeps = ["--engine", url, "--name", name, "--spread", "0s", "--advertise", advertised]
    try:
        control.start(*arguments, is_ready=is_ready)
        yield control
        assert control.stop() == 0, control.log()
        assert "Traceback" not in control.log(), control.log()
    finally:
        if control.process is not None and control.process.poll() is None:
            os.killpg(control.process.pid, signal.SIGKILL)
            control.process.wait(30)


class Peer:
    """
    A sidecar of whom there is only the protocol.

    Attributes:
        lines: Everything that it was told, in order.
        endpoints: What it knows, by upstream and address.
        has: Hash of the file that it has.
        is_over: Whether its stream has ended.
    """

    def __init__(self, control: Control, service: str, instance: str = "", version: str = "") -> None:
        self.service = service
        self.instance = instance or f"{service}-1"
        self.version = version
        self.lines: list[Line] = []
        self.endpoints: dict[str, dict[str, EndpointEntry]] = {}
        self.has = ""
        self.revision = 0
        self.seq = 0
        self.is_over = True
        self.status = 0
        self._control = control
        self._answer: http.client.HTTPResponse | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Peer:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, **more: str) -> int:
        """Open a stream, saying what it has; the status."""
        self.close()
        versions = {name: _version(entries) for name, entries in self.endpoints.items()}
        watch = Watch(self.service, self.instance, self.version, language=LANGUAGE, config=self.has, endpoints=versions)
        self._connection = http.client.HTTPConnection("127.0.0.1", self._control.port, timeout=60)
        headers = self._control._headers({})
        self._connection.request("GET", "/v1/watch?" + urlencode({**watch.to_query(), **more}), headers=headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        if self.status != 200:
            self.close()
        else:
            self.is_over = False
            self._reader = threading.Thread(target=self._read, args=(self._answer,), daemon=True)
            self._reader.start()
        return self.status

    def close(self) -> None:
        """Let go of the stream, without a word."""
        if self._connection is not None and self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(2)
        if self._reader is not None:
            self._reader.join(30)
        for one in (self._answer, self._connection):
            if one is not None:
                one.close()

    def wait_for(self, kind: type[L], what: str = "", after: int = 0) -> L:
        """The last line of this kind that came after so many lines."""

        def found() -> L | None:
            return next((line for line in reversed(self.lines[after:]) if isinstance(line, kind)), None)

        return eventually(found, f"{what or kind.__name__} among {self.lines}\n{self._control.log()}")  # type: ignore[return-value]

    def knows(self, upstream: str) -> set[str] | None:
        """Addresses of an upstream; None if it was never told of it."""
        entries = self.endpoints.get(upstream)
        return None if entries is None else set(entries)

    def report(self, **changes: Any) -> Response:
        """Say how it is: healthy at an address of its own, running what it was told last."""
        self.seq += 1
        values: dict[str, Any] = {
            "service": self.service, "instance": self.instance, "seq": self.seq, "version": self.version,
            "health": "healthy", "ports": {"http": Port(f"127.0.0.1:{10_000 + abs(hash(self.instance)) % 50_000}")},
            "running": Running(self.has, self.revision, 1.0, "pushed" if self.has else ""),
            "endpoints": {name: _version(entries) for name, entries in self.endpoints.items()},
        }  # fmt: skip
        return self._control.post("/v1/report", write_report(Report(**{**values, **changes})))

    def refuses(self, hash_: str, refused: Refused) -> Response:
        """Say that it refused a file, and runs what it ran before."""
        return self.report(running=Running("", 0, 1.0, ""), refused=refused)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while raw := answer.readline():
                line = read_line(raw)
                assert line is not None
                if isinstance(line, Config | Current):
                    self.has, self.revision = line.hash, line.revision
                elif isinstance(line, Endpoints):
                    entries = apply_endpoints(self.endpoints.get(line.upstream, {}), line)
                    assert entries is not None, line
                    self.endpoints[line.upstream] = entries
                self.lines.append(line)
        self.is_over = True


def _version(entries: Mapping[str, EndpointEntry]) -> str:
    from sidecar.link.messages import endpoints_version

    return endpoints_version(entries.values())


def encoded(value: object) -> bytes:
    """As JSON."""
    return json.dumps(value).encode()
