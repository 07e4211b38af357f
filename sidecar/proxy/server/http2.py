"""
A connection of HTTP/2 to a server, which many attempts share. *Hot path.*

It has a session, which knows frames, and streams, which know attempts; what is left for it is the socket, how many it
carries, and its age. It takes no further attempt once the server says so, or it is too old, or its endpoint is gone,
and closes when the last is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Final, cast

from sidecar import errors
from sidecar.errors import Reason
from sidecar.http2 import bounds
from sidecar.http2.codes import Code, SessionError, name_of
from sidecar.http2.forward import SCHEMES
from sidecar.http2.head import response_head
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.message import Field, ResponseHead
from sidecar.net.flow import BatchingWriter, Outbox
from sidecar.net.timers import NOT_ARMED, Timed, Timers
from sidecar.net.tls.failures import explain, is_tls
from sidecar.net.tls.sides import MESH_HTTP2
from sidecar.peer import Peer
from sidecar.proxy.server.attempt_stream import AttemptStream, StreamCarrier
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint, IdleConnection, Objection
from sidecar.upstream.shared import Shared, SharedConnection

log = logging.getLogger("sidecar.proxy")

_MAX_SPARE: Final = 64
_WINDOW_BYTES: Final = 256 * 1024
# What a configuration has that says nothing of them; each attempt brings those of its own.
_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_HEADERS: Final = 128
# A server resets what it cannot answer, and there may be many of such; it is not us whom it attacks by that.
_MAX_RESETS: Final = 10_000
_ALIVE: Final = b"sidecar\0"


class Http2ServerConnection(BatchingWriter, Timed, StreamCarrier, SharedConnection):
    """
    Args:
        endpoint: Where it leads.
        timers: Sweeps it.
        outbox: Flushes what it writes.
        on_connected: Told once, when the server has said what it allows, which is what it says first (RFC 9113, 3.4):
            before, nobody knows how many exchanges it may carry, nor whether that is HTTP/2; takes the connection.
        on_failed: Told instead that it has not, and why; nothing of a request was sent.
        on_refused: Told why, if the server does not accept our certificate: by TLS 1.3 it says so behind the handshake.
    """

    __slots__ = (
        "_awaits_answer",
        "_ends_at",
        "_has_complained",
        "_head",
        "_head_end",
        "_head_fields",
        "_heard_at",
        "_is_deferred",
        "_is_gone",
        "_is_retired",
        "_is_to_sidecar",
        "_on_connected",
        "_on_failed",
        "_on_refused",
        "_opened",
        "_retires_at",
        "_scheme",
        "_session",
        "_spare",
        "_timers",
        "bucket",
        "deadline",
        "endpoint",
        "epoch",
        "load",
        "secured",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        timers: Timers,
        outbox: Outbox,
        on_connected: Callable[[Http2ServerConnection], None],
        on_failed: Callable[[Reason, str], None],
        on_refused: Callable[[Reason], None] | None = None,
    ) -> None:
        super().__init__(outbox)
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.load = 0
        self.secured: Peer | None = None
        self.deadline = inf
        self.bucket = NOT_ARMED
        self._timers = timers
        self._on_connected: Callable[[Http2ServerConnection], None] | None = on_connected
        self._on_failed = on_failed
        self._on_refused = on_refused
        self._session = Session(
            self, False, 0, _WINDOW_BYTES, _MAX_HEADER_BYTES, _MAX_HEADERS, _MAX_RESETS, timers.time
        )
        self._spare: list[AttemptStream] = []
        self._opened = 0
        self._head_fields: list[Field] | None = None
        self._head: ResponseHead | None = None
        self._head_end = False
        self._scheme = SCHEMES[0]
        self._ends_at = self._retires_at = inf
        self._heard_at = 0.0
        self._awaits_answer = self._has_complained = False
        self._is_deferred = self._is_gone = self._is_retired = self._is_to_sidecar = False

    def __repr__(self) -> str:
        return f"<Http2ServerConnection {self.endpoint.label} {self.load} carried, {self._session!r}>"

    # --- the pool's side -------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more exchanges it may carry now."""
        session = self._session
        if self._is_retired or self._is_gone or not session.can_open():
            return 0
        if not self.load and self.has_peer_ended():
            return 0  # it will be heard in a moment; what is sent until then cannot be sent again, if it is a POST
        return min(self.endpoint.cluster.max_streams, session.peer_max_streams) - self.load

    def reserve(self) -> IdleConnection:
        """A place for an exchange."""
        if not self.load:
            self._schedule()
        self.load += 1
        self._opened += 1
        spare = self._spare
        stream = spare.pop() if spare else AttemptStream(self.endpoint, self._session, self, self.secured)
        stream.requests = self._opened
        stream.is_taken = True
        return stream

    def retire(self, reason: str) -> None:
        """Carry no further exchange, and close when the last is over."""
        if not self._is_retired and not self._is_gone:
            self._is_retired = True
            self._retires_at = inf
            self._shared().gone(self)
            if not self.load:
                self._close(reason)

    def _shared(self) -> Shared:
        return cast("Shared", self.endpoint.shared)

    # --- the streams' side -------------------------------------------------------------------------------------

    def release(self, stream: AttemptStream) -> None:
        """An attempt is over."""
        self.load -= 1
        if self._is_gone:
            return
        if len(self._spare) < _MAX_SPARE:
            self._spare.append(stream)
        if self._is_retired:
            if not self.load:
                self._close("retired")
            return
        shared = self._shared()
        if shared.pending:
            shared.freed(self)
        if not self.load:
            if self.endpoint.objections & Objection.CONTESTED and pool.is_contested(self.endpoint):
                self.retire("made_room")
            else:
                self._schedule_idle()

    def head_of(self, fields: list[Field], method: bytes, is_end: bool) -> ResponseHead:
        """The head that these fields are; that of a block that comes again is made once, and nobody may change it."""
        if fields is self._head_fields and is_end == self._head_end and method != b"HEAD":
            assert self._head is not None
            return self._head
        head = response_head(fields, method, is_end)
        if method != b"HEAD" and head.status >= 200:
            self._head_fields, self._head, self._head_end = fields, head, is_end
        return head

    def request_scheme(self) -> Field:
        """`:scheme` of what is sent here."""
        return self._scheme

    # --- the session's side ------------------------------------------------------------------------------------

    def new_stream(self) -> Stream | None:
        """No server opens one."""
        return None

    def on_stream_closed(self, stream: Stream) -> None:
        """Its attempt says so itself."""

    def on_settings(self) -> None:
        """What the server allows: from the first on it carries exchanges; who waits may have a place after another."""
        on_connected, self._on_connected = self._on_connected, None
        if on_connected is not None:
            self._schedule_idle()
            on_connected(self)
            return
        shared = self._shared()
        if shared.pending:
            shared.freed(self)
            shared.dial_if_needed(self.endpoint)

    def on_going_away(self, code: int, detail: bytes) -> None:
        """The server takes no further exchange here; what it had not looked at was told."""
        if code != Code.NO_ERROR and not self._has_complained:
            self._has_complained = True
            text = detail[:128].decode("ascii", "replace")
            log.info("upstream_goaway endpoint=%s code=%s detail=%r", self.endpoint.label, name_of(code), text)
        self.retire("goaway")

    def on_ping_answered(self, data: bytes) -> None:
        """The server is there."""

    def defer(self) -> None:
        """Let others have their turn, and go on then."""
        if not self._is_deferred:
            self._is_deferred = True
            asyncio.get_running_loop().call_soon(self._continue)
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def _continue(self) -> None:
        if self._is_gone or self.transport.is_closing():
            return  # if there is something left, `connection_lost` takes it
        self._is_deferred = False
        self.transport.resume_reading()
        self.data_received(b"")

    # --- the transport's side --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dial succeeded."""
        self.attach(transport)
        now = self._timers.time()
        self._heard_at = now
        self._retires_at = self.endpoint.cluster.retires_at(now)
        if self._sealed is not None and self._sealed.peer is not None:
            self.secured = self._sealed.peer
            self._scheme = SCHEMES[1]
            self._is_to_sidecar = self.secured.protocol == MESH_HTTP2
            # No connection outlives its peer's certificate.
            self._ends_at = now + self.secured.not_after_s - time.time()
            self._retires_at = min(self._retires_at, self._ends_at)
        self._session.start()
        self._timers.arm(self, now + self.endpoint.cluster.connect_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Frames."""
        self._heard_at = self._timers.time()
        self._awaits_answer = False
        if self._session.is_blocked and self.transport.get_write_buffer_size() > bounds.MAX_UNSENT_BYTES_UPSTREAM:
            self._lose(errors.BAD_RESPONSE, f"{self.endpoint.label}: reads nothing of what it is sent", "bad_response")
            return
        try:
            self._session.receive(data)
        except SessionError as error:
            self._session.fail(error)
            self._lose(errors.BAD_RESPONSE, f"{self.endpoint.label}: {error}", "bad_response")
        except Exception:
            log.exception("connection_failed %r", self)
            self._session.fail(SessionError(Code.INTERNAL_ERROR, "a mistake of ours"))
            self._lose(errors.INTERNAL, "exception", "internal")

    def eof_received(self) -> bool:
        """The server is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; each attempt that it carried is told, behind what had come for it."""
        if self._is_deferred and not self._is_gone:
            self._catch_up()
        if self._is_gone:
            self._timers.forget(self)
            return
        if exc is not None and self.load:
            self.endpoint.cluster.stats.resets += 1
        reason, detail = errors.UPSTREAM_RESET if exc else errors.UPSTREAM_CLOSED, str(exc or "")
        if self._sealed is not None and is_tls(exc) and self._opened <= 1:
            reason, detail = explain(exc, is_client=False, shown=self._sealed.shown)
            if reason is errors.UPSTREAM_REFUSED_CERTIFICATE and self._on_refused is not None:
                self._on_refused(reason)
        self._lose(reason, detail, "lost" if self.load else "peer_closed")

    def _catch_up(self) -> None:
        """Take at once what was left for other turns: by TLS the end may come in the read that brought it."""
        self._is_retired = True  # whose attempt it ends may have another, and must not begin it here
        self._shared().gone(self)
        while self._is_deferred and not self._is_gone:
            self._is_deferred = False
            self.data_received(b"")

    def pause_writing(self) -> None:
        """The server reads slower than clients send: content waits, of each stream for itself."""
        self._session.block()

    def resume_writing(self) -> None:
        """The server has caught up."""
        self._session.unblock()

    def forgo(self) -> None:
        """It came too late for whoever asked for it, and is counted as one that never came: close it."""
        self._is_gone = True
        self._session.close()
        self._timers.forget(self)
        self.transport.abort()

    # --- its age -----------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """It carries something: what is to be looked at next is its age, or whether the server is there."""
        cluster = self.endpoint.cluster
        deadline = min(self._retires_at, self._ends_at, self._timers.time() + cluster.ping_interval_s)
        if deadline < self.deadline and deadline < inf:
            self._timers.arm(self, deadline)
        else:
            self.deadline = deadline

    def _schedule_idle(self) -> None:
        """It carries nothing."""
        cluster = self.endpoint.cluster
        idle_s = cluster.mesh_idle_timeout_s if self._is_to_sidecar else cluster.idle_timeout_s
        deadline = min(self._timers.time() + idle_s, self._retires_at)
        self._timers.arm(self, deadline)

    def on_deadline(self, now: float) -> None:
        """Idle for too long, too old, or silent."""
        if self._on_connected is not None:
            detail = f"{self.endpoint.label}: nothing of HTTP/2 in {self.endpoint.cluster.connect_timeout_s} s"
            self._lose(errors.CONNECT_TIMEOUT, detail, "")
        elif now >= self._ends_at:
            self._lose(errors.UPSTREAM_CERTIFICATE_EXPIRED, self.endpoint.label, "certificate_expired")
        elif not self.load:
            self.retire("max_age" if now >= self._retires_at else "idle_timeout")
        elif now >= self._retires_at and not self._is_retired:
            self.retire("max_age")
            self._schedule()
        else:
            self._look_alive(now)

    def _look_alive(self, now: float) -> None:
        """A server that has said nothing for a while is asked, and given up if it does not answer."""
        cluster = self.endpoint.cluster
        silent_until = self._heard_at + cluster.ping_interval_s
        if self._awaits_answer:
            self._lose(errors.UPSTREAM_RESET, f"{self.endpoint.label}: no answer to a PING", "ping_timeout")
        elif now < silent_until:
            deadline = min(silent_until, self._retires_at, self._ends_at)
            if deadline < inf:
                self._timers.arm(self, deadline)
        else:
            self._awaits_answer = True
            self._session.ping(_ALIVE)
            self._timers.arm(self, now + cluster.ping_timeout_s)

    # --- the end -----------------------------------------------------------------------------------------------

    def _lose(self, reason: Reason, detail: str, cause: str) -> None:
        """It is over, and so are the attempts that it carries."""
        if self._is_gone:
            return
        on_connected, self._on_connected = self._on_connected, None
        if on_connected is not None:
            self.flush()
            self.forgo()
            is_early = reason in (errors.UPSTREAM_CLOSED, errors.UPSTREAM_RESET, errors.BAD_RESPONSE)
            self._on_failed(errors.CONNECT_FAILED if is_early else reason, detail or f"{self.endpoint.label}: closed")
            return
        streams = list(self._session.streams.values())
        self._is_retired = True
        self._shared().gone(self)
        self.flush()
        self._settle(cause)
        self.transport.abort()
        for stream in streams:
            cast("AttemptStream", stream).on_connection_lost(reason, detail)

    def _close(self, cause: str) -> None:
        """Nothing is carried: say goodbye and close."""
        if self._is_gone:
            return
        self._session.end()
        self._is_retired = True
        self._settle(cause)
        self.end()

    def _settle(self, cause: str) -> None:
        self._is_gone = True
        self._spare = []
        self._session.close()
        self._timers.forget(self)
        pool.closed(self.endpoint, cause)
