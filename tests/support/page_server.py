"""A small HTTP server for pages under test: what it answers is a function of what it is asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """
    A request.

    Attributes:
        method, target: As they came.
        headers: By lower-case name.
        body: Whole.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Of the target, without the query."""
        return urlsplit(self.target).path

    @property
    def params(self) -> list[tuple[str, str]]:
        """Of the query, in order."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


@dataclass(frozen=True)
class Answer:
    """A response; `content-length` is put in."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/plain"})


def as_json(status: int, said: Any) -> Answer:
    """A response of JSON."""
    return Answer(status, json.dumps(said).encode(), {"content-type": "application/json"})


@contextlib.contextmanager
def answering(answer: Callable[[Asked], Answer]) -> Iterator[int]:
    """A server on a port of its own on 127.0.0.1, whose port this gives, until leaving."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length", "0"))))

        def _answer(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            said = answer(Asked(self.command, self.path, headers, body))
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 304:
                self.send_header("content-length", str(len(said.body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            """Nothing: pytest's output is for failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
