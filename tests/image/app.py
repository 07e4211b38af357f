"""A server that says who it is and what it was asked; the app and the services of the image test."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with a line of JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Reply with the server's name, the path, and the fields that the sidecar must have added."""
        seen = {"name": sys.argv[1], "path": self.path, "traceparent": self.headers.get("traceparent")}
        body = json.dumps(seen).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the sidecar's access log is what is looked at."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
