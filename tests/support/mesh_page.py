"""A server of the page and of answers that the test sets: a control plane's outside, without its inside."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from sidecar.page.files import Page, page_file
from tests.support.mesh_fixture import Json, history, routes


@dataclass
class MeshPage:
    """
    What the server answers; a test changes it between two requests.

    Attributes:
        mesh: The answer of `/v1/mesh`, and the source of `/v1/history`.
        routes: The answer of `/v1/routes` for caller and callee.
        status: Of every answer below `/v1/`.
        token: If not "", the bearer token that `/v1/` asks for.
        asked: Every request's target, and its `Authorization`.
    """

    mesh: Json
    routes: Callable[[str, str], Json] = routes
    status: int = 200
    token: str = ""
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def serving(mesh: Json) -> Iterator[MeshPage]:
    """The server on a port of its own, until leaving."""
    page = MeshPage(mesh)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page.asked.append((self.path, self.headers.get("authorization", "")))
            url = urlsplit(self.path)
            if url.path.startswith("/v1/"):
                self._api(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
                return
            found = page_file(Page.MESH, url.path, self.headers.get("if-none-match", ""))
            status, headers, body = found or (404, {"content-type": "text/plain"}, b"not found")
            self._answer(status, dict(headers), body)

        def _api(self, path: str, query: dict[str, str]) -> None:
            if page.token and self.headers.get("authorization") != f"Bearer {page.token}":
                self._json(401, {"error": "a bearer token is needed"})
            elif page.status != 200:
                self._json(page.status, {"error": "as the test says"})
            elif path == "/v1/mesh":
                self._json(200, page.mesh)
            elif path == "/v1/history":
                self._json(200, history(page.mesh))
            elif path == "/v1/instances":
                self._json(200, {"instances": page.routes("", query["service"]).get("instances", [])})
            elif path == "/v1/routes":
                self._json(200, page.routes(query["from"], query["to"]))
            else:
                self._json(404, {"error": "no such address"})

        def _json(self, status: int, said: Json) -> None:
            self._answer(status, {"content-type": "application/json"}, json.dumps(said).encode())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: pytest's output is for failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    page.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield page
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
