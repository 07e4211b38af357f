"""
A connection of HTTP/1.1 to a server: writes requests, reads and frames responses, and serves one attempt at a time.
*Hot path.*

Every callback keeps one order: take the bytes, decide, leave the exchange if it is over, hand on, and never touch the
connection's own state after handing on: whoever is told may already have given it the next request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Final, cast

from sidecar import errors
from sidecar.errors import ProtocolError, Reason
from sidecar.http1.body import BodyReader
from sidecar.http1.forward import request_bytes
from sidecar.http1.grammar import GrammarError
from sidecar.http1.head import find_head_end, response_head
from sidecar.message import NO_TRAILERS, Field, Framing, ResponseHead
from sidecar.net.flow import MAX_SPLICED_BYTES, MIN_SPLICED_BYTES, BatchingWriter, Outbox
from sidecar.net.splicing_reader import SplicingReader
from sidecar.net.timers import NOT_ARMED, Timed, Timers
from sidecar.net.tls.failures import explain, is_tls
from sidecar.net.tls.sides import MESH_HTTP
from sidecar.peer import Peer
from sidecar.proxy.exchange.interfaces import ResponseSink, ServerStream, TunnelSink
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Limits
from sidecar.proxy.server.request_writer import write_body, write_with_body
from sidecar.proxy.server.state import State
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint, IdleConnection

_FLUSH_S: Final = 30.0
_MAX_READS_BEFORE_WRITE: Final = 4
# Interim responses before the final one: 102 every ten seconds for a quarter of an hour. Each costs what a head costs.
_MAX_INTERIM: Final = 100


class ServerConnection(BatchingWriter, Timed, ServerStream, IdleConnection):
    """
    Args:
        endpoint: Where it leads.
        timers: Sweeps it while idle.
        outbox: Flushes what it writes.
        on_connected: Told once, when the dial has succeeded; takes the connection.
        on_refused: Told why, if the server does not accept our certificate: by TLS 1.3 it says so behind the handshake.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_ends_at",
        "_framing_up",
        "_idle_hint_s",
        "_interim",
        "_is_blocked",
        "_is_paused",
        "_is_spliced",
        "_is_to_sidecar",
        "_is_untouched",
        "_keeps_alive",
        "_limits",
        "_method",
        "_on_connected",
        "_on_refused",
        "_retires_at",
        "_timers",
        "bucket",
        "deadline",
        "endpoint",
        "epoch",
        "is_full",
        "is_request_sent",
        "requests",
        "secured",
        "sink",
        "state",
        "tunnel",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        timers: Timers,
        outbox: Outbox,
        on_connected: Callable[[ServerConnection], None],
        on_refused: Callable[[Reason], None] | None = None,
    ) -> None:
        super().__init__(outbox)
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.sink: ResponseSink | None = None
        self.tunnel: TunnelSink | None = None
        self.state: int = State.IDLE
        self.is_full = False
        self.is_request_sent = False
        self.requests = 0
        self.secured: Peer | None = None
        self.deadline = inf
        self.bucket = NOT_ARMED
        self._timers = timers
        self._on_connected: Callable[[ServerConnection], None] | None = on_connected
        self._on_refused = on_refused
        self._buffer = self._method = b""
        self._body = BodyReader()
        self._framing_up: int = Framing.NONE
        self._interim = 0
        self._idle_hint_s = self._retires_at = self._ends_at = inf
        self._keeps_alive = True
        self._is_blocked = self._is_paused = self._is_spliced = self._is_to_sidecar = False
        self._is_untouched = True
        self._limits: Limits | None = None

    def __repr__(self) -> str:
        return f"<ServerConnection {self.endpoint.label} {State.NAMES[self.state]} requests={self.requests}>"

    # --- the attempt's side ----------------------------------------------------------------------------------

    def send(self, sink: ResponseSink, request: UpstreamRequest, limits: Limits) -> None:
        """Begin an exchange, with what there is of the body; the connection must be idle and taken from the pool."""
        head = request.head
        self.sink = sink
        self.state = State.HEAD
        self.requests += 1
        self._is_untouched = True
        self.deadline = self._ends_at  # mostly none: the sweep finds no deadline and forgets it
        self._method = head.method
        self._limits = limits
        self.is_request_sent = request.is_complete
        self._interim = 0
        self._framing_up = framing = head.framing
        data = request_bytes(head, request.fields, request.path, request.host, request.added, upgrade=request.upgrade)
        if framing != Framing.NONE:
            write_with_body(self, data, request)
        else:
            self.write(data)

    def send_body(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """
        Write more of the request's body, unless the response turns out to be there, and the exchange over with it.

        A server that refuses an upload answers and closes with bytes unread, which resets the connection behind the
        answer: a write would fail, and the transport would drop the connection with the answer unread. So what the
        kernel holds is read first, one system call a piece to know it; two of three such answers were lost without.
        """
        if not payload and self._framing_up != Framing.CHUNKED:
            self.is_request_sent = is_complete
            return
        sink = self.sink
        self._read_ahead()
        if self.sink is not sink:
            return
        self.is_request_sent = is_complete
        write_body(self, self._framing_up, payload, is_complete, trailers)

    def _read_ahead(self) -> None:
        """Read what the kernel holds and the transport has not read yet, as long as the exchange goes on."""
        sink = self.sink
        for _ in range(_MAX_READS_BEFORE_WRITE):
            received = b"" if self._is_paused else self.read_unread()
            if not received:
                return
            self.data_received(received)
            if self.sink is not sink:
                return

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `send_body`, or, unless the response turns out to be there, as `BatchingWriter.splice_from`."""
        if self.is_full or not self.is_quiet():
            self.send_body(first, False, NO_TRAILERS)
            return 0
        return super().splice_from(first, source, limit)

    def open_tunnel(self, sink: TunnelSink) -> None:
        """From here the connection carries another protocol's bytes."""
        self.sink = None
        self.tunnel = sink
        self.state = State.TUNNEL
        self.deadline = self._ends_at

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel."""
        self.write(data)

    def end_tunnel(self) -> None:
        """No more bytes will come from the client."""
        self.end_writing()

    def pause(self) -> None:
        """Read no more until `resume`: the client is slow."""
        self._is_blocked = True
        self._update_reading()

    def resume(self) -> None:
        """Undo `pause`."""
        self._is_blocked = False
        self._update_reading()

    def _update_reading(self) -> None:
        """Read unless the client is slow or chunks of the last read are left for another turn of the loop."""
        pauses = self._is_blocked or (self.state == State.BODY and self._buffer != b"")
        if pauses != self._is_paused and self.state != State.CLOSED and not self.transport.is_closing():
            self._is_paused = pauses
            if pauses:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def abort(self) -> None:
        """The exchange is over for the attempt; the connection cannot be used again."""
        if self.tunnel is not None:
            self.cut()  # a plain end would mean that all has come
        self.sink = self.tunnel = None
        self._close("aborted", hard=True)

    def forgo(self) -> None:
        """It came too late for whoever asked for it, and is counted as one that never came: close it."""
        self.state = State.CLOSED
        self._timers.forget(self)
        self.transport.abort()

    def finish(self) -> None:
        """The exchange is over and nothing more will come: close when what is written has been sent."""
        self.sink = self.tunnel = None
        has_unsent = self.has_unsent()
        self._close("finished", hard=False)
        if has_unsent:
            self._timers.arm(self, self._timers.time() + _FLUSH_S)

    # --- the pool's side -------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """
        Whether it is open, as far as the loop has heard and the kernel knows: neither an end nor a byte unread.

        A byte would be an answer to nothing, and were it read after the request was sent, the answer to it. The system
        call costs some 0.3 us; a 503 that it spares a POST, or another client's answer, costs more.
        """
        return self.state == State.IDLE and not self.transport.is_closing() and self.is_quiet()

    def close_idle(self, reason: str) -> None:
        """Close it; it is not in the pool any more."""
        self._close(reason, hard=False)

    def on_deadline(self, now: float) -> None:
        """Idle for too long, or too old, or closed and still not sent."""
        if self.state == State.IDLE:
            pool.remove(self)
            self.close_idle("max_age" if now >= self._retires_at else "idle_timeout")
        elif self.state == State.CLOSED:
            self.transport.abort()
        elif now >= self._ends_at:
            self._on_expired()

    def _on_expired(self) -> None:
        """The server's certificate has ended in the middle of an exchange, or of a tunnel."""
        sink, tunnel, label = self.sink, self.tunnel, self.endpoint.label
        self.sink = self.tunnel = None
        self._close("certificate_expired", hard=True)
        if tunnel is not None:
            tunnel.on_tunnel_lost(f"{label}: the certificate has ended")
        elif sink is not None:
            sink.on_upstream_lost(errors.UPSTREAM_CERTIFICATE_EXPIRED, label, False)

    def _leave(self, keeps: bool) -> None:
        """The response is complete: back to the pool, or close."""
        self.sink = None
        # A peer that answers what it has not read would be sent the next request behind the unread one.
        if keeps and self.is_request_sent and not self.is_full and not self.transport.is_closing():
            self.state = State.IDLE
            if self._is_paused:
                self._is_blocked = False
                self._update_reading()
            if self._is_spliced:
                self._is_spliced = False
                self.transport.set_protocol(cast("asyncio.Protocol", self))
            now = self._timers.time()
            cluster = self.endpoint.cluster
            deadline = now + (cluster.mesh_idle_timeout_s if self._is_to_sidecar else cluster.idle_timeout_s)
            if now + self._idle_hint_s < deadline or self._retires_at < deadline:
                deadline = min(now + self._idle_hint_s, self._retires_at)
                if deadline <= now:
                    self._close("max_age", hard=False)
                    return
                self._timers.arm(self, deadline)
            elif self.bucket == NOT_ARMED or self._ends_at < inf:
                # By TLS the sweep may have put it off until the certificate ends, which is later than this.
                self._timers.arm(self, deadline)
            else:
                self.deadline = deadline
            pool.release(self)
        else:
            # What is written but not sent must not hold the connection: the request's rest is of no use any more.
            self._close("not_reusable", hard=True)

    def _close(self, cause: str, *, hard: bool) -> None:
        if self.state == State.CLOSED:
            return
        self.state = State.CLOSED
        self._buffer = b""
        self._timers.forget(self)
        pool.closed(self.endpoint, cause)
        if hard:
            self.drop()
            self.transport.abort()
        else:
            self.end()

    # --- the transport's side --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dial succeeded."""
        self.attach(transport)
        self._retires_at = self.endpoint.cluster.retires_at(self._timers.time())
        if self._sealed is not None and self._sealed.peer is not None:
            self.secured = self._sealed.peer
            self._is_to_sidecar = self.secured.protocol == MESH_HTTP
            # No connection outlives its peer's certificate.
            self._ends_at = self._timers.time() + self.secured.not_after_s - time.time()
            self._retires_at = min(self._retires_at, self._ends_at)
        cluster = self.endpoint.cluster
        idle_s = cluster.mesh_idle_timeout_s if self._is_to_sidecar else cluster.idle_timeout_s
        self._timers.arm(self, self._timers.time() + idle_s)
        on_connected, self._on_connected = self._on_connected, None
        assert on_connected is not None
        on_connected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of whatever the state awaits."""
        state = self.state
        if state == State.HEAD:
            self._on_head_bytes(data)
        elif state == State.BODY:
            self._on_body_bytes(data)
        elif state == State.CLOSE:
            assert self.sink is not None
            self.sink.on_payload(data, False, [])
        elif state == State.TUNNEL:
            assert self.tunnel is not None
            self.tunnel.on_tunnel_data(data)
        elif state == State.IDLE:
            # An answer to nothing: were it kept, the next request would receive it.
            pool.remove(self)
            self._close("unasked_answer", hard=True)

    def _on_head_bytes(self, rest: bytes) -> None:
        sink, limits = self.sink, self._limits
        assert sink is not None
        assert limits is not None
        self._is_untouched = False
        if self._buffer:
            rest = self._buffer + rest
            self._buffer = b""
        try:
            while True:
                # One call for the end, what precedes and what follows: 0.15 us less than a search and two slices.
                block, end, after = rest.partition(b"\r\n\r\n")
                if len(block) > limits.max_header_bytes:
                    raise ProtocolError(errors.RESPONSE_HEAD_TOO_LARGE, "more bytes than limits.max_header_bytes")
                if not end:
                    find_head_end(block)  # refuses what can never become a head
                    self._buffer = block
                    return
                head = response_head(block, limits.max_headers, self._method)
                rest = after
                if head.status >= 200:
                    break
                if head.status == 101:
                    self.state = State.TUNNEL
                    sink.on_switched(head, rest)
                    return
                self._interim += 1
                if self._interim > _MAX_INTERIM:
                    raise ProtocolError(errors.BAD_RESPONSE, f"more than {_MAX_INTERIM} interim responses")
                sink.on_informational(head)
                if self.sink is not sink:
                    return  # the exchange ended with this write
        except ProtocolError as error:
            self._on_garbage(error.reason, error.detail)
        except GrammarError as error:
            self._on_garbage(errors.BAD_RESPONSE, str(error))
        else:
            self._on_final_head(sink, head, rest)

    def _on_final_head(self, sink: ResponseSink, head: ResponseHead, rest: bytes) -> None:
        self._idle_hint_s = head.idle_hint_s
        framing = head.framing
        if framing == Framing.NONE:
            self._leave(head.keep_alive and not rest)
            sink.on_response(head, b"", True, NO_TRAILERS)
        elif framing == Framing.LENGTH and len(rest) == head.content_length:
            self._leave(head.keep_alive)
            sink.on_response(head, rest, True, NO_TRAILERS)
        elif framing == Framing.CLOSE:
            self.state = State.CLOSE
            sink.on_response(head, rest, False, NO_TRAILERS)
        else:
            self._keeps_alive = head.keep_alive
            self.state = State.BODY
            max_trailer_bytes = self._limits.max_header_bytes if self._limits is not None else 0
            self._body.begin(head, max_trailer_bytes)
            self._on_body_bytes(rest, head)

    def _on_body_bytes(self, data: bytes, head: ResponseHead | None = None) -> None:
        """Bytes of a body, behind its head if that came with them."""
        sink, body = self.sink, self._body
        assert sink is not None
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            payload, rest = body.feed(data)
        except GrammarError as error:
            self._on_garbage(errors.BAD_RESPONSE if head is not None else errors.BAD_RESPONSE_BODY, str(error))
            return
        is_end, trailers = body.is_complete, NO_TRAILERS
        if is_end:
            trailers = body.take_trailers()
            # Bytes behind the response answer nothing; the response itself is whole.
            self._leave(self._keeps_alive and not rest)
        elif rest:
            # Chunks that are too many for one turn of the loop.
            self._buffer = rest
            self._update_reading()
            asyncio.get_running_loop().call_soon(self._continue)
        if head is not None:
            if body.left >= MIN_SPLICED_BYTES and self.can_splice() and not self.transport.is_closing():
                self._is_spliced = True
                self.transport.set_protocol(cast("asyncio.Protocol", SplicingReader(self)))
            sink.on_response(head, payload, is_end, trailers)
        elif payload or is_end:
            sink.on_payload(payload, is_end, trailers)

    def _continue(self) -> None:
        """Take the chunks that were left for another turn of the loop."""
        if self.state == State.BODY and self._buffer:
            self._on_body_bytes(b"")
            self._update_reading()

    def splice(self, first: bytes) -> int:
        """Bytes of a body of known length, of which what has come behind them is spliced."""
        sink, body, left = self.sink, self._body, self._body.left - len(first)
        if sink is None or self.state != State.BODY or left <= 0:
            self.data_received(first)
            return 0
        body.take(len(first))
        try:
            size = sink.splice_response(first, self.transport, min(left, MAX_SPLICED_BYTES))
        except OSError as error:
            self.connection_lost(error)
            return 0
        if size and self.sink is sink:
            body.take(size)
            if body.is_complete:
                self._leave(self._keeps_alive)
                sink.on_payload(b"", True, NO_TRAILERS)
        return size

    def _on_garbage(self, reason: Reason, detail: str) -> None:
        sink, self.sink = self.sink, None
        self._close("bad_response", hard=True)
        if sink is not None:
            sink.on_upstream_lost(reason, detail, False)

    def eof_received(self) -> bool:
        """The upstream sends no more; in a tunnel the other direction may go on."""
        if self.state == State.TUNNEL and self.tunnel is not None:
            return self.tunnel.on_tunnel_eof()
        if self.state == State.IDLE:
            # Unsent bytes of an answered request would hold the transport's close, and the pool a dead connection.
            pool.remove(self)
            self._close("peer_closed", hard=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The connection is gone; what that means depends on what was awaited.

        A write may have met a reset just after the look for an answer (`send_body`), before the answer was read. The
        kernel keeps it, and the transport closes the descriptor only after this call.
        """
        if exc is not None and self.sink is not None:
            self._read_ahead()
        state, sink, tunnel = self.state, self.sink, self.tunnel
        if state == State.CLOSED:
            self._timers.forget(self)
            return
        if state == State.IDLE:
            pool.remove(self)
        refused = self._refusal(exc)
        self.sink = self.tunnel = None
        is_untouched = state == State.HEAD and self._is_untouched
        self._close("peer_closed" if sink is None and tunnel is None else "lost", hard=True)
        if tunnel is not None:
            tunnel.on_tunnel_lost(str(exc or ""))
        if sink is None:
            return
        if state == State.CLOSE and exc is None:
            sink.on_payload(b"", True, [])
        elif state == State.HEAD:
            if exc is not None:
                self.endpoint.cluster.stats.resets += 1
            reason, detail = errors.UPSTREAM_RESET if exc else errors.UPSTREAM_CLOSED, str(exc or "")
            sink.on_upstream_lost(*(refused or (reason, detail)), is_untouched)
        else:
            sink.on_upstream_lost(errors.RESPONSE_CUT, str(exc or ""), False)

    def _refusal(self, error: Exception | None) -> tuple[Reason, str] | None:
        """
        The row of the table for an alert behind the handshake, and what exactly was said.

        In TLS 1.3 a server says what it thinks of our certificate when we have sent the request already, which it has
        not read; or when nobody has wanted the connection yet, for the one that asked for it was served by another.
        """
        if self._sealed is None or not is_tls(error) or self.requests > 1:
            return None
        reason, detail = explain(error, is_client=False, shown=self._sealed.shown)
        if reason is errors.UPSTREAM_REFUSED_CERTIFICATE and self._on_refused is not None:
            self._on_refused(reason)
        return reason, detail

    def pause_writing(self) -> None:
        """The upstream reads slower than the client sends."""
        self.is_full = True
        if self.sink is not None:
            self.sink.on_upstream_blocked()
        elif self.tunnel is not None:
            self.tunnel.on_upstream_blocked()

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        self.is_full = False
        if self.sink is not None:
            self.sink.on_upstream_writable()
        elif self.tunnel is not None:
            self.tunnel.on_upstream_writable()
