"""
A client's connection of HTTP/1.1: reads requests, gives each a course, and writes what the course says. *Hot path.*

It *has* courses, one after another, and knows how requests and responses are framed; what becomes of a request is the
course's (`proxy.exchange`). The state (`state`) says what the next byte from the client would be.

Every callback keeps one order: take the bytes, decide, write, arm the deadline, record. A request that is answered
without an upstream is over when `_begin` returns, so pipelined requests are taken in a loop and not by recursion.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Final, cast

from sidecar import clock, errors
from sidecar.errors import ProtocolError, Reason
from sidecar.http1.grammar import GrammarError
from sidecar.http1.request_reader import RequestReader
from sidecar.http2.codes import PREFACE
from sidecar.message import NO_TRAILERS, Framing, RequestHead
from sidecar.net.flow import MAX_SPLICED_BYTES, MIN_SPLICED_BYTES, BatchingWriter
from sidecar.net.splicing_reader import SplicingReader
from sidecar.net.timers import NOT_ARMED
from sidecar.peer import Peer
from sidecar.proxy.client.http2 import succeed
from sidecar.proxy.client.lingering import LINGER_S, LingeringConnection
from sidecar.proxy.client.response_writer import FIRST_LOOK_S, Http1ResponseWriter
from sidecar.proxy.client.state import State
from sidecar.proxy.exchange.course import Course
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.live import ClientConnection as Opening
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.origin import forwarded_lines, peer_of

log = logging.getLogger("sidecar.proxy")

# Requests that a client may send ahead, in bytes, before it is paused.
_MAX_AHEAD_BYTES: Final = 64 * 1024
# Requests begun in one callback: local answers to a pipelined burst must not hold the loop.
_MAX_AT_ONCE: Final = 16


class ClientConnection(BatchingWriter):
    """It is an `asyncio.Protocol` by its methods, and by them a `ClientStream` to its course (docs/compiled.md)."""

    __slots__ = (
        "_course", "_destination", "_forwarded", "_has_client_ended", "_is_draining", "_is_leaving", "_is_paused",
        "_is_reading", "_is_spliced", "_is_write_blocked", "_live", "_opened_ns", "_peer", "_reader", "_state",
        "_writer", "bucket", "deadline", "listener_state", "secured",
    )  # fmt: skip

    def __init__(self, live: Live, listener_state: ListenerState) -> None:
        super().__init__(live.outbox)
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED
        self.secured: Peer | None = None
        self._live = live
        self._peer = ("unix", 0)
        self._forwarded = b""
        self._opened_ns = 0
        self._state: int = State.HEAD
        self._course: Course | None = None
        self._destination: Destination | None = None
        self._reader = RequestReader()
        self._writer: Http1ResponseWriter | None = None
        self._has_client_ended = False
        self._is_draining = False
        self._is_leaving = False
        self._is_paused = False
        self._is_reading = False
        self._is_spliced = False
        self._is_write_blocked = False

    def __repr__(self) -> str:
        return f"<ClientConnection {self._peer} {State.NAMES[self._state]} {self._course!r}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Let the next response that begins be the last one: who was promised more may be sending a request."""
        self._is_leaving = True
        if self._writer is not None:
            self._writer.is_ending = True

    def drain(self) -> None:
        """Close when idle, or after the exchange that is running; a tunnel stays."""
        self._is_draining = True
        self.announce_close()
        if self._state == State.HEAD and not self._reader.held:
            self.close()

    def abort(self) -> None:
        """Close now, whatever is running; an exchange is recorded as ended by the shutdown."""
        course = self._running()
        if course is not None:
            course.abort()
        self.reset()

    def _running(self) -> Course | None:
        """The course, if it has an exchange."""
        course = self._course
        return course if course is not None and course.exchange is not None else None

    # --- the transport's side --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._meet(transport)
        full = self._live.admit(self, self.listener_state.listener.direction, transport)
        if full is None:
            self._opened_ns = clock.monotonic_ns()
            self.serve()
        else:
            self.refuse(full.reason, full.detail, full.has_answer)

    def take_over(
        self,
        opening: Opening,
        transport: asyncio.Transport,
        opened_ns: int,
        secured: Peer | None,
        destination: Destination | None = None,
    ) -> None:
        """In the place of another, a client that was admitted is spoken with over this; `serve` or `refuse` follows."""
        self.secured, self._opened_ns, self._destination = secured, opened_ns, destination
        self._meet(transport)
        self._live.replace(opening, self, inf if secured is None else secured.not_after_s)

    def _meet(self, transport: asyncio.BaseTransport) -> None:
        self.attach(transport)
        state, self._peer = self.listener_state, peer_of(transport.get_extra_info("peername"))
        self._forwarded = forwarded_lines(self._peer, state.listener.direction, self.secured, state.identity)

    def serve(self) -> None:
        """Await the first request."""
        self._is_leaving = self.listener_state.is_draining
        self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.client_idle_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of whatever the state awaits."""
        state, reader = self._state, self._reader
        try:
            if state == State.HEAD:
                if reader.held:
                    reader.receive(data)
                else:
                    reader.held = data
                self._read_heads()
            elif state == State.BODY:
                reader.receive(data)
                self._on_body_bytes()
            elif state == State.TUNNEL:
                if self._course is not None and self._course.tunnel is not None:
                    self._course.tunnel.on_client_data(data)
            elif state == State.WAIT:
                reader.receive(data)
                if len(reader.held) > _MAX_AHEAD_BYTES:
                    self.update_reading()
            elif state == State.DISCARD:
                reader.receive(data)
                reader.read_body()
                if reader.body.is_complete:
                    self._proceed()
        except Exception:
            # A mistake of ours ends one exchange, never the process or another client's.
            log.exception("connection_failed %r", self)
            self._is_reading = False
            running = self._running()
            try:
                if running is not None:
                    running.fail(errors.INTERNAL, "exception")
            finally:
                if running is None or running.exchange is not None:
                    self.reset()

    def eof_received(self) -> bool:
        """
        The client sends no more. It may still read (RFC 9112, 9.6), so what it asked for completely is answered.

        A connection whose last request is incomplete can never be answered; it is closed by returning false.
        """
        self._has_client_ended = True
        if self._state == State.WAIT:
            if self._course is not None:
                self._course.has_client_ended = True
            # Requests that were sent ahead are answered too; `_proceed` closes behind the last.
            if self._writer is not None and not self._reader.held:
                self._writer.closes = True
            return True
        if self._state == State.HEAD and self._reader.held and not self._reader.is_head_incomplete():
            return True
        if self._state == State.TUNNEL:
            if self._course is not None and self._course.tunnel is not None:
                return self._course.tunnel.on_client_eof()
            return True
        # What was answered in this very turn of the loop still waits for its end, and closing would drop it.
        self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        course = self._running()
        if course is not None:
            course.on_client_lost(str(exc or ""))
        self._forget()

    def pause_writing(self) -> None:
        """The client reads slower than the upstream sends."""
        self._is_write_blocked = True
        course = self._running()
        if course is not None:
            course.on_client_blocked()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._is_write_blocked = False
        writer = self._writer
        if writer is not None and writer.delivery_s:
            writer.delivery_s = 0.0
            self.bound_writes()
        course = self._running()
        if course is not None:
            self.touch()
            course.on_client_writable()
        elif self._state == State.HEAD:
            if self._reader.held:
                self._continue()
            else:
                self.update_reading()

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""
        course = self._running()
        if course is not None:
            writer = self._writer
            if writer is not None and writer.delivery_s and self._has_client_ended:
                writer.look_for_delivery(course, self, self._live, now)
            else:
                course.on_deadline(now)
        elif self._state == State.HEAD and self._reader.held:
            self.refuse(errors.HEAD_TIMEOUT, "limits.header_timeout")
        elif self._state == State.HEAD:
            self.close()
        else:
            self.reset()

    # --- reading requests ------------------------------------------------------------------------------------

    def _read_heads(self) -> None:
        """Take as many requests as can be taken now; keep the rest."""
        reader, limits = self._reader, self._live.plan.limits
        self._is_reading = True
        budget = _MAX_AT_ONCE
        while reader.held and self._state == State.HEAD and budget and not self._is_write_blocked:
            budget -= 1
            try:
                head = reader.next_head(limits.max_header_bytes, limits.max_headers)
            except ProtocolError as error:
                if self._course is None and PREFACE.startswith(reader.held[: len(PREFACE)]):
                    self._become_http2()
                else:
                    self.refuse(error.reason, error.detail)
                break
            if head is None:
                self._await_head()
                break
            self._begin(head)
        self._is_reading = False
        if not reader.held:
            if self._has_client_ended and self._state == State.HEAD:
                self.close()
        elif self._state != State.CLOSED and not reader.is_head_incomplete():
            if not budget or self._state == State.BODY:
                self._live.loop.call_soon(self._continue)
            self.update_reading()

    def _become_http2(self) -> None:
        """What came is how a client of HTTP/2 begins (RFC 9113, 3.4): a connection of that takes our place."""
        held = self._reader.drop()
        connection = succeed(
            self, self._live, self.listener_state, self.transport, self._opened_ns, self.secured, self._destination
        )
        self._forget()
        connection.data_received(held)

    def _await_head(self) -> None:
        """Give the rest of a head its time."""
        if self._has_client_ended:
            self.close()  # it can never become complete
        elif self._reader.held:
            deadline = self._live.timers.time() + self._live.plan.limits.header_timeout_s
            if deadline < self.deadline:  # an octet now and then does not put it off
                self._live.timers.arm(self, deadline)

    def _continue(self) -> None:
        """Take what was left for another turn of the loop: requests that were sent ahead, or chunks."""
        is_head = self._state == State.HEAD and not self._is_reading and not self._is_write_blocked
        if self._reader.held and (is_head or self._state == State.BODY):
            self.data_received(b"")
            self.update_reading()

    def _begin(self, head: RequestHead) -> None:
        """Give a request its course."""
        course = self._course or self._make_course()
        if head.framing == Framing.NONE:
            self._state = State.WAIT
            course.begin(head, b"", True, NO_TRAILERS)
            return
        self._state = State.BODY
        reader, plan = self._reader, self._live.plan
        try:
            payload = reader.begin_body(head, plan.limits.max_header_bytes, plan.drops_underscored)
        except GrammarError as error:
            course.begin_unread(head)
            course.fail(errors.BAD_REQUEST_BODY, str(error))
            return
        if reader.body.is_complete:
            self._state = State.WAIT
            course.begin(head, payload, True, reader.body.take_trailers())
        elif self._has_client_ended and not reader.held:
            course.begin_unread(head)
            course.on_client_lost("")
            self.close()
        else:
            course.begin(head, payload, False, NO_TRAILERS)
            self._splice_large(course)

    def _make_course(self) -> Course:
        self._writer = writer = Http1ResponseWriter(self, self._reader, self._is_leaving)
        course = self._course = Course(
            self._live, self.listener_state, self, writer, self._peer, self._forwarded, self.secured, self._destination
        )
        self._live.warm.add(self)
        return course

    def refuse(self, reason: Reason, detail: str, may_answer: bool = True) -> None:
        """Answer what is no request, and close."""
        course = self._course or self._make_course()
        course.begin_unread(None, self._reader.held.split(b"\r\n", 1)[0][:256])
        course.fail(reason, detail, may_answer)

    def _on_body_bytes(self) -> None:
        course, reader = self._course, self._reader
        assert course is not None
        try:
            payload = reader.read_body()
        except GrammarError as error:
            course.fail(errors.BAD_REQUEST_BODY, str(error))
            return
        self.touch()
        if reader.body.is_complete:
            self._end_body(course, payload)
            return
        if reader.held:
            self._live.loop.call_soon(self._continue)
            self.update_reading()
        if payload:
            course.on_body(payload, False, NO_TRAILERS)
            self._splice_large(course)

    def _end_body(self, course: Course, payload: bytes) -> None:
        """These are the last octets of the body."""
        self._state = State.WAIT
        if self._is_spliced:
            self._is_spliced = False
            self.transport.set_protocol(cast("asyncio.Protocol", self))
        course.on_body(payload, True, self._reader.body.take_trailers())
        if course.tunnel is not None:
            self.on_switched()

    def _splice_large(self, course: Course) -> None:
        """Let the rest of a large body go by, if nobody needs it."""
        is_large = self._state == State.BODY and self._reader.body.left >= MIN_SPLICED_BYTES
        if is_large and not self._is_spliced and self.can_splice() and course.can_splice_request():
            self._is_spliced = True
            self.transport.set_protocol(cast("asyncio.Protocol", SplicingReader(self)))

    def splice(self, first: bytes) -> int:
        """Bytes of a body of known length, of which what has come behind them is spliced."""
        course, body = self._running(), self._reader.body
        left = body.left - len(first)
        if course is None or self._state != State.BODY or self._reader.held or left <= 0:
            self.data_received(first)
            return 0
        body.take(len(first))
        self.touch()
        try:
            size = course.splice_request(first, self.transport, min(left, MAX_SPLICED_BYTES))
        except OSError as error:
            course.on_client_lost(str(error))
            self.reset()
            return 0
        if size:
            body.take(size)
            if body.is_complete:
                self._end_body(course, b"")
        return size

    # --- the course's side -----------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something moved: put the deadline off."""
        timers, course, limits = self._live.timers, self._course, self._live.plan.limits
        is_tunnel = self._state == State.TUNNEL
        deadline = timers.time() + (limits.tunnel_idle_timeout_s if is_tunnel else limits.stream_idle_timeout_s)
        self.deadline = deadline if course is None else min(deadline, course.expires_at)
        if self.bucket == NOT_ARMED:
            timers.arm(self, self.deadline)

    def awaits_delivery(self) -> bool:
        """Whether the course is to wait for what was written to leave; behind a client's end, to arrive."""
        writer, timers = self._writer, self._live.timers
        assert writer is not None
        if self._has_client_ended and not self._reader.held:
            self.end_writing()
            writer.delivery_s = FIRST_LOOK_S
            timers.arm(self, timers.time() + FIRST_LOOK_S)
            return True
        if not self.transport.get_write_buffer_size():
            return False
        writer.delivery_s = self._live.plan.limits.stream_idle_timeout_s
        self._is_write_blocked = True
        self.bound_writes(0, 0)
        self.touch()
        return True

    def on_switched(self) -> None:
        """From here the connection carries another protocol's bytes; what the client sent ahead is its first."""
        course = self._course
        assert course is not None
        if self._state == State.BODY:
            return  # what is left of the request comes first (RFC 9110, 7.8)
        self._state = State.TUNNEL
        ahead = self._reader.drop()
        if ahead and course.tunnel is not None:
            course.tunnel.on_client_data(ahead)
        if self._has_client_ended and course.tunnel is not None:
            course.tunnel.on_client_eof()
        self.update_reading()
        # Armed, not touched: it may come sooner than the deadline of the exchange, which is in a later bucket.
        self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.tunnel_idle_timeout_s)

    def on_exchange_over(self) -> None:
        """Go on with the next request, swallow the rest of this one, or close."""
        writer = self._writer
        assert writer is not None
        closes = writer.closes or self._is_draining
        if self._state == State.WAIT and not closes:
            self._proceed()
        elif closes or not writer.can_discard():
            self._linger()
        else:
            self._state = State.DISCARD
            self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.header_timeout_s)
            self.update_reading()

    # --- between exchanges, and the end ----------------------------------------------------------------------

    def _proceed(self) -> None:
        live, timers = self._live, self._live.timers
        self._state = State.HEAD
        timers.arm(self, timers.time() + live.plan.limits.client_idle_timeout_s)
        if (self._is_draining or self._has_client_ended) and not self._reader.held and not self._is_reading:
            self.close()
        elif self._is_reading:
            pass  # the loop in `_read_heads` goes on
        elif self._reader.held:
            self._continue()
        elif self._is_paused:
            self.update_reading()

    def cool_down(self) -> bool:
        """Give up what is ready for the next request, unless one is under way; returns whether none is."""
        if self._state != State.HEAD or self._reader.held:
            return False
        self._course = self._writer = None
        self._reader.forget_body()
        return True

    def _linger(self) -> None:
        """Close in a way that lets the response arrive: a close with unread bytes would reset it."""
        if self._has_client_ended:
            self.close()  # nothing is unread, and nothing will come
            return
        self.end_writing()
        self._hand_over(self._live.plan.limits.stream_idle_timeout_s if self.has_unsent() else LINGER_S)

    def close(self) -> None:
        """Close when everything has been sent."""
        if self._state == State.CLOSED:
            return
        self.flush()
        transport = self.transport
        if transport.get_write_buffer_size():
            # The transport closes when all is sent; a client that does not read must not hold it for ever.
            self._hand_over(self._live.plan.limits.stream_idle_timeout_s)
        else:
            self._forget()
        transport.close()

    def reset(self) -> None:
        """Close at once, in a way that shows that what was sent is not whole."""
        if self._state == State.CLOSED:
            return
        writer = self._writer
        is_until_close = self._state == State.TUNNEL or (writer is not None and writer.framing == Framing.CLOSE)
        # What came first goes first: the word with which a WebSocket was closed may have come in the read that cut it.
        self.flush()
        self._forget()
        if is_until_close:
            # Its end is the end of the body: only a reset tells the client that this one is not whole.
            self.cut()
        else:
            self.transport.abort()

    def _hand_over(self, patience_s: float) -> None:
        """What is left to do for this connection is another's."""
        transport, live = self.transport, self._live
        live.replace(self, LingeringConnection(live, self.listener_state, transport, self._opened_ns, patience_s))
        self._forget()
        if self._is_paused and not transport.is_closing():
            transport.resume_reading()

    def _forget(self) -> None:
        """The connection is no longer ours."""
        self._state = State.CLOSED
        self._reader.drop()
        self._course = self._writer = None
        self._live.warm.remove(self)
        self._live.timers.forget(self)
        self._live.forget(self, self._opened_ns)

    def update_reading(self) -> None:
        """Read unless what was read has nowhere to go."""
        pauses = self._state != State.CLOSED and (
            (self._course is not None and self._course.is_upstream_blocked)
            or len(self._reader.held) > _MAX_AHEAD_BYTES
            or (self._is_write_blocked and self._state == State.HEAD)
            or (self._state == State.BODY and self._reader.held != b"")
        )
        if pauses != self._is_paused:
            self._is_paused = pauses
            if not self.transport.is_closing():
                self.transport.pause_reading() if pauses else self.transport.resume_reading()
