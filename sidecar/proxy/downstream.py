"""
One connection of a client: reads requests and walks each through the rooms, in order. *Hot path.*

This is the reading half; `bodies.BodyReader` reads what follows heads, and `relay.WritingHalf` writes. The state says
what the next byte from the client would be:

    HEAD     part of a request head; no exchange is running
    LENGTH   part of a request body of known length
    CHUNKED  part of a chunked request body
    WAIT     part of a later request: this one is read, its response is not complete
    DISCARD  the rest of a request that was answered early
    TUNNEL   anything: bytes of another protocol
    LINGER   nothing that matters: the last response is sent, and closing now could destroy it on the way
    CLOSED   nothing any more

Every callback keeps one order: take the bytes, decide, write, arm the deadline, record. A request that is answered
without an upstream is over when `_begin` returns, so pipelined requests are taken in a loop and not by recursion.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, Final

from sidecar import clock, errors
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Direction, Exchange
from sidecar.http1.grammar import GrammarError
from sidecar.http1.head import find_head_end, lone_head, parse_request_head, parse_request_lines
from sidecar.message import Framing, RequestHead
from sidecar.proxy.forwarding import Forwarder
from sidecar.proxy.relay import State
from sidecar.proxy.steps import find_route
from sidecar.routing.actions import Forward

if TYPE_CHECKING:
    from sidecar.proxy.live import ListenerState, Live

log = logging.getLogger("sidecar.proxy")

# Requests that a client may send ahead, in bytes, before it is paused.
_MAX_AHEAD_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
# Requests begun in one callback: local answers to a pipelined burst must not hold the loop.
_MAX_AT_ONCE: Final = 16


class DownstreamConnection(Forwarder):
    """
    Args:
        live: What all connections share.
        listener_state: The listener that accepted it.
    """

    __slots__ = ("_is_paused", "_is_reading", "_opened_ns", "_scanned")

    def __init__(self, live: Live, listener_state: ListenerState) -> None:
        super().__init__(live, listener_state)
        self._is_reading = False
        self._is_paused = False
        self._opened_ns = 0
        # So much of the buffer is known to hold no end of a head; 0 when it may hold whole requests.
        self._scanned = 0

    def __repr__(self) -> str:
        return f"<DownstreamConnection {self._peer} {State.NAMES[self._state]} {self._exchange!r}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """
        Let the next response that begins be the last one.

        A client that was promised to keep the connection may be sending its next request: it is still answered.
        """
        self._is_leaving = True

    def drain(self) -> None:
        """Close when idle, or after the exchange that is running; a tunnel stays."""
        self._is_draining = True
        if self._state == State.HEAD and not self._buffer:
            self._close()

    def abort(self) -> None:
        """Close now, whatever is running; an exchange is recorded as ended by the shutdown."""
        if self._exchange is not None:
            self._end(errors.DRAINING if self._state != State.TUNNEL else None)
        self._close(hard=True)

    # --- the transport's side --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        live = self._live
        self.attach(transport)
        peer = transport.get_extra_info("peername")
        direction = self.listener_state.listener.direction
        self._peer = (peer[0], peer[1]) if isinstance(peer, tuple) and peer else ("unix", 0)
        self._forwarded = b"x-forwarded-proto: http\r\n"
        if direction is Direction.INBOUND and self._peer[1]:
            self._forwarded = b"x-forwarded-for: %b\r\n%b" % (self._peer[0].encode("latin-1"), self._forwarded)
        inbound, outbound = live.connections
        if len(inbound) + len(outbound) >= live.plan.limits.max_connections:
            self._refuse(errors.OVERLOADED, "limits.max_connections", b"")
            return
        if live.timers.lag_s > live.plan.limits.max_loop_lag_s:
            self._refuse(errors.OVERLOADED, "limits.max_loop_lag", b"")
            return
        live.connections[direction].add(self)
        self._opened_ns = clock.monotonic_ns()
        live.telemetry.connection_opened(direction)
        self._is_leaving = self.listener_state.is_draining
        live.timers.arm(self, live.timers.time() + live.plan.limits.idle_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of whatever the state awaits."""
        state = self._state
        try:
            if state == State.HEAD:
                self._read_heads(data)
            elif state == State.LENGTH:
                self._on_length_bytes(data)
            elif state == State.CHUNKED:
                self._on_chunked_bytes(data)
            elif state == State.TUNNEL:
                self._on_tunnel_bytes(data)
            elif state == State.WAIT:
                self._buffer += data
                if len(self._buffer) > _MAX_AHEAD_BYTES:
                    self._update_reading()
            elif state == State.DISCARD:
                self._on_discarded_bytes(data)
        except Exception:
            # A mistake of ours ends one exchange, never the process or another client's.
            log.exception("connection_failed %r", self)
            self._is_reading = False
            try:
                self._fail(errors.INTERNAL, "exception")
            finally:
                if self._exchange is not None:
                    self._close(hard=True)

    def eof_received(self) -> bool:
        """
        The client sends no more. It may still read (RFC 9112, 9.6), so what it asked for completely is answered.

        A connection whose last request is incomplete can never be answered; it is closed by returning false.
        """
        self._has_client_ended = True
        if self._state == State.WAIT:
            # Requests that were sent ahead are answered too; `_proceed` closes behind the last.
            self._closes = self._closes or not self._buffer
            return True
        if self._state == State.HEAD and self._buffer and not self._scanned:
            return True
        if self._state == State.TUNNEL:
            if self._has_upstream_ended:
                self._end_tunnel()
                return False
            if self._attempt is not None:
                self._attempt.send_tunnel_eof()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._exchange is not None:
            self._end(None if self._state == State.TUNNEL else errors.CLIENT_LEFT, str(exc or ""))
        self._forget()

    def pause_writing(self) -> None:
        """The client reads slower than the upstream sends."""
        self._is_write_blocked = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._is_write_blocked = False
        if self._attempt is not None:
            self._attempt.resume()
            self._touch()
        elif self._state == State.HEAD:
            if self._buffer:
                self._continue()
            else:
                self._update_reading()

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""
        state = self._state
        if self._exchange is None:
            if state == State.HEAD and self._buffer:
                self._refuse(errors.HEAD_TIMEOUT, "limits.header_timeout", self._buffer)
            else:
                self._close(hard=state != State.HEAD)
        elif now >= self._deadline_of_exchange:
            self._fail(errors.RESPONSE_TIMEOUT, "the route's timeout")
        elif state == State.TUNNEL:
            self._end(None, "limits.idle_timeout")
            self._close(hard=True)
        elif self._is_write_blocked:
            self._fail(errors.CLIENT_STALLED, "limits.idle_timeout")
        elif state in (State.LENGTH, State.CHUNKED) and not self._is_upstream_blocked:
            self._fail(errors.BODY_TIMEOUT, "limits.idle_timeout")
        else:
            reason = errors.RESPONSE_STALLED if self._has_response_begun else errors.RESPONSE_TIMEOUT
            self._fail(reason, "limits.idle_timeout")

    # --- reading heads ---------------------------------------------------------------------------------------

    def _read_heads(self, data: bytes) -> None:
        """Take as many requests as can be taken now; keep the rest."""
        scanned, self._scanned = self._scanned, 0
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        self._is_reading = True
        budget = _MAX_AT_ONCE
        while data and self._state == State.HEAD and budget and not self._is_write_blocked:
            rest = self._read_head(data, scanned)
            if rest is None:
                data = b""
            else:
                data = rest
                scanned = 0
                budget -= 1
        self._is_reading = False
        if data and self._state != State.CLOSED:
            self._buffer = data
            if not budget or self._state == State.CHUNKED:
                self._live.loop.call_soon(self._continue)
            self._update_reading()
        elif self._has_client_ended and self._state == State.HEAD:
            self._close()

    def _continue(self) -> None:
        """Take what was left for another turn of the loop: requests that were sent ahead, or chunks."""
        is_head = self._state == State.HEAD and not self._is_reading and not self._is_write_blocked
        if self._buffer and (is_head or self._state == State.CHUNKED):
            data, self._buffer = self._buffer, b""
            self._update_reading()
            self.data_received(data)

    def _read_head(self, data: bytes, scanned: int) -> bytes | None:
        """
        Take one request.

        Args:
            scanned: Where a search for the head's end may begin, because what precedes was searched before.

        Returns:
            What follows the request, or None if there is no whole head, or nothing that follows matters any more.
        """
        # "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line (CRLF)
        # received prior to the request-line" (RFC 9112, 2.2).
        if data[0] == 0x0D and data[:2] == b"\r\n":
            begin = 2
            while data.startswith(b"\r\n", begin):
                begin += 2
            data, scanned = data[begin:], 0
        limits = self._live.plan.limits
        try:
            lines = lone_head(data) if not scanned and len(data) <= limits.max_header_bytes else None
            if lines is not None:
                head, rest = parse_request_lines(lines, limits.max_headers), b""
            else:
                if scanned and data[scanned : scanned + 1] == b"\n":
                    scanned += 1  # its CR was looked at before
                end = find_head_end(data, scanned)
                if (end if end >= 0 else len(data)) > limits.max_header_bytes:
                    is_line_too_long = data.find(b"\r\n", 0, limits.max_header_bytes) < 0
                    raise ProtocolError(errors.TARGET_TOO_LONG if is_line_too_long else errors.HEAD_TOO_LARGE)
                if end < 0:
                    self._await_head(data)
                    return None
                head, rest = parse_request_head(data[:end], limits.max_headers), data[end + 4 :]
        except ProtocolError as error:
            self._refuse(error.reason, error.detail, data)
            return None
        except GrammarError as error:
            self._refuse(errors.BAD_REQUEST, str(error), data)
            return None
        return self._begin(head, rest)

    def _await_head(self, data: bytes) -> None:
        """Keep the beginning of a head, or nothing of one, and give the rest its time."""
        if self._has_client_ended:
            self._close()  # it can never become complete
            return
        self._buffer = data
        self._scanned = max(len(data) - 3, 0)
        if data:
            timers = self._live.timers
            deadline = timers.time() + self._live.plan.limits.header_timeout_s
            if deadline < self.deadline:  # an octet now and then does not put it off
                timers.arm(self, deadline)

    # --- walking a request through the rooms -----------------------------------------------------------------

    def _begin(self, head: RequestHead, rest: bytes) -> bytes | None:
        """Begin an exchange with the bytes that follow its head; returns as `_read_head`."""
        live, listener = self._live, self.listener_state.listener
        plan = live.plan
        self._exchange = exchange = Exchange(listener.direction, clock.monotonic_ns(), head, self._peer)
        self._has_response_begun = False
        self._closes = not head.keep_alive
        self._deadline_of_exchange = inf
        self._response_edits = None
        side = plan.sides[listener.direction]
        exchange.scope = side.unrouted
        added = live.telemetry.begin(exchange)
        if listener.host is not None:
            head.host, head.port = listener.host, None
        body, is_complete = b"", True
        if head.framing == Framing.NONE:
            self._state = State.WAIT
        else:
            try:
                body, rest, is_complete = self._begin_body(head, rest)
            except GrammarError as error:
                self._fail(errors.BAD_REQUEST_BODY, str(error))
                return None
            if self._has_client_ended and not is_complete and not rest:
                self._end(errors.CLIENT_LEFT)
                self._close()
                return None
        if live.timers.lag_s > plan.limits.max_loop_lag_s:
            # What was accepted finishes; what is new would only wait longer (and its client may have given up).
            exchange.retry_after_s = 1.0
            self._fail(errors.OVERLOADED, "limits.max_loop_lag")
            return rest
        found = find_route(side, head, self._peer[0])
        if isinstance(found, Reason):
            self._fail(found, "")
        elif type(found.action) is Forward:
            self._forward(plan, found, found.action, added, body, is_complete)
        else:
            self._answer(found)
        return rest

    # --- what the writing half asks for ----------------------------------------------------------------------

    def _refuse(self, reason: Reason, detail: str, received: bytes) -> None:
        """Answer what is no request, and close."""
        live, direction = self._live, self.listener_state.listener.direction
        exchange = Exchange(direction, clock.monotonic_ns(), None, self._peer)
        exchange.raw_line = received.split(b"\r\n", 1)[0][:256]
        exchange.scope = live.plan.sides[direction].unrouted
        self._exchange = exchange
        self._has_response_begun = False
        self._state = State.LINGER
        self._fail(reason, detail)

    def _proceed(self) -> None:
        self._state = State.HEAD
        timers = self._live.timers
        timers.arm(self, timers.time() + self._live.plan.limits.idle_timeout_s)
        if (self._is_draining or self._has_client_ended) and not self._buffer and not self._is_reading:
            self._close()
        elif self._is_reading:
            pass  # the loop in `_read_heads` goes on
        elif self._buffer:
            self._continue()
        elif self._is_paused:
            self._update_reading()

    def _linger(self) -> None:
        """
        Close in a way that lets the response arrive (RFC 9112, 9.6): a close with unread bytes would reset it.
        """
        self._state = State.LINGER
        self._buffer = b""
        self.end_writing()
        timers, is_sent = self._live.timers, not self.has_unsent()
        timers.arm(self, timers.time() + (_LINGER_S if is_sent else self._live.plan.limits.idle_timeout_s))
        self._update_reading()

    def _close(self, *, hard: bool = False) -> None:
        if self._state == State.CLOSED:
            return
        if not hard:
            self.flush()
        if not hard and self.transport.get_write_buffer_size():
            # The transport closes when all is sent; a client that does not read must not hold it for ever.
            self._state = State.LINGER
            self._buffer = b""
            self.transport.close()
            self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.idle_timeout_s)
            return
        self._forget()
        if hard:
            if self._framing_out == Framing.CLOSE:
                # Its end is the end of the body: only a reset tells the client that this one is not whole.
                with contextlib.suppress(OSError):
                    connected = self.transport.get_extra_info("socket")
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self.transport.close()

    def _forget(self) -> None:
        self._state = State.CLOSED
        self._buffer = b""
        self._live.timers.forget(self)
        direction = self.listener_state.listener.direction
        connections = self._live.connections[direction]
        if self in connections:
            connections.remove(self)
            self._live.telemetry.connection_closed(direction, clock.monotonic_ns() - self._opened_ns)

    def _update_reading(self) -> None:
        """Read unless what was read has nowhere to go."""
        pauses = self._state != State.CLOSED and (
            (self._is_upstream_blocked and self._exchange is not None)
            or len(self._buffer) > _MAX_AHEAD_BYTES
            or (self._is_write_blocked and self._state == State.HEAD)
            or (self._state == State.CHUNKED and self._buffer != b"")
        )
        if pauses == self._is_paused:
            return
        self._is_paused = pauses
        if self.transport.is_closing():
            return
        if pauses:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
