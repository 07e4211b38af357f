"""
A small HTTP/1.1 server for operators, on h11; never on the data path. *Cold.*

One `asyncio.Protocol` a connection and one task a request. Heads, bodies, idle time and the number of connections
are limited, because the metrics listener faces the network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import h11

from sidecar.admin.endpoints import Endpoints, Reply, Request, Stream, authority_of, request_of, takes_body, text
from sidecar.admin.hosts import AllowedHosts
from sidecar.admin.page import is_from_own_page, is_from_page

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
"""Bodies mean nothing here; a small one is read and dropped so that the connection can go on."""

MAX_TEXT_BYTES = 10 * 1024 * 1024
"""Of a body that is the text of a file: as large as a file may be (`config.source.MAX_FILE_BYTES`)."""

MAX_CONNECTIONS = 256
"""Of one listener: a scraper, a few probes and an operator need ten."""

REQUEST_TIMEOUT_S = 10.0
"""For a whole request, from the connection or from the first byte after an idle time."""

IDLE_TIMEOUT_S = 120.0
"""Between requests, and for a reader that does not take its answer. Prometheus scrapes every 15 to 60 s."""

LINGER_S = 2.0
"""For whoever was sent its last answer whole and does not close."""

_MAX_SHOWN_CHARS = 100
_HOSTS_HINT = "use localhost or an address, or add the name to admin.hosts"


class AdminServer:
    """
    The connections of one listener; `protocol` is what the event loop calls for each.

    Args:
        endpoints: What is answered.
        hosts: What `Host` may be; None for anything.

    Attributes:
        hosts: The same; a new value counts from the next request on.
    """

    __slots__ = ("_connections", "_endpoints", "hosts")

    def __init__(self, endpoints: Endpoints, hosts: AllowedHosts | None = None) -> None:
        self.hosts = hosts
        self._endpoints = endpoints
        self._connections: set[AdminProtocol] = set()

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one new connection."""
        return AdminProtocol(self, self._connections)

    async def answer(self, request: Request, authorities: Iterable[str], local: str) -> Reply:
        """
        Answer one request.

        Args:
            authorities: Whom it says that it is for: `Host`, and the authority of an absolute target.
            local: IP address at which it arrived.
        """
        for authority in authorities:
            if self.hosts is not None and self.hosts.refuses(authority, local):
                # "The server is unable or unwilling to produce an authoritative response" (RFC 9110, 15.5.20).
                said = f"this listener is on loopback and not called {authority[:_MAX_SHOWN_CHARS]!a}; {_HOSTS_HINT}"
                return text(HTTPStatus.MISDIRECTED_REQUEST, said)
        return await self._endpoints.answer(request)

    def close_idle(self) -> None:
        """Close connections that wait for a request, the others after their answer."""
        for connection in tuple(self._connections):
            connection.drain()

    def abort(self) -> None:
        """Close everything at once."""
        for connection in tuple(self._connections):
            connection.abort()

    @property
    def takes_bodies(self) -> bool:
        """Whether there is an endpoint here whose body means something."""
        return self._endpoints.has("/preview")

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return len(self._connections)


