"""
A client's connection of HTTP/2: many requests at once, each a stream that has a course. *Hot path.*

It *has* a session, which knows frames, and streams, which know requests; what is left for it is the socket, its
deadline while no request is under way, and its end. It ends in two steps (RFC 9113, 6.8): the client is told that it
will, and when that has arrived, which of its streams were the last.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Final, cast

from sidecar import errors
from sidecar.errors import Reason
from sidecar.http2 import bounds
from sidecar.http2.codes import Code, SessionError
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.net.flow import BatchingWriter
from sidecar.net.timers import NOT_ARMED
from sidecar.peer import Peer
from sidecar.proxy.client.lingering import LingeringConnection
from sidecar.proxy.client.request_stream import RequestStream, StreamHome
from sidecar.proxy.exchange.course import Course
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.live import ClientConnection as Opening
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.origin import forwarded_lines, peer_of

log = logging.getLogger("sidecar.proxy")

# Streams that are kept for the next requests, of some 1.5 KiB each.
_MAX_SPARE: Final = 128
_GOODBYE: Final = b"goodbye\0"
# For the client to hear that the connection ends, if it does not answer.
_GOODBYE_S: Final = 1.0


class Http2ClientConnection(BatchingWriter, StreamHome):
    """It is an `asyncio.Protocol` by its methods, and by them a `SessionOwner` (docs/compiled.md)."""

    __slots__ = (
        "_destination",
        "_forwarded",
        "_idle_at",
        "_is_announced",
        "_is_deferred",
        "_is_draining",
        "_is_gone",
        "_is_warm",
        "_live",
        "_opened_ns",
        "_peer",
        "_session",
        "_spare",
        "bucket",
        "deadline",
        "listener_state",
        "secured",
    )

    def __init__(self, live: Live, listener_state: ListenerState) -> None:
        super().__init__(live.outbox)
        limits = live.plan.limits
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED
        self.secured: Peer | None = None
        self._live = live
        self._peer = ("unix", 0)
        self._forwarded = b""
        self._opened_ns = 0
        self._destination: Destination | None = None
        self._session = Session(
            self, True, limits.h2_max_streams, limits.h2_window_bytes, limits.max_header_bytes, limits.max_headers,
            limits.h2_max_resets, live.timers.time,
        )  # fmt: skip
        self._spare: list[RequestStream] = []
        self._idle_at = inf  # when it has been without a request for too long
        self._is_announced = False
        self._is_deferred = False
        self._is_draining = False
        self._is_gone = False
        self._is_warm = False

    def __repr__(self) -> str:
        return f"<Http2ClientConnection {self._peer} {self._session!r}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Tell the client to open its next requests elsewhere; those that it sends meanwhile are still taken."""
        if not self._is_announced and not self._is_gone:
            self._is_announced = True
            self._session.announce_end()

    def drain(self) -> None:
        """Take what is on its way, answer what is running, and close."""
        if self._is_draining or self._is_gone:
            return
        self._is_draining = True
        if not self._session.streams and not self._session.has_settings:
            self._finish()
            return
        self.announce_close()
        # Its answer comes behind all that the client sent before it had heard.
        self._session.ping(_GOODBYE)
        self._live.timers.arm(self, self._live.timers.time() + _GOODBYE_S)

    def abort(self) -> None:
        """Close now, whatever is running; exchanges are recorded as ended by the shutdown."""
        for stream in list(self._session.streams.values()):
            cast("RequestStream", stream).abort()
        self._session.end()
        self.flush()
        self._forget()
        self.transport.abort()

    # --- the transport's side --------------------------------------------------------------------------------

    def take_over(
        self,
        opening: Opening,
        transport: asyncio.Transport,
        opened_ns: int,
        secured: Peer | None,
        destination: Destination | None = None,
    ) -> None:
        """In the place of another, a client that was admitted is spoken with over this; `serve` follows."""
        self.secured, self._opened_ns, self._destination = secured, opened_ns, destination
        self.attach(transport)
        state, self._peer = self.listener_state, peer_of(transport.get_extra_info("peername"))
        self._forwarded = forwarded_lines(self._peer, state.listener.direction, secured, state.identity)
        self._live.replace(opening, self, inf if secured is None else secured.not_after_s)

    def serve(self) -> None:
        """Say what is allowed here, and await the client's preface."""
        self._session.start()
        self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.header_timeout_s)
        if self.listener_state.is_draining:
            self.announce_close()

    def data_received(self, data: bytes) -> None:
        """Frames."""
        session = self._session
        if session.is_blocked and self.transport.get_write_buffer_size() > bounds.MAX_UNSENT_BYTES:
            # Windows bound the content that waits for who does not read; this is for all that is not content.
            self._fail(SessionError(Code.ENHANCE_YOUR_CALM, "answers that the client does not read"))
            self.transport.abort()
            return
        try:
            session.receive(data)
        except SessionError as error:
            self._fail(error)
            return
        except Exception:
            # A mistake of ours ends the requests of one client, never the process or another client's.
            log.exception("connection_failed %r", self)
            self._fail(SessionError(Code.INTERNAL_ERROR, "a mistake of ours"))
            return
        if session.unfinished_since and not self._is_draining:
            due = self._rest_due()
            if due < self.deadline:
                self._live.timers.arm(self, due)

    def _rest_due(self) -> float:
        """When what has been begun must be whole: a field section, or a frame that is none of content."""
        since = self._session.unfinished_since
        return since + self._live.plan.limits.header_timeout_s if since else inf

    def _fail(self, error: SessionError, reason: Reason | None = None) -> None:
        """The client has broken the rules of the connection: it is told, and it is recorded once."""
        if self._is_gone:
            return
        if reason is not None:
            pass
        elif error.code == Code.INTERNAL_ERROR:
            reason = errors.INTERNAL
        elif error.code == Code.ENHANCE_YOUR_CALM:
            reason = errors.CLIENT_TOO_MUCH
        else:
            reason = errors.BAD_FRAMES
        self._session.fail(error)
        self._record(reason, str(error))
        for stream in list(self._session.streams.values()):
            cast("RequestStream", stream).on_connection_lost(str(error))
        self._close()

    def _record(self, reason: Reason, detail: str) -> None:
        """Tell of what is no request."""
        nobody = RequestStream(self._live, self._session, self)
        course = self.make_course(nobody)
        course.begin_unread(None)
        course.fail(reason, detail, False)

    def eof_received(self) -> bool:
        """The client is gone: streams end by themselves, and there is nothing that half a connection could still do."""
        self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        streams = list(self._session.streams.values())
        self._session.close()
        for stream in streams:
            cast("RequestStream", stream).on_connection_lost(str(exc or ""))
        self._forget()

    def pause_writing(self) -> None:
        """The client reads slower than upstreams send: content waits, of each stream for itself."""
        self._session.block()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._session.unblock()

    def on_deadline(self, now: float) -> None:
        """The client has not ended what it began, or nothing was asked for a long time, or it has heard our goodbye."""
        if self._is_draining:
            self._part()
        elif not self._session.has_settings:
            self._fail(SessionError(Code.SETTINGS_TIMEOUT, "limits.header_timeout"))
        elif now >= self._rest_due():
            self._fail(SessionError(Code.ENHANCE_YOUR_CALM, "limits.header_timeout"), errors.HEAD_TIMEOUT)
        elif now >= self._idle_at:
            self.drain()
        elif (deadline := min(self._rest_due(), self._idle_at)) < inf:
            self._live.timers.arm(self, deadline)

    # --- the session's side ------------------------------------------------------------------------------------

    def new_stream(self) -> Stream | None:
        """A request begins."""
        if not self._is_draining:
            self.deadline = self._idle_at = inf  # the sweep finds it so, and forgets it
        if self._spare:
            return self._spare.pop()
        if not self._is_warm:
            self._is_warm = True
            self._live.warm.add(self)
        return RequestStream(self._live, self._session, self)

    def on_stream_closed(self, stream: Stream) -> None:
        """A request is over."""
        if self._session.streams or self._is_gone or self._session.is_closed:
            return
        if self._is_draining:
            if self.deadline == inf:
                self._live.loop.call_soon(self._finish)  # behind the record of this one
        else:
            deadline = self._live.timers.time() + self._live.plan.limits.client_idle_timeout_s
            self._idle_at = deadline
            if self._session.unfinished_since:
                self._live.timers.arm(self, min(deadline, self._rest_due()))
                return
            self.deadline = deadline
            if self.bucket == NOT_ARMED:
                self._live.timers.arm(self, deadline)

    def on_settings(self) -> None:
        """What the client allows; from here it is its requests that are awaited."""
        if self._idle_at == inf and not self._session.streams and not self._is_draining:
            self._idle_at = self._live.timers.time() + self._live.plan.limits.client_idle_timeout_s
            self._live.timers.arm(self, self._idle_at)

    def on_going_away(self, code: int, detail: bytes) -> None:
        """The client opens no further streams; those that are open go on."""

    def on_ping_answered(self, data: bytes) -> None:
        """All that the client has sent before it heard of the end is here."""
        if self._is_draining and data == _GOODBYE:
            self._part()

    def defer(self) -> None:
        """Let others have their turn, and go on then."""
        if not self._is_deferred:
            self._is_deferred = True
            self._live.loop.call_soon(self._continue)
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def _continue(self) -> None:
        self._is_deferred = False
        if self._is_gone or self.transport.is_closing():
            return
        self.transport.resume_reading()
        self.data_received(b"")

    # --- the streams' side -------------------------------------------------------------------------------------

    def make_course(self, stream: RequestStream) -> Course:
        """A course for requests of this client."""
        return Course(
            self._live, self.listener_state, stream, stream, self._peer, self._forwarded, self.secured,
            self._destination,
        )  # fmt: skip

    def release(self, stream: RequestStream) -> None:
        """Keep a stream for another request, or let it go."""
        if len(self._spare) < _MAX_SPARE and not self._is_gone:
            self._spare.append(stream)
        else:
            stream.drop()

    def cool_down(self) -> bool:
        """Give up what is ready for the next requests, unless one is under way; returns whether none is."""
        if self._session.streams:
            return False
        self._is_warm = False
        self._drop_spare()
        return True

    def _drop_spare(self) -> None:
        for stream in self._spare:
            stream.drop()
        self._spare = []

    # --- the end -----------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """The client has heard: what it opens from now on is not taken."""
        self._session.end()
        self._live.timers.forget(self)
        if not self._session.streams:
            self._finish()

    def _finish(self) -> None:
        """No request is running: say goodbye and close."""
        if self._is_gone or self._session.streams:
            return
        self._session.end()
        self._close()

    def _close(self) -> None:
        """Close when what was written has been sent; a client that does not read must not hold it for ever."""
        self.flush()
        transport, live = self.transport, self._live
        if not transport.is_closing():
            if transport.get_write_buffer_size():
                patience_s = live.plan.limits.stream_idle_timeout_s
                live.replace(
                    self, LingeringConnection(live, self.listener_state, transport, self._opened_ns, patience_s)
                )
            transport.close()
        self._forget()

    def _forget(self) -> None:
        """The connection is no longer ours."""
        if self._is_gone:
            return
        self._is_gone = True
        self._session.close()
        self._drop_spare()
        self._live.warm.remove(self)
        self._live.timers.forget(self)
        self._live.forget(self, self._opened_ns)


def succeed(
    before: Opening, live: Live, state: ListenerState, transport: asyncio.Transport, opened_ns: int,
    secured: Peer | None, destination: Destination | None,
) -> Http2ClientConnection:  # fmt: skip
    """A connection of HTTP/2 in the place of another, of which it has the transport and the admission."""
    connection = Http2ClientConnection(live, state)
    transport.set_protocol(cast("asyncio.Protocol", connection))
    connection.take_over(before, transport, opened_ns, secured, destination)
    connection.serve()
    return connection
