"""
One attempt at a server of HTTP/2: a stream that has a `ResponseSink`. *Hot path.*

Every callback keeps the order of `server.http1`: decide, leave the exchange if it is over, hand on, and never touch the
stream afterwards: whoever is told may already have given it the next request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from sidecar import errors
from sidecar.errors import Reason
from sidecar.http1.body import wanted_trailers
from sidecar.http2.codes import Code, MalformedError, name_of
from sidecar.http2.forward import ordinary_fields, request_fields, switched_head, upgrade_fields
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.message import NO_TRAILERS, Field, Framing, ResponseHead
from sidecar.peer import Peer
from sidecar.proxy.exchange.interfaces import ResponseSink, ServerStream, TunnelSink
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Limits
from sidecar.upstream.endpoint import Endpoint, IdleConnection

log = logging.getLogger("sidecar.proxy")

# For the last octets of a tunnel to be taken, as in HTTP/1.1.
_FLUSH_S: Final = 30.0
# Interim responses before the final one, as in HTTP/1.1.
_MAX_INTERIM: Final = 100


class StreamCarrier(Protocol):
    """The connection, as its streams see it."""

    __slots__ = ()

    def release(self, stream: AttemptStream) -> None:
        """The attempt is over; the stream may have another."""

    def head_of(self, fields: list[Field], method: bytes, is_end: bool) -> ResponseHead:
        """The head that these fields are; raises `MalformedError`."""

    def request_scheme(self) -> Field:
        """`:scheme` of what is sent here."""


class AttemptStream(Stream, ServerStream, IdleConnection):
    """
    Args:
        endpoint: Where it leads.
        session: Whose stream it is.
        carrier: The connection.

    Attributes:
        is_taken: It has an attempt, or is about to.
    """

    __slots__ = (
        "_carrier",
        "_has_response",
        "_interim",
        "_method",
        "_session",
        "_upgrading",
        "endpoint",
        "epoch",
        "is_taken",
        "requests",
        "secured",
        "sink",
        "tunnel",
    )

    def __init__(self, endpoint: Endpoint, session: Session, carrier: StreamCarrier, secured: Peer | None) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.secured = secured
        self.requests = 0
        self.is_taken = False
        self.sink: ResponseSink | None = None
        self.tunnel: TunnelSink | None = None
        self._session = session
        self._carrier = carrier
        self._method = b""
        self._has_response = False
        self._interim = 0
        self._upgrading: UpstreamRequest | None = None

    def __repr__(self) -> str:
        return f"<AttemptStream {self.id} to {self.endpoint.label}>"

    # --- the attempt's side ------------------------------------------------------------------------------------

    def send(self, sink: ResponseSink, request: UpstreamRequest, limits: Limits) -> None:
        """Begin an exchange, with what there is of the body."""
        self.sink = sink
        self._method = request.head.method
        self._has_response = False
        self._interim = 0
        self._upgrading = None
        if request.upgrade:
            self._upgrading = request
        self._session.limit_heads(limits.max_header_bytes, limits.max_headers)
        self._send(request)

    def _send(self, request: UpstreamRequest) -> None:
        head, session = request.head, self._session
        fields = request_fields(
            head, request.fields, request.path, request.host, request.added, self._carrier.request_scheme()
        )
        session.open(self)
        if request.upgrade:
            if session.allows_extended_connect and request.is_complete and not request.body_bytes:
                session.send_message(self, upgrade_fields(fields, request.upgrade), b"", False, NO_TRAILERS)
                return
            self._upgrading = None
            fields = ordinary_fields(fields)
        body = request.body
        payload = b"" if not body else body[0] if len(body) == 1 else b"".join(body)
        session.send_message(self, fields, payload, request.is_complete, request.trailers)

    def send_body(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """More of the request's body."""
        if not self.is_closed:
            self._session.send_data(self, payload, is_complete, trailers)

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """Nothing goes past the process: content is in frames."""
        self.send_body(first, False, NO_TRAILERS)
        return 0

    def open_tunnel(self, sink: TunnelSink) -> None:
        """From here the content is another protocol's."""
        self.sink = None
        self.tunnel = sink

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel."""
        if data and not self.is_closed:
            self._session.send_data(self, data, False, NO_TRAILERS)

    def end_tunnel(self) -> None:
        """No more bytes will come from the client."""
        if not self.is_closed:
            self._session.send_data(self, b"", True, NO_TRAILERS)

    def pause(self) -> None:
        """Give the server no further window until `resume`: the client is slow."""
        self._session.hold(self)

    def resume(self) -> None:
        """Undo `pause`."""
        self._session.unhold(self)

    def abort(self) -> None:
        """The exchange is over for the attempt."""
        self._session.reset(self, Code.CANCEL)
        self._leave()

    def finish(self) -> None:
        """The exchange is over and nothing more will come; what waits is still sent, and `on_sent` told of it."""
        self.sink = self.tunnel = None
        if not self.has_local_ended and not self.ends and not self.is_closed:
            self._session.send_data(self, b"", True, NO_TRAILERS)
        if self.is_closed:
            self._leave()
        else:
            asyncio.get_running_loop().call_later(_FLUSH_S, self._give_up, self.id)

    def _give_up(self, stream_id: int) -> None:
        """The server has opened no window for what was said last: it must not keep the place for ever."""
        if self.id == stream_id and not self.is_closed:
            self.abort()

    def is_quiet(self) -> bool:
        """An end, or whatever else there is to hear, is heard by the connection."""
        return True

    def is_usable(self) -> bool:
        """It was reserved a moment ago."""
        return True

    def close_idle(self, reason: str) -> None:
        """It was reserved and will not be used."""
        self._leave()

    def _leave(self) -> None:
        self.sink = self.tunnel = None
        if self.is_taken:
            self.is_taken = False
            self._carrier.release(self)

    def _leave_answered(self) -> None:
        """The response is whole; a request of which the rest is still to be sent has no use for it."""
        if not self.is_closed:
            self._session.reset(self, Code.CANCEL)
        self._leave()

    # --- the session's side ------------------------------------------------------------------------------------

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """A response's head, and what there is of its content."""
        sink = self.sink
        if sink is None:
            return
        try:
            self._on_head(sink, fields, payload, is_end, trailers)
        except Exception:
            self._on_mistake(sink)

    def _on_mistake(self, sink: ResponseSink) -> None:
        """A mistake of ours ends one attempt, never another on the same connection."""
        log.exception("attempt_failed %r", self)
        if self.sink is sink:
            self._session.reset(self, Code.INTERNAL_ERROR)
            self.lose(errors.INTERNAL, "exception", False)

    def _on_head(
        self, sink: ResponseSink, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]
    ) -> None:
        try:
            head = self._carrier.head_of(fields, self._method, is_end and not payload)
            if head.status < 200:
                self._interim += 1
                if self._interim > _MAX_INTERIM:
                    raise MalformedError(f"more than {_MAX_INTERIM} interim responses")
                sink.on_informational(head)
                return
            if self._upgrading is not None and head.status < 300:
                self._switch(sink, self._upgrading, head, payload, is_end)
                return
            if head.framing == Framing.LENGTH:
                self.left = head.content_length
                if not self.take(len(payload), is_end):
                    raise MalformedError("not as much content as its content-length says")
            elif head.framing == Framing.NONE:
                self.left = 0  # also of what comes later: a client of HTTP/1.1 would read it as the next answer
                if payload:
                    raise MalformedError("content where there may be none")
        except MalformedError as error:
            self._break_off(errors.BAD_RESPONSE, str(error))
            return
        self._has_response = True
        if is_end:
            self._leave_answered()
            if trailers:
                trailers = wanted_trailers(trailers)
        sink.on_response(head, payload, is_end, trailers)

    def _switch(
        self, sink: ResponseSink, request: UpstreamRequest, head: ResponseHead, rest: bytes, is_end: bool
    ) -> None:
        """The server agrees: what follows is the other protocol's."""
        self._has_response = True
        self._upgrading = None
        key = next((field.value for field in request.fields if field.name == b"sec-websocket-key"), b"")
        sink.on_switched(switched_head(head, request.upgrade, key), rest)
        if is_end and self.tunnel is not None:
            self.tunnel.on_tunnel_eof()

    def on_data(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the content."""
        sink, tunnel = self.sink, self.tunnel
        if tunnel is not None:
            if payload:
                tunnel.on_tunnel_data(payload)
            if is_end and self.tunnel is tunnel:
                tunnel.on_tunnel_eof()
        elif sink is not None:
            try:
                self._on_data(sink, payload, is_end, trailers)
            except Exception:
                self._on_mistake(sink)

    def _on_data(self, sink: ResponseSink, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        if not self._has_response:
            self._break_off(errors.BAD_RESPONSE, "content before the head")
        elif self.left >= 0 and not self.take(len(payload), is_end):
            self._break_off(errors.BAD_RESPONSE_BODY, "not as much content as its content-length says")
        else:
            if is_end:
                self._leave_answered()
                if trailers:
                    trailers = wanted_trailers(trailers)
            sink.on_payload(payload, is_end, trailers)

    def on_too_large(self, is_end: bool) -> None:
        """The head has more fields or octets than it may."""
        self._break_off(errors.RESPONSE_HEAD_TOO_LARGE, "more than limits.max_header_bytes or limits.max_headers")

    def on_withdrawn(self, fields: list[Field]) -> None:
        """No server opens a stream."""

    def on_reset(self, code: int) -> None:
        """The server gives the stream up, or has never looked at it."""
        if code == Code.REFUSED_STREAM and not self._has_response:
            reason = errors.STREAM_REFUSED
        else:
            reason = errors.RESPONSE_CUT if self._has_response else errors.UPSTREAM_RESET
        self.endpoint.cluster.stats.resets += 1
        self.lose(reason, f"{self.endpoint.label}: {name_of(code)}", False)

    def on_fault(self, code: int, detail: str) -> None:
        """The server has broken a rule on this stream."""
        reason = errors.BAD_RESPONSE_BODY if self._has_response else errors.BAD_RESPONSE
        self.lose(reason, f"{name_of(code)}: {detail}", False)

    def on_connection_lost(self, reason: Reason, detail: str) -> None:
        """The connection is gone."""
        is_untouched = not self._has_response and not self._interim
        self.lose(errors.RESPONSE_CUT if self._has_response else reason, detail, is_untouched)

    def lose(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """There will be no response, or no more of it."""
        sink, tunnel = self.sink, self.tunnel
        self._leave()
        if tunnel is not None:
            tunnel.on_tunnel_lost(detail)
        elif sink is not None:
            sink.on_upstream_lost(reason, detail, is_untouched)

    def _break_off(self, reason: Reason, detail: str) -> None:
        if not self.is_closed:
            self._session.break_off(self, Code.PROTOCOL_ERROR)
        self.lose(reason, detail, False)

    def on_blocked(self) -> None:
        """The server reads slower than the client sends."""
        if self.sink is not None:
            self.sink.on_upstream_blocked()
        elif self.tunnel is not None:
            self.tunnel.on_upstream_blocked()

    def on_writable(self) -> None:
        """The server has caught up."""
        if self.sink is not None:
            self.sink.on_upstream_writable()
        elif self.tunnel is not None:
            self.tunnel.on_upstream_writable()

    def on_sent(self) -> None:
        """All of the request has left; of a tunnel that is over, the last that was said."""
        if self.is_closed and self.sink is None and self.tunnel is None:
            self._leave()
