"""
One request of a client of HTTP/2: a stream that has a course, and is its client's side. *Hot path.*

    on_head -> Course.begin -> on_data ... -> send_response -> send_payload ... -> on_exchange_over

When both have ended the object is given back and takes another request: with its course it is some 1.5 KiB that need
not be made anew.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Final, Protocol

from sidecar import errors
from sidecar.errors import Reason
from sidecar.http1.body import wanted_trailers
from sidecar.http2.codes import Code, MalformedError, name_of
from sidecar.http2.forward import reply_fields, response_fields, switch_fields
from sidecar.http2.head import request_head
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.message import NO_TRAILERS, Field, Framing, Kind, RequestHead, ResponseHead
from sidecar.net.timers import NOT_ARMED
from sidecar.proxy.exchange.course import Course
from sidecar.proxy.exchange.interfaces import ClientStream, ResponseWriter
from sidecar.proxy.live import Live

log = logging.getLogger("sidecar.proxy")

_UPGRADE: Final = Kind.UPGRADE


class StreamHome(Protocol):
    """The connection, as its streams see it."""

    __slots__ = ()

    def make_course(self, stream: RequestStream) -> Course:
        """A course whose client's side the stream is."""

    def release(self, stream: RequestStream) -> None:
        """The stream is over, and may have another request."""


