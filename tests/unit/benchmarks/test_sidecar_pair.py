"""Two sidecars of a comparison speak between them what they are told to, with mutual TLS."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.harness.processes import get
from benchmarks.harness.sidecar_pair import start_pair
from benchmarks.harness.site import HOST
from benchmarks.harness.tls_certificates import SUBJECT, Certificates, spiffe

AT_ONCE = 3
SIDECAR = Path(sys.executable).parent / "sidecar"


@pytest.fixture
def app() -> Iterator[int]:
    """An app that answers what is held when so many ask for it, with who asked."""
    together = threading.Barrier(AT_ONCE)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/held":
                together.wait(20)
            said = self.headers.get("x-forwarded-client-cert", "").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("protocol", "opened"), [pytest.param("http1", AT_ONCE, marks=pytest.mark.long), ("http2", 1)])
def test_requests_at_once_share_a_connection_by_http2_alone(
    protocol: str, opened: int, app: int, tmp_path: Path
) -> None:
    """Three are at the app at the same time; it is told by a certificate whose sidecar has asked."""
    files = Certificates(tmp_path / "certificates")
    with ExitStack() as stack:
        pair = start_pair(SIDECAR, tmp_path / "pair", (), files, protocol, app)
        stack.callback(pair.stop)
        clients = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        answers = list(clients.map(lambda _: get(pair.port, "/v1/held", {"Host": HOST}, 20.0), range(AT_ONCE)))
        assert [status for status, _, _ in answers] == [200] * AT_ONCE
        assert all(spiffe(SUBJECT).encode() in said for _, _, said in answers)
        assert pair.opened() == opened