class AdminProtocol(asyncio.Protocol):
    """
    One connection: reads a request, answers it, reads the next.

    Invariant: at most one task runs; while it does, reading is paused, so pipelining cannot pile up work. An answer
    without a known end is the last of its connection; meanwhile the client is read, to see it leave.
    """

    def __init__(self, server: AdminServer, connections: set[AdminProtocol]) -> None:
        self._server = server
        self._connections = connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._request: h11.Request | None = None
        self._body_bytes = 0
        self._body: list[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_idle = False
        self._is_draining = False
        self._is_leaving = False
        self._has_client_ended = False
        self._can_write = True
        self._writable = asyncio.Event()
        self._stream: Stream | None = None
        self._transport: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop

    # --- callbacks of the event loop ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        if len(self._connections) >= MAX_CONNECTIONS:
            logger.warning("admin_connection_refused reason=too_many limit=%d", MAX_CONNECTIONS)
            transport.abort()
            return
        self._connections.add(self)
        self._arm(REQUEST_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and go on."""
        if self._is_leaving:
            return
        if self._stream is not None:
            self._transport.abort()  # nothing more was to come
            return
        if self._is_idle:
            self._is_idle = False
            self._arm(REQUEST_TIMEOUT_S)
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """A client that half-closes still gets its answer, but for one without an end."""
        self._has_client_ended = True
        if self._stream is not None or self._is_leaving:
            return False
        self._http.receive_data(b"")
        self._advance()
        return self._task is not None

    def pause_writing(self) -> None:
        """The reader is slow: no further request until it has taken the answer."""
        self._can_write = False
        if self._stream is not None:
            self._arm(IDLE_TIMEOUT_S)

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._can_write = True
        if self._is_leaving:
            return
        if self._stream is not None:
            self._disarm()
            self._writable.set()
            return
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; a reload that was asked for still runs to its end elsewhere."""
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    # --- from outside ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close now if idle, else after the answer."""
        self._is_draining = True
        if self._stream is not None:
            self._stream.finish()
        elif self._task is None and not self._is_leaving:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # --- one request after the other ---------------------------------------------------------------------------

    def _advance(self) -> None:
        try:
            while self._task is None and self._can_write and not (self._is_leaving or self._transport.is_closing()):
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._on_event(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint or 400)

    def _on_event(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]) -> None:
        if isinstance(event, h11.Request):
            self._request, self._body_bytes = event, 0
            is_text = takes_body(event.method.decode("ascii"), event.target.decode("latin-1"))
            self._body = [] if is_text and self._server.takes_bodies else None
            # h11 counts only heads that are still incomplete when the read ends.
            if len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers) > MAX_HEAD_BYTES:
                self._refuse(431)
            elif self._http.they_are_waiting_for_100_continue:
                self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        elif isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_bytes > (MAX_BODY_BYTES if self._body is None else MAX_TEXT_BYTES):
                self._refuse(413)
            elif self._body is not None:
                self._body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert self._request is not None
            self._disarm()
            self._transport.pause_reading()
            self._task = self._loop.create_task(self._answer(self._request))
        elif isinstance(event, h11.ConnectionClosed):
            self._transport.close()

    async def _answer(self, request: h11.Request) -> None:
        method = request.method.decode("ascii")
        fields: dict[bytes, str] = {}
        for name, value in request.headers:
            fields[name] = f"{fields[name]},{value.decode('latin-1')}" if name in fields else value.decode("latin-1")
        accept, encoding = fields.get(b"accept", ""), fields.get(b"accept-encoding", "")
        target = request.target.decode("latin-1")
        authorities = (fields.get(b"host", ""), authority_of(target))
        try:
            asked = request_of(
                method, target, is_from_page(fields), accept, encoding,
                if_none_match=fields.get(b"if-none-match", ""), is_from_own_page=is_from_own_page(fields),
            )  # fmt: skip
            if self._body is not None:
                asked, self._body = replace(asked, body=b"".join(self._body)), None
            reply = await self._server.answer(asked, authorities, self._local_host())
        except Exception:
            logger.exception("admin_request_failed method=%s target=%r", method, request.target)
            reply = text(500, "the sidecar failed while answering; its log says why")
        if reply.stream is not None:
            try:
                await self._pour(reply, reply.stream)
            finally:
                reply.stream.close()
            return
        self._task = None
        if self._transport.is_closing():
            return
        self._send(reply, is_head=method == "HEAD")
        if self._is_draining or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._leave()
            return
        self._http.start_next_cycle()
        self._is_idle = True
        self._arm(IDLE_TIMEOUT_S)
        self._transport.resume_reading()
        self._advance()

    def _local_host(self) -> str:
        name = self._transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else ""

    async def _pour(self, reply: Reply, stream: Stream) -> None:
        """Send an answer piece by piece, no faster than the client takes it, then close."""
        self._stream = stream
        self._transport.resume_reading()
        headers = [*_fields(reply), (b"connection", b"close")]
        self._write(self._http.send(_response(reply.status, headers)))
        while data := await stream.next():
            self._write(self._http.send(h11.Data(data=data)))
            while not self._can_write:
                self._writable.clear()
                await self._writable.wait()
        self._write(self._http.send(h11.EndOfMessage()))
        self._leave()

    def _send(self, reply: Reply, *, is_head: bool) -> None:
        headers = _fields(reply)
        if (
            reply.status != HTTPStatus.NOT_MODIFIED
        ):  # Of which it would be the length of what is not sent (RFC 9110, 8.6).
            headers.append((b"content-length", b"%d" % len(reply.body)))
        if self._is_draining:
            headers.append((b"connection", b"close"))
        self._write(self._http.send(_response(reply.status, headers)))
        if not is_head and reply.body:
            self._write(self._http.send(h11.Data(data=reply.body)))
        self._write(self._http.send(h11.EndOfMessage()))

    def _refuse(self, status: int) -> None:
        """Answer what h11 could not accept, if an answer can still be sent, and close."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._is_draining = True
            self._send(text(status, "this is not a request that is served here"), is_head=False)
        self._leave()

    def _leave(self) -> None:
        """Close when the answer has arrived: a close with octets unread would reset it on its way (RFC 9112, 9.6)."""
        transport = self._transport
        if self._has_client_ended or transport.is_closing():
            transport.close()
            return
        self._is_leaving = True
        transport.write_eof()
        transport.resume_reading()
        self._arm(IDLE_TIMEOUT_S if transport.get_write_buffer_size() else LINGER_S)

    def _write(self, data: bytes | None) -> None:
        if data:
            self._transport.write(data)

    # --- time --------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, self._transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _response(status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response:
    # The phrase may be absent (RFC 9112, 4), and then some clients trip over the space that is not.
    return h11.Response(status_code=int(status), headers=headers, reason=HTTPStatus(status).phrase.encode())


def _fields(reply: Reply) -> list[tuple[bytes, bytes]]:
    fields = [
        (b"content-type", reply.content_type),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"date", formatdate(usegmt=True).encode()),
    ]
    given = {name for name, _ in reply.headers}
    return [*((name, value) for name, value in fields if value and name not in given), *reply.headers]
