"""
Small HTTP servers to put behind a sidecar: apps that say who they are.

    with Origin("v1") as v1:
        request(v1.port, "/hello").text == "v1"

`/slow` answers only after `origin.release()`, so that a test holds an exchange in flight for as long as it needs;
after `origin.hang()` the same is true of every path;
`/echo` answers the request's fields and body as JSON, `/digest` the body's SHA-256 in hexadecimal, `/large/TAG` the
three megabytes of `large(TAG)`; every other path answers the name. Works on TCP and, with `unix=path`, on a Unix
socket.
"""

from __future__ import annotations

import json
import socketserver
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def large(tag: str) -> bytes:
    """Three megabytes of which every sixteen octets name the tag and the place."""
    return b"".join(b"%7s%8x\n" % (tag.encode(), place) for place in range(3_000_000 // 16))


class Origin:
    """
    A threaded HTTP/1.1 server with keep-alive.

    Args:
        unix: Path of a Unix socket to listen on instead of TCP.
        port: To listen on; 0 for any.

    Attributes:
        port: Where it listens on 127.0.0.1; 0 on a Unix socket.
        is_hanging: Whether requests are answered only after `release`.
        requests: `(method, path)` of every request, in order of arrival.
        entered: Set when a request for `/slow` has arrived.
        connections: How many connections were accepted.
    """

    def __init__(self, name: str, *, unix: Path | None = None, port: int = 0) -> None:
        self.name = name
        self.is_hanging = False
        self.requests: list[tuple[str, str]] = []
        self.entered = threading.Event()
        self.connections = 0
        self._released = threading.Event()
        handler = _handler(self, is_tcp=unix is None)
        self._server: socketserver.BaseServer
        if unix is None:
            self._server = _Server(("127.0.0.1", port), handler)
            self.port = int(self._server.server_address[1])
        else:
            self._server = _UnixServer(str(unix), handler)
            self.port = 0
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def release(self) -> None:
        """Let requests for `/slow` be answered, and all others after `hang`."""
        self.is_hanging = False
        self._released.set()

    def hang(self) -> None:
        """Accept requests and answer none, until `release`."""
        self._released.clear()
        self.is_hanging = True

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that a test cut is no event."""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As above."""


def _handler(origin: Origin, *, is_tcp: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = is_tcp
        wbufsize = -1

        def setup(self) -> None:
            origin.connections += 1
            super().setup()

        def address_string(self) -> str:
            return "client"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def _answer(self) -> None:
            origin.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0]
            if path == "/slow" or origin.is_hanging:
                origin.entered.set()
                origin._released.wait(30)
            answer = origin.name.encode()
            if path == "/echo":
                fields = [[name.lower(), value] for name, value in self.headers.items()]
                echoed = {"method": self.command, "path": self.path, "headers": fields, "body": body.decode("latin-1")}
                answer = json.dumps(echoed).encode()
            if path == "/digest":
                answer = sha256(body).hexdigest().encode()
            if path.startswith("/large/"):
                answer = large(path.removeprefix("/large/"))
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.send_header("x-served-by", origin.name)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)
            self.wfile.flush()

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler._answer)
    return Handler
