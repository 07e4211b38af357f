"""
A control plane for tests: what `docs/mesh-protocol.md` says, over real sockets, and whatever a test wants to go wrong.

    with FakeControl() as control:
        control.files["shop"] = Config(7, "ab" * 16, "service: shop\\n")
        ... a sidecar with control.url ...
        control.push("shop", Config(8, ...))
        control.reports, control.watches, control.answers

It runs on threads of its own, so that it serves tests that block and loops of the test's own process alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from sidecar.link.messages import (
    PING_PERIOD_S,
    Absent,
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    Left,
    Line,
    Ping,
    Watch,
    endpoints_version,
    read_watch,
    write_line,
    write_poll,
)
from sidecar.link.report import Report, read_report

if TYPE_CHECKING:
    from tests.support.fake_authority import FakeAuthority


@dataclass
class Refusal:
    """An answer instead of the right one; `times` of them."""

    status: int
    body: bytes = b'{"error": "no"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1 << 30


class Stream:
    """One open stream, as the server has it."""

    def __init__(self, watch: Watch, connection: socket.socket) -> None:
        self.watch = watch
        self.octets = 0
        self.is_open = True
        self._connection = connection
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def say(self, line: Line | bytes) -> None:
        """A line, or any octets."""
        self.queue.put(line if isinstance(line, bytes) else write_line(line))

    def end(self) -> None:
        """In order."""
        self.queue.put(None)

    def cut(self) -> None:
        """Without a word of HTTP."""
        cut(self._connection)


def cut(connection: socket.socket) -> None:
    """End both directions at once, whoever is in them."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class FakeControl:
    """
    Args:
        port: To listen on; 0 for any, kept from then on: `stop` and `start` are a restart.
        token: That requests must bring; empty for none.
        certificate: Paths of certificate and key (PEM), for https.
        authority: Whom it signs by; clients may show certificates of its then, and must for all but joining.

    Attributes:
        files: By service; a service without one is told so.
        endpoints: By upstream; told to everyone.
        ping_period_s: Of streams; 0 for no pings, nor any other line that nobody asked for.
        refusals: By path: told instead of an answer.
        is_silent: Heads are written, and then nothing.
        watches, reports, answers: What came, in order; `authorizations` the fields of all requests.
        says_left: Goodbyes are answered by `left` on the stream; `answers_left` in the answer to the report.
    """

    def __init__(
        self,
        port: int = 0,
        token: str = "",
        certificate: tuple[str, str] | None = None,
        authority: FakeAuthority | None = None,
    ) -> None:
        self.files: dict[str, Config] = {}
        self.endpoints: dict[str, dict[str, EndpointEntry]] = {}
        self.ping_period_s = PING_PERIOD_S
        self.refusals: dict[str, Refusal] = {}
        self.is_silent = False
        self.says_left = self.answers_left = False
        self.watches: list[Watch] = []
        self.polls: list[tuple[str, int]] = []
        self.reports: list[Report] = []
        self.answers: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.addresses: list[str] = []
        self.streams: list[Stream] = []
        self.token = token
        self.port = port
        self.authority = authority
        self.callers: list[str] = []
        """Whose certificate each request came with, by its serial number; empty for none."""
        self._certificate = certificate
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """For `control.addresses`."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeControl:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; again after `stop`, on the same port."""
        server = _Server(("127.0.0.1", self.port), _handler(self))
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            if self.authority is not None:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(cadata=self.authority.trust.decode())
            server.context = context
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As if it was killed: every connection is cut."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        with self._changed:
            connections = tuple(self._connections)
        for connection in connections:
            cut(connection)
        for stream in self.live():
            stream.end()

    # --- what it says ------------------------------------------------------------------------------------------

    def live(self) -> list[Stream]:
        """The streams that are open."""
        with self._changed:
            return [stream for stream in self.streams if stream.is_open]

    def say(self, line: Line | bytes) -> None:
        """Tell all streams."""
        for stream in self.live():
            stream.say(line)

    def push(self, service: str, config: Config) -> None:
        """Make it the service's file."""
        with self._changed:
            self.files[service] = config
            self._changed.notify_all()
            for stream in self.live():
                if stream.watch.service == service:
                    stream.say(config)

    def discover(self, upstream: str, *entries: EndpointEntry) -> None:
        """These are the upstream's endpoints: what has changed is told."""
        new = {entry.address: entry for entry in entries}
        with self._changed:
            old = self.endpoints.get(upstream)
            self.endpoints[upstream] = new
            self._changed.notify_all()
            self.say(_change(upstream, old, new))

    # --- what it serves ----------------------------------------------------------------------------------------

    def first_lines(self, watch: Watch) -> list[Line]:
        """What somebody is told who has this."""
        config = self.files.get(watch.service)
        lines: list[Line] = []
        if config is None:
            lines.append(Absent(f"the mesh has no service `{watch.service}`"))
        elif config.hash == watch.config:
            lines.append(Current(config.revision, config.hash))
        else:
            lines.append(config)
        for upstream, entries in self.endpoints.items():
            if watch.endpoints.get(upstream) != endpoints_version(entries.values()):
                lines.append(_change(upstream, None, entries))
        return lines

    def etag(self, watch: Watch) -> str:
        """Of all that is to be told."""
        config = self.files.get(watch.service)
        versions = sorted((name, endpoints_version(known.values())) for name, known in self.endpoints.items())
        return f'"{hashlib.sha256(repr((config, versions)).encode()).hexdigest()[:16]}"'

    def serve_poll(self, watch: Watch, seen: str, wait_s: float) -> tuple[int, bytes, str]:
        """Status, body and etag."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            while (etag := self.etag(watch)) == seen:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._server is None:
                    return 304, b"", etag
                self._changed.wait(min(left_s, 0.2))
            return 200, write_poll(map(write_line, [*self.first_lines(watch), Ping(self.revision())])), etag

    def on_report(self, report: Report) -> dict[str, object]:
        """Keep it; what to answer."""
        with self._changed:
            self.reports.append(report)
        if report.is_goodbye and self.says_left:
            self.say(Left())
        return {"left": True} if report.is_goodbye and self.answers_left else {}

    def opened(self, connection: socket.socket) -> None:
        """A connection has come."""
        with self._changed:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """It is gone."""
        with self._changed:
            self._connections.discard(connection)

    def note(self, authorization: str, address: str) -> None:
        """A request has come."""
        with self._changed:
            self.authorizations.append(authorization)
            self.addresses.append(address)

    def join(self, stream: Stream) -> list[Line]:
        """A stream has come; what it is told first. Changes after it are told to it, too."""
        with self._changed:
            self.watches.append(stream.watch)
            self.streams.append(stream)
            return [] if self.is_silent else [*self.first_lines(stream.watch), Ping(self.revision())]

    def revision(self) -> int:
        """The newest."""
        return max((config.revision for config in self.files.values()), default=0)


def _change(upstream: str, old: Mapping[str, EndpointEntry] | None, new: Mapping[str, EndpointEntry]) -> Endpoints:
    version = endpoints_version(new.values())
    if old is None:
        return Endpoints(upstream, version, "", tuple(new.values()))
    added = tuple(entry for address, entry in new.items() if old.get(address) != entry)
    removed = tuple(address for address in old if address not in new)
    return Endpoints(upstream, version, endpoints_version(old.values()), added, removed)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Here, on the connection's own thread: a client that does not shake hands holds up nobody else.
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured:
            try:
                secured.do_handshake()
            except ssl.SSLError:
                # Closed with something unread, the connection would be reset, and the alert be overtaken by that.
                secured.settimeout(1.0)
                while socket.socket.recv(secured, 65536):
                    pass
                raise
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are cut are what tests are about."""