class RequestStream(Stream, ClientStream, ResponseWriter):
    """
    Args:
        live: What all connections share.
        session: Whose stream it is.
        home: Gives it a course, and takes it back.
    """

    __slots__ = (
        "_ahead",
        "_awaits_tunnel",
        "_course",
        "_home",
        "_is_delivering",
        "_is_over",
        "_live",
        "_session",
        "bucket",
        "deadline",
    )

    def __init__(self, live: Live, session: Session, home: StreamHome) -> None:
        super().__init__()
        self._live = live
        self._session = session
        self._home = home
        self._course: Course | None = None
        self._ahead = b""
        self._awaits_tunnel = False
        self._is_delivering = False
        self._is_over = True
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        return f"<RequestStream {self.id} {self._course!r}>"

    # --- the session's side ------------------------------------------------------------------------------------

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """A request begins."""
        course = self._begin()
        try:
            self._on_head(course, fields, payload, is_end, trailers)
        except Exception:
            self._on_mistake(course)

    def _on_mistake(self, course: Course) -> None:
        """A mistake of ours ends one exchange, never another of the same client."""
        log.exception("request_failed %r", self)
        if course.exchange is not None:
            course.fail(errors.INTERNAL, "exception")
        if course.exchange is not None or not self.is_closed:
            self.reset()

    def _on_head(
        self, course: Course, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]
    ) -> None:
        try:
            head = request_head(fields, is_end and not payload)
        except MalformedError as error:
            self._refuse(course, errors.BAD_REQUEST, str(error))
            return
        if head.framing == Framing.LENGTH:
            self.left = head.content_length
            if not self.take(len(payload), is_end):
                course.begin_unread(head)
                self._fail(course, errors.BAD_REQUEST_BODY, "not as much content as its content-length says")
                return
        if head.kinds & _UPGRADE or head.method == b"CONNECT":
            self._ahead = payload
            self._awaits_tunnel = True
            course.begin(head, b"", True, NO_TRAILERS)
        else:
            if trailers:
                trailers = wanted_trailers(trailers, drops_underscored=self._live.plan.drops_underscored)
            course.begin(head, payload, is_end, trailers)

    def _begin(self) -> Course:
        self._ahead = b""
        self._awaits_tunnel = self._is_delivering = self._is_over = False
        course = self._course
        if course is None:
            course = self._course = self._home.make_course(self)
        return course

    def on_data(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the request's content, or of what the client says in a tunnel."""
        course = self._course
        if course is None or course.exchange is None:
            return
        try:
            self._on_data(course, payload, is_end, trailers)
        except Exception:
            self._on_mistake(course)

    def _on_data(self, course: Course, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        if self.left >= 0 and not self.take(len(payload), is_end):
            self._fail(course, errors.BAD_REQUEST_BODY, "not as much content as its content-length says")
        elif course.tunnel is not None:
            if payload:
                course.tunnel.on_client_data(payload)
            if is_end and course.tunnel is not None:
                course.tunnel.on_client_eof()
        elif self._awaits_tunnel:
            # The window bounds it: none is given back before somebody takes it.
            self._session.hold(self)
            self._ahead += payload
        else:
            if not self._is_delivering:  # what is sent to no use must not keep waiting what is not read
                self.touch()
            if trailers:
                trailers = wanted_trailers(trailers, drops_underscored=self._live.plan.drops_underscored)
            course.on_body(payload, is_end, trailers)

    def on_too_large(self, is_end: bool) -> None:
        """The head has more fields or octets than it may."""
        course = self._begin()
        course.begin_unread(None)
        course.fail(errors.HEAD_TOO_LARGE, "more than limits.max_header_bytes or limits.max_headers")

    def on_withdrawn(self, fields: list[Field]) -> None:
        """The client has thought better of it before anybody had begun."""
        course = self._begin()
        try:
            course.begin_unread(request_head(fields, True))
        except MalformedError:
            course.begin_unread(None)
        course.on_client_lost("reset at once")
        self._leave()

    def on_reset(self, code: int) -> None:
        """The client does not want the answer any more."""
        self.on_connection_lost(f"reset by the client: {name_of(code)}")

    def on_connection_lost(self, detail: str) -> None:
        """The client is gone, or this request of it."""
        course = self._running()
        if course is not None:
            course.on_client_lost(detail)
            # It may be finished without its client, by another in our place; and is not fit for the next otherwise.
            self._course = None
        self._leave()

    def on_fault(self, code: int, detail: str) -> None:
        """The client has broken a rule on this stream, which is reset for it."""
        running = self._running()
        if running is not None:
            running.fail(errors.BAD_REQUEST_BODY, f"{name_of(code)}: {detail}", False)
        elif self.deadline < inf:
            self._leave()  # it was answered, and recorded; what of that still waited is not sent
        else:
            course = self._begin()
            course.begin_unread(None)
            course.fail(errors.BAD_REQUEST, f"{name_of(code)}: {detail}", False)

    def on_blocked(self) -> None:
        """The client reads slower than the upstream sends."""
        course = self._running()
        if course is not None:
            course.on_client_blocked()

    def on_writable(self) -> None:
        """The client has caught up."""
        course = self._running()
        if course is not None and not self._is_delivering:
            self.touch()
            course.on_client_writable()

    def on_moved(self) -> None:
        """The client reads, however slowly."""
        if self.deadline < inf:
            self.touch()

    def on_sent(self) -> None:
        """All of the response has left."""
        if self._is_over:
            self._end()
            return
        course = self._running()
        if course is not None and self._is_delivering:
            self._is_delivering = False
            course.on_client_writable()

    def _running(self) -> Course | None:
        course = self._course
        return course if course is not None and course.exchange is not None else None

    def _refuse(self, course: Course, reason: Reason, detail: str) -> None:
        """What came is no request: "a stream error of type PROTOCOL_ERROR" (RFC 9113, 8.1.1)."""
        course.begin_unread(None)
        self._fail(course, reason, detail)

    def _fail(self, course: Course, reason: Reason, detail: str) -> None:
        if not self.is_closed:
            self._session.break_off(self, Code.PROTOCOL_ERROR)
        course.fail(reason, detail, False)

    # --- the runtime's side ------------------------------------------------------------------------------------

    def abort(self) -> None:
        """The process ends."""
        course = self._running()
        if course is not None:
            course.abort()
        self.reset()

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""
        course = self._running()
        if course is not None:
            course.on_deadline(now)
        elif not self.is_closed:
            self.reset()

    def drop(self) -> None:
        """It takes no further request: let go of the course, which knows it."""
        self._course = None
        self._live.timers.forget(self)

    # --- the course's side, as far as it lives -----------------------------------------------------------------

    def touch(self) -> None:
        """Something moved: put the deadline off."""
        timers, course, limits = self._live.timers, self._course, self._live.plan.limits
        is_tunnel = course is not None and course.tunnel is not None
        deadline = timers.time() + (limits.tunnel_idle_timeout_s if is_tunnel else limits.stream_idle_timeout_s)
        # Of an exchange that is over, because its time was, the answer has time to leave.
        self.deadline = deadline if course is None or course.exchange is None else min(deadline, course.expires_at)
        if self.bucket == NOT_ARMED:
            timers.arm(self, self.deadline)

    def update_reading(self) -> None:
        """Give the client a window as long as there is somebody who takes what it sends."""
        if self._course is not None and self._course.is_upstream_blocked:
            self._session.hold(self)
        else:
            self._session.unhold(self)

    def awaits_delivery(self) -> bool:
        """Whether something waits for a window."""
        if self.queue is None:
            return False
        self._is_delivering = True
        self.touch()
        return True

    def on_switched(self) -> None:
        """From here the content is another protocol's; what the client sent ahead is its first."""
        course = self._course
        assert course is not None
        ahead, self._ahead = self._ahead, b""
        self._awaits_tunnel = False
        if ahead and course.tunnel is not None:
            course.tunnel.on_client_data(ahead)
        if self.has_remote_ended and course.tunnel is not None:
            course.tunnel.on_client_eof()
        self.update_reading()
        self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.tunnel_idle_timeout_s)

    def on_exchange_over(self) -> None:
        """It is answered; what the client has still to say of it is of no use."""
        if self.queue is None:
            self._end()
        else:
            self._is_over = True
            self.touch()

    def close(self) -> None:
        """The tunnel is over."""
        if not self.has_local_ended and not self.ends and not self.is_closed:
            self._session.send_data(self, b"", True, NO_TRAILERS)
        self.on_exchange_over()

    def reset(self) -> None:
        """Show that what was sent is not whole."""
        self._session.reset(self, Code.INTERNAL_ERROR)
        self._course = None
        self._leave()

    def _end(self) -> None:
        if not self.is_closed:
            # "without error" (RFC 9113, 8.1): the response is whole, though not all of the request has come.
            self._session.reset(self, Code.NO_ERROR)
        self._leave()

    def _leave(self) -> None:
        if not self._is_over or self.deadline < inf:
            self._is_over = True
            self._ahead = b""
            self.deadline = inf
            self._home.release(self)

    # --- the course's side, as far as something is sent --------------------------------------------------------

    def send_informational(self, request: RequestHead, head: ResponseHead, fields: list[Field]) -> None:
        """Pass a 1xx response on."""
        self._session.send_message(self, response_fields(head, fields), b"", False, NO_TRAILERS)

    def send_response(
        self,
        request: RequestHead,
        head: ResponseHead,
        fields: list[Field],
        payload: bytes,
        is_end: bool,
        trailers: list[Field],
    ) -> None:
        """Write the head and what there is of the content."""
        self._session.send_message(self, response_fields(head, fields), payload, is_end, trailers)

    def send_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Write more of the content."""
        self._session.send_data(self, payload, is_end, trailers)

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """Nothing goes past the process: content is in frames."""
        self._session.send_data(self, first, False, NO_TRAILERS)
        return 0

    def send_reply(
        self, request: RequestHead | None, status: int, fields: list[Field], body: bytes, *, is_last: bool
    ) -> None:
        """Write an answer of the proxy's own."""
        has_body = status >= 200 and status not in (204, 304) and (request is None or request.method != b"HEAD")
        payload = body if has_body else b""
        self._session.send_message(self, reply_fields(status, fields, len(body)), payload, True, NO_TRAILERS)

    def send_switch(self, head: ResponseHead | None, fields: list[Field], protocol: bytes, rest: bytes) -> None:
        """Tell the client that its tunnel stands, and what came of it already."""
        self._session.send_message(self, switch_fields(head, fields), rest, False, NO_TRAILERS)

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel for the client."""
        if data:
            self._session.send_data(self, data, False, NO_TRAILERS)

    def end_tunnel(self) -> None:
        """No more of the tunnel's bytes will come for the client."""
        self._session.send_data(self, b"", True, NO_TRAILERS)
