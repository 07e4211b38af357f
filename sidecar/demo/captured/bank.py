"""
A server of HTTPS outside of the mesh: `python -m sidecar.demo.captured.bank PORT CERTIFICATE KEY`.
"""

from __future__ import annotations

import signal
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Bank(BaseHTTPRequestHandler):
    """Answers every path."""

    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        """A balance."""
        body = b'{"balance": "enough"}\n'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


class Server(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread: one that is slow holds nobody up."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        """Of one connection."""
        with self.context.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]
            self.RequestHandlerClass(secured, client_address, self)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left while hands were shaken is its own affair."""


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    port, certificate, key = arguments
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server = Server(("0.0.0.0", int(port)), Bank)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(certificate, key)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
