"""Programs that speak HTTP/2, at either end: curl, nghttp, h2load, httpx and nghttpd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.peers import require
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """Before nghttpd, which is called `files`."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "small").write_bytes(b"small\n")
    (folder / "large").write_bytes(bytes(range(256)) * 8192)
    port = free_port()
    program = require("nghttpd")
    with open(folder / "nghttpd.log", "wb") as log:
        server = subprocess.Popen([program, "--no-tls", "-d", str(folder), str(port)], stdout=log, stderr=log)
    try:
        text = f"""
            service: storefront
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{files: {{endpoints: ["127.0.0.1:{port}"], protocol: http2}}}}
        """
        with running_sidecar(folder / "sidecar", text) as one:
            eventually(lambda: one.outbound("/small", host="files").status == 200, "nghttpd to answer")
            yield one
    finally:
        server.kill()
        server.wait(15)


def run(*command: str) -> str:
    """What it says."""
    return subprocess.run(
        [require(command[0]), *command[1:]], capture_output=True, timeout=60, check=True
    ).stdout.decode()


def test_curl(sidecar: SidecarProcess, tmp_path: Path) -> None:
    """Downloads whole."""
    url = f"http://127.0.0.1:{sidecar.outbound_port}/large"
    shown = run("curl", "-s", "--http2-prior-knowledge", "-H", "Host: files", "-w", "%{http_version} %{http_code}",
                "-o", str(tmp_path / "got"), url)  # fmt: skip
    assert shown == "2 200"
    assert (tmp_path / "got").read_bytes() == bytes(range(256)) * 8192


def test_nghttp(sidecar: SidecarProcess) -> None:
    """Several at once on one connection."""
    url = f"http://127.0.0.1:{sidecar.outbound_port}/small"
    shown = run("nghttp", "-nv", "-H", ":authority: files", "-m", "5", url)
    assert shown.count(":status: 200") == 5


def test_h2load(sidecar: SidecarProcess) -> None:
    """None of two thousand fails."""
    url = f"http://127.0.0.1:{sidecar.outbound_port}/small"
    shown = run("h2load", "-n", "2000", "-c", "4", "-m", "16", "-H", ":authority: files", url)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in shown
    assert "2000 2xx" in shown


def test_httpx(sidecar: SidecarProcess) -> None:
    """By prior knowledge."""
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        answer = client.get(f"http://127.0.0.1:{sidecar.outbound_port}/large", headers={"Host": "files"})
    assert (answer.http_version, answer.status_code, len(answer.content)) == ("HTTP/2", 200, 2 << 20)
