"""
A host whose connections are captured by a sidecar in it.

The sidecar runs as root, and the rules take root for its user: another user might not be able to run this Python. Apps
are sockets of user 1000.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, ClassVar

from tests.support.commands import sidecar_command
from tests.support.namespaces import Host
from tests.support.process import Response, SidecarProcess
from tests.support.streams import Serve, serving

APP = 1000
TIMEOUT_S = 15.0


def install(host: Host, *options: object) -> None:
    """Write the rules, with root as the sidecar's user."""
    done = host.do(lambda: sidecar_command("capture", "install", "--user", 0, *options))
    assert done.returncode == 0, done.stderr


class CapturingSidecar(SidecarProcess):
    """
    Args:
        host: In which it runs.
        directory: As `SidecarProcess`.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        super().__init__(directory)
        self.host = host

    def start(self, *arguments: str, command: str = "run", trailing: Any = ()) -> None:
        """As `SidecarProcess.start`."""
        self.host.do(lambda: super(CapturingSidecar, self).start(*arguments, command=command, trailing=trailing))

    def admin(self, path: str, **options: Any) -> Response:
        """As `SidecarProcess.admin`."""
        return self.host.do(lambda: super(CapturingSidecar, self).admin(path, **options))

    def metrics(self, path: str = "/metrics", **options: Any) -> Response:
        """As `SidecarProcess.metrics`."""
        return self.host.do(lambda: super(CapturingSidecar, self).metrics(path, **options))


@contextlib.contextmanager
def capturing(host: Host, directory: Path, text: str) -> Iterator[CapturingSidecar]:
    """One that is ready, with this YAML, and whose host is captured; ended on leaving."""
    directory.mkdir(exist_ok=True)
    sidecar = CapturingSidecar(host, directory)
    sidecar.rewrite(text)
    sidecar.start()
    try:
        sidecar.wait_ready()
        install(host)
        yield sidecar
        sidecar.stop()
        log = sidecar.stderr()
        assert "Traceback" not in log, log
        assert "unhandled_exception" not in log, log
    finally:
        sidecar.kill()


class _App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name: ClassVar[str] = ""

    def do_GET(self) -> None:
        body = f"{self.name} {self.path} {self.headers['Host']} {self.headers.get('X-Forwarded-For', '-')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """Says how much it was given, and what of."""
        given = self.rfile.read(int(self.headers["content-length"]))
        body = f"{self.name} {len(given)} {hashlib.sha256(given).hexdigest()}".encode()
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def app(host: Host, port: int, name: str, address: str = "") -> Iterator[None]:
    """A server of HTTP that says its name, and what it was asked, at this address of the host."""
    handler = type("App", (_App,), {"name": name})

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def server_bind(self) -> None:
            # Not the parent's, which asks for the name of the address: nobody answers here, and it waits for seconds.
            TCPServer.server_bind(self)

    server = host.do(lambda: Server((address, port), handler), APP)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def server(host: Host, port: int, serve: Serve) -> contextlib.AbstractContextManager[int]:
    """One at this port of the host, in both families."""
    listener = host.do(lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True))
    return serving(listener, serve)


def get(
    host: Host, to: str, port: int, path: str = "/", headers: Mapping[str, str] | None = None, user: int | None = APP
) -> tuple[int, str]:
    """What a user of a host is answered who dials an address."""

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection(to, port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return host.do(ask, user)