def _handler(control: FakeControl) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            control.opened(self.connection)

        def finish(self) -> None:
            try:
                super().finish()
            finally:
                control.closed(self.connection)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path, query = self._begin()
            if path is None or self._join("GET", path, b""):
                return
            if path != "/v1/watch":
                self._answer(404, b'{"error": "no such page"}')
                return
            watch = read_watch({name: values[0] for name, values in query.items()})
            if "wait" in query:
                self._poll(watch, query["wait"][0])
            else:
                self._stream(watch)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            path, _ = self._begin()
            if path is not None and self._join("POST", path, body):
                return
            if path == "/v1/report":
                self._answer(200, json.dumps(control.on_report(read_report(body))).encode())
            elif path == "/v1/answer":
                control.answers.append(json.loads(body))
                self._answer(200, b"{}")
            elif path is not None:
                self._answer(404, b'{"error": "no such page"}')

        def _join(self, method: str, path: str, body: bytes) -> bool:
            """Whether it was a matter of the authority's."""
            authority = control.authority
            if authority is None:
                return False
            connection = self.connection
            assert isinstance(connection, ssl.SSLSocket)
            shown = connection.getpeercert(binary_form=True)
            details = connection.getpeercert() or {}
            control.callers.append(str(details.get("serialNumber", "")))
            answered = authority.answer(method, path, body, shown)
            if answered is None and shown is None:
                answered = 401, b'{"error": "expected a certificate of the mesh"}'
            if answered is not None:
                self._answer(*answered)
            return answered is not None

        def _begin(self) -> tuple[str | None, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            authorization = self.headers.get("authorization", "")
            control.note(authorization, self.path)
            refusal = control.refusals.get(parts.path)
            if refusal is not None and refusal.times > 0:
                refusal.times -= 1
                self._answer(refusal.status, refusal.body, refusal.headers)
                return None, {}
            if control.token and authorization != f"Bearer {control.token}":
                self._answer(401, b'{"error": "expected another token"}')
                return None, {}
            return parts.path, parse_qs(parts.query)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("content-length", str(len(body)))
                self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def _poll(self, watch: Watch, wait: str) -> None:
            seen = self.headers.get("if-none-match", "")
            control.watches.append(watch)
            status, body, etag = control.serve_poll(watch, seen, float(wait.removesuffix("s")))
            control.polls.append((seen, status))
            self._answer(status, body, {"etag": etag})

        def _stream(self, watch: Watch) -> None:
            stream = Stream(watch, self.connection)
            lines = control.join(stream)
            try:
                self.send_response(200)
                self.send_header("content-type", "application/jsonl")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self._write(stream, map(write_line, lines))
                while True:
                    try:
                        said = stream.queue.get(timeout=control.ping_period_s or None)
                    except queue.Empty:
                        said = write_line(Ping(control.revision()))
                    if said is None:
                        self.wfile.write(b"0\r\n\r\n")
                        return
                    self._write(stream, [said])
            finally:
                stream.is_open = False

        def _write(self, stream: Stream, lines: Iterable[bytes]) -> None:
            for octets in lines:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(octets), octets))
                stream.octets += len(octets)

    return Handler
