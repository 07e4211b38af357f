"""A collector that answers as it is told and keeps what it got."""

from __future__ import annotations

import gzip
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

HANG_UP = 0
"""A reply that is none: the connection is closed."""


class Collector:
    """
    An OTLP/HTTP receiver on a free port of this machine.

    Args:
        replies: Status of each reply in turn, the last for ever; a tuple adds fields and a body.
        tls: Speaks HTTPS by it, as `localhost`.
    """

    def __init__(self, *replies: int | tuple[int, dict[str, str], bytes], tls: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies or (200,))
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.connections: set[tuple[str, int]] = set()
        self.may_answer = threading.Event()
        """Cleared by a test that wants it slow."""
        self.may_answer.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            # Each connection's handshake is its own thread's, so that one that fails is nobody else's.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.url = f"https://localhost:{self._server.server_port}"

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.may_answer.wait(30)
        body = handler.rfile.read(int(handler.headers["content-length"]))
        if handler.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.paths.append(handler.path)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        self.connections.add(handler.client_address)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        status, fields, content = (reply, {}, b"") if isinstance(reply, int) else reply
        if status == HANG_UP:
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in fields.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def spans(self) -> list[Span]:
        """All spans of all requests, in order."""
        return [
            span
            for request in self.requests
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]
