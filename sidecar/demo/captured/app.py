"""
An app that has never heard of a sidecar: `python -m sidecar.demo.captured.app NAME VERSION PORT CA [URL...]`.

Of Python's standard library, as thousands are written: it looks names up, dials what it finds, and blocks. Each page
has what every URL answered: `http://`, `https://`, whose server must show a certificate of CA, and `redis://`, where
it counts pages over one connection that stays.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

CALL_LIMIT_S = 8.0


class Counter:
    """Counts in a Redis, over one connection (RESP, `INCR`)."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def next(self) -> int:
        """One more. Raises OSError."""
        with self._lock:
            try:
                return self._ask(b"*2\r\n$4\r\nINCR\r\n$5\r\npages\r\n")
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Hang up; the next question dials again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, command: bytes) -> int:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, CALL_LIMIT_S)
        self._socket.sendall(command)
        said = b""
        while not said.endswith(b"\r\n"):
            more = self._socket.recv(256)
            if not more:
                raise ConnectionResetError("the store hung up")
            said += more
        if said[:1] != b":":
            raise OSError(f"expected a number, found {said!r}")
        return int(said[1:])


class App(BaseHTTPRequestHandler):
    """Answers every path; the class has what all its requests share."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    name: ClassVar[str]
    version: ClassVar[str]
    urls: ClassVar[tuple[str, ...]]
    trusts: ClassVar[ssl.SSLContext]
    counters: ClassVar[dict[str, Counter]]

    def do_GET(self) -> None:
        """The page."""
        page: dict[str, object] = {"app": self.name, "version": self.version}
        status = 200
        for url in self.urls:
            try:
                page[urlsplit(url).hostname or url] = self._call(url)
            except (OSError, ValueError, http.client.HTTPException) as error:
                page[urlsplit(url).hostname or url] = {"error": f"{type(error).__name__}: {error}"}
                status = 502
        body = json.dumps(page).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def _call(self, url: str) -> object:
        parts = urlsplit(url)
        assert parts.hostname is not None
        if parts.scheme == "redis":
            return self.counters[url].next()
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=CALL_LIMIT_S, context=self.trusts
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=CALL_LIMIT_S)
        try:
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}: {body[:200]!r}")
            return json.loads(body)
        finally:
            connection.close()


class Server(ThreadingHTTPServer):
    """At all addresses of the host."""

    daemon_threads = True
    request_queue_size = 128


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    name, version, port, ca, *urls = arguments
    App.name, App.version, App.urls = name, version, tuple(urls)
    App.trusts = ssl.create_default_context(cafile=ca)
    App.counters = {
        url: Counter(urlsplit(url).hostname or "", urlsplit(url).port or 6379)
        for url in urls
        if url.startswith("redis:")
    }
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    Server(("0.0.0.0", int(port)), App).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
