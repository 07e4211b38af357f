"""
The writing half of a client connection: responses, the proxy's own answers, tunnels, and the end of each exchange.
*Hot path.*

`downstream.DownstreamConnection` is the reading half of the same connection and inherits this one: two files because
they are two subjects, one object because a request should not cost a third. What this half asks of the other is
abstract here: `_proceed` to the next request, `_linger`, `_close`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.http1.body import chunk_parts, encode_chunk, encode_end
from sidecar.http1.forward import VIA, response_bytes
from sidecar.http1.grammar import make_field
from sidecar.message import Framing, Kind, ResponseHead
from sidecar.net.flow import MUCH_BYTES, BatchingWriter
from sidecar.net.timers import NOT_ARMED
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.replies import explain, local_reply
from sidecar.routing.actions import HeaderEdits, Redirect, Respond, Route

if TYPE_CHECKING:
    from sidecar.proxy.live import Live

# Rest of a request body that is read and dropped to keep a connection; more costs more than a new connection.
MAX_DISCARD_BYTES: Final = 64 * 1024
_TUNNEL_BEGINS: Final = b"HTTP/1.1 200 Connection established\r\n" + VIA + b"\r\n\r\n"


class State:
    """What the next byte from the client would be (`downstream` has the essay). Integers, as `message.Framing` says."""

    HEAD: Final = 0
    LENGTH: Final = 1
    CHUNKED: Final = 2
    WAIT: Final = 3
    DISCARD: Final = 4
    TUNNEL: Final = 5
    LINGER: Final = 6
    CLOSED: Final = 7
    NAMES: Final = ("HEAD", "LENGTH", "CHUNKED", "WAIT", "DISCARD", "TUNNEL", "LINGER", "CLOSED")


class WritingHalf(BatchingWriter):
    """
    Args:
        live: What all connections share.
    """

    __slots__ = (
        "_attempt",
        "_buffer",
        "_closes",
        "_deadline_of_exchange",
        "_exchange",
        "_framing_out",
        "_has_client_ended",
        "_has_response_begun",
        "_has_upstream_ended",
        "_is_draining",
        "_is_leaving",
        "_is_upstream_blocked",
        "_is_write_blocked",
        "_left",
        "_live",
        "_response_edits",
        "_state",
        "_upgrade",
        "bucket",
        "deadline",
    )

    def __init__(self, live: Live) -> None:
        super().__init__(live.outbox)
        self._live = live
        self.deadline = inf
        self.bucket = NOT_ARMED
        self._state: int = State.HEAD
        self._buffer = b""
        self._left = 0
        self._is_draining = False
        self._is_leaving = False
        self._is_upstream_blocked = False
        self._is_write_blocked = False
        self._has_client_ended = False
        self._has_upstream_ended = False
        self._exchange: Exchange | None = None
        self._attempt: Attempt | None = None
        self._response_edits: HeaderEdits | None = None
        self._framing_out: int = Framing.NONE
        self._has_response_begun = False
        self._closes = False
        self._upgrade = b""
        self._deadline_of_exchange = inf

    # --- what the reading half does --------------------------------------------------------------------------

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""
        raise NotImplementedError

    def _proceed(self) -> None:
        """The exchange is over and the connection goes on."""
        raise NotImplementedError

    def _linger(self) -> None:
        """The last response is written; wait for the client to close."""
        raise NotImplementedError

    def _close(self, *, hard: bool = False) -> None:
        """Close, after what is written has been sent, or at once if `hard`."""
        raise NotImplementedError

    def _update_reading(self) -> None:
        """Pause or resume reading, as the flags say."""
        raise NotImplementedError

    # --- the attempt's side ----------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """
        Pass a 1xx response on.

        "A proxy MUST forward 1xx responses" (RFC 9110, 15.2), but for clients of HTTP/1.0, which know none.
        """
        exchange = self._exchange
        if exchange is not None and exchange.head is not None and exchange.head.minor:
            self.write(response_bytes(head, head.fields, Framing.NONE, b""))

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Write the head and what there is of the body."""
        exchange = self._exchange
        assert exchange is not None
        request = exchange.head
        assert request is not None
        exchange.first_byte_ns = clock.monotonic_ns()
        exchange.status = head.status
        self._has_response_begun = True
        if is_end:
            self._attempt = None
            exchange.received_ns = exchange.first_byte_ns
        framing = head.framing
        if framing > Framing.LENGTH:
            if request.minor:
                framing = Framing.CHUNKED
            else:
                framing = Framing.CLOSE
                self._closes = True
        self._framing_out = framing
        fields = head.fields if self._response_edits is None else self._response_edits.apply(head.fields)
        data = response_bytes(head, fields, framing, self._connection_option(is_last=is_end))
        size = len(payload)
        exchange.bytes_sent += size
        if size > MUCH_BYTES:
            self.write_much([data, *self._parts(payload, is_end, trailers)])
        else:
            if size or (is_end and framing == Framing.CHUNKED):
                data += self._framed(payload, is_end, trailers)
            self.write(data)
        if is_end:
            self._end(None)
            self._after_response()
        else:
            self._touch()
            if self._is_write_blocked and self._attempt is not None:
                self._attempt.pause()

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Write more of the body."""
        exchange = self._exchange
        assert exchange is not None
        received_ns = clock.monotonic_ns() if is_end else 0
        exchange.bytes_sent += len(payload)
        if self._framing_out != Framing.CHUNKED:
            if payload:
                self.write(payload)
        elif len(payload) > MUCH_BYTES:
            self.write_much(self._parts(payload, is_end, trailers))
        elif payload or is_end:
            self.write(self._framed(payload, is_end, trailers))
        self._passed(exchange, received_ns)

    def on_lent(self, payload: memoryview, is_end: bool) -> None:
        """Write more of the body, whose length the client was told."""
        exchange = self._exchange
        assert exchange is not None
        received_ns = clock.monotonic_ns() if is_end else 0
        exchange.bytes_sent += len(payload)
        self.write_lent(payload)
        self._passed(exchange, received_ns)

    def _passed(self, exchange: Exchange, received_ns: int) -> None:
        """A part of the body was written; if it was the last, it came at this time."""
        if received_ns:
            self._attempt = None
            exchange.received_ns = received_ns
            self._end(None)
            self._after_response()
        else:
            self._touch()

    def on_failed(self, reason: Reason, detail: str) -> None:
        """The upstream's side is over."""
        self._attempt = None
        if self._state == State.TUNNEL:
            self._end(reason if detail else None, detail)
            self._close(hard=bool(detail))
        else:
            self._fail(reason, detail)

    def on_switched(self, head: ResponseHead | None, rest: bytes) -> None:
        """The exchange becomes a tunnel."""
        exchange, attempt = self._exchange, self._attempt
        assert exchange is not None
        assert attempt is not None
        if head is not None and not self._upgrade:
            self._fail(errors.BAD_RESPONSE, "101 that nobody asked for")
            return
        exchange.first_byte_ns = clock.monotonic_ns()
        exchange.status = 200 if head is None else 101
        self._has_response_begun = True
        self._state = State.TUNNEL
        self._deadline_of_exchange = inf
        exchange.bytes_sent += len(rest)
        if head is None:
            self.write(_TUNNEL_BEGINS + rest)
        else:
            switch = next((field.value for field in head.fields if field.name == b"upgrade"), self._upgrade)
            fields = head.fields if self._response_edits is None else self._response_edits.apply(head.fields)
            data = response_bytes(head, fields, Framing.NONE, b"upgrade\r\nupgrade: " + switch)
            self.write(data + rest)
        ahead, self._buffer = self._buffer, b""
        if ahead:
            exchange.bytes_received += len(ahead)
            attempt.send_tunnel(ahead)
        if self._has_client_ended:
            attempt.send_tunnel_eof()
        self._update_reading()
        self._touch()

    def on_tunnel_data(self, data: bytes) -> None:
        """Bytes for the client."""
        if self._exchange is not None:
            self._exchange.bytes_sent += len(data)
            self.write(data)
            self._touch()

    def on_tunnel_eof(self) -> bool:
        """The upstream sends no more; the client still may."""
        self._has_upstream_ended = True
        if self._has_client_ended:
            self._end_tunnel()
            return False
        self.end_writing()
        return True

    def _end_tunnel(self) -> None:
        """Both have ended in order."""
        if self._attempt is not None:
            self._attempt.finish()
        self._end(None)
        self._close()

    def on_upstream_blocked(self) -> None:
        """Read no more of the request."""
        self._is_upstream_blocked = True
        self._update_reading()

    def on_upstream_writable(self) -> None:
        """Read on."""
        if self._is_upstream_blocked:
            self._is_upstream_blocked = False
            self._touch()
            self._update_reading()

    # --- the proxy's own answers -----------------------------------------------------------------------------

    def _answer(self, route: Route) -> None:
        """Answer as the route says, without an upstream."""
        exchange = self._exchange
        assert exchange is not None
        head, action = exchange.head, route.action
        assert head is not None
        exchange.scope = route.scope
        if head.method == b"CONNECT":
            # A 2xx would tell the client that its tunnel stands (RFC 9110, 9.3.6).
            self._fail(errors.METHOD_NOT_ALLOWED, "CONNECT at a route without an upstream")
            return
        if isinstance(action, Redirect):
            try:
                fields, body = [make_field(b"location", action.location(head))], b""
            except ValueError as error:
                self._fail(errors.REWRITE_INVALID, str(error))
                return
        else:
            assert isinstance(action, Respond)
            fields, body = list(action.fields), action.body
        if route.response_edits is not None:
            fields = route.response_edits.apply(fields)
        self._reply(action.status, [field.wire for field in fields], body)
        self._end(None)
        self._after_response()

    def _fail(self, reason: Reason, detail: str) -> None:
        """End the exchange for a reason of the table: answer if nothing was answered yet, else cut."""
        exchange = self._exchange
        if exchange is None:
            self._close(hard=True)
        elif self._has_response_begun:
            self._end(reason, detail)
            self._close(hard=True)
        else:
            status = exchange.status or reason.status  # a fault's status is its route's
            lines, body = explain(reason, exchange)
            if reason.status in (400, 408):
                self._closes = True
            self._reply(status, lines, body)
            self._end(reason, detail)
            self._after_response()

    def _reply(self, status: int, lines: list[bytes], body: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        is_head = exchange.head is not None and exchange.head.method == b"HEAD"
        exchange.status = status
        self._has_response_begun = True
        data = local_reply(status, lines, body, is_head=is_head, connection=self._connection_option(is_last=True))
        if not is_head and status not in (204, 304):
            exchange.bytes_sent = len(body)
        self.write(data)

    # --- ends ------------------------------------------------------------------------------------------------

    def _end(self, reason: Reason | None, detail: str = "") -> None:
        """The exchange is over: free what it holds and record it, once."""
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        attempt = self._attempt
        if attempt is not None:
            self._attempt = None
            attempt.cancel(reason)
        exchange.end_ns = clock.monotonic_ns()
        if reason is not None:
            exchange.reason = reason
            exchange.detail = detail
            if not exchange.status:
                exchange.status = reason.status
        self._live.telemetry.record(exchange)

    def _after_response(self) -> None:
        """Go on with the next request, swallow the rest of this one, or close."""
        state = self._state
        self._is_upstream_blocked = False
        if state == State.WAIT:
            if self._closes or self._is_draining:
                self._close()
            else:
                self._proceed()
        elif self._closes or self._is_draining or not self._can_discard():
            self._linger()
        else:
            self._state = State.DISCARD
            timers, limits = self._live.timers, self._live.plan.limits
            timers.arm(self, timers.time() + limits.header_timeout_s)
            self._update_reading()

    def _can_discard(self) -> bool:
        return self._state == State.LENGTH and self._left <= MAX_DISCARD_BYTES

    def _connection_option(self, *, is_last: bool) -> bytes:
        """
        Decide, before a response head is written, whether it is the connection's last.

        Args:
            is_last: Nothing comes behind what is written with this head.
        """
        head = self._exchange.head if self._exchange is not None else None
        is_early = self._state != State.WAIT
        # A client that waits for 100 may never send its body, or may send the next request in its place.
        if head is None or (is_early and (head.kinds & Kind.EXPECT or (is_last and not self._can_discard()))):
            self._closes = True
        if self._closes or self._is_draining or self._is_leaving:
            self._closes = True
            return b"close"
        return b"" if head is None or head.minor else b"keep-alive"

    def _parts(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> list[bytes]:
        """As `_framed`, for a payload that is too large to be copied."""
        if self._framing_out != Framing.CHUNKED:
            return [payload]
        parts = chunk_parts(payload)
        if is_end:
            parts.append(encode_end(trailers))
        return parts

    def _framed(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> bytes:
        if self._framing_out != Framing.CHUNKED:
            return payload
        if not is_end:
            return encode_chunk(payload) if payload else b""
        return encode_chunk(payload) + encode_end(trailers) if payload else encode_end(trailers)

    def _touch(self) -> None:
        """Something moved: put the deadline off."""
        timers = self._live.timers
        deadline = timers.time() + self._live.plan.limits.idle_timeout_s
        self.deadline = min(deadline, self._deadline_of_exchange)
        if self.bucket == NOT_ARMED:
            timers.arm(self, self.deadline)
