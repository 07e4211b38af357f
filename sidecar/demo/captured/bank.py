"""
A server of HTTPS outside of the mesh: `python -m sidecar.demo.captured.bank PORT CERTIFICATE KEY`; and what makes its
certificate, by itself signed, which the app is told to trust.
"""

from __future__ import annotations

import datetime
import signal
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GOOD_FOR = datetime.timedelta(days=2)


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


def make_certificate(name: str, directory: Path) -> tuple[Path, Path]:
    """A certificate for this name and its key, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + GOOD_FOR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "bank.crt", directory / "bank.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(0o600)
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return paths


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
