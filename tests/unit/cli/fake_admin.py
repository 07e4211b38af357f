"""An admin listener that answers what a test tells it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeAdmin:
    """
    Serves on a free port of 127.0.0.1.

    Attributes:
        pages: By path, the bodies to answer in turn, the last for ever; anything else is a 404.
        targets: What was asked for, in order.
        posted: Targets and bodies of POST, in order.
        connections: How many there were.
    """

    def __init__(self, **pages: list[bytes]) -> None:
        self.pages = {f"/{name}": list(bodies) for name, bodies in pages.items()}
        self.targets: list[str] = []
        self.posted: list[tuple[str, bytes]] = []
        self.connections = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                fake.connections += 1
                super().setup()

            def do_GET(self) -> None:
                fake.targets.append(self.path)
                path = self.path.partition("?")[0]
                bodies = fake.pages.get(path)
                body = b"no such endpoint\n" if bodies is None else bodies.pop(0) if len(bodies) > 1 else bodies[0]
                self.send_response(404 if bodies is None else 200)
                if path == "/tap":
                    self.send_header("transfer-encoding", "chunked")
                    self.send_header("connection", "close")
                    self.end_headers()
                    for line in body.splitlines(keepends=True):
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                    self.wfile.write(b"0\r\n\r\n")
                    return
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                fake.posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeAdmin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
