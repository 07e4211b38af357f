"""
Responses as a client of HTTP/1.1 receives them, and whether each is the connection's last. *Hot path.*
"""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.http1.body import frame, frame_parts
from sidecar.http1.date import DATE
from sidecar.http1.forward import response_bytes
from sidecar.http1.reply import reply_bytes
from sidecar.http1.request_reader import RequestReader
from sidecar.message import Field, Framing, Kind, RequestHead, ResponseHead
from sidecar.net.flow import MUCH_BYTES, BatchingWriter
from sidecar.proxy.exchange.course import Course
from sidecar.proxy.exchange.interfaces import ClientStream, ResponseWriter
from sidecar.proxy.live import Live

# Rest of a request body that is read and dropped to keep a connection; more costs more than a new connection.
MAX_DISCARD_BYTES: Final = 64 * 1024
# More than a round trip within a data centre, after which a client that has gone has answered with a reset.
FIRST_LOOK_S: Final = 0.1
_TUNNEL_BEGINS: Final = b"HTTP/1.1 200 Connection established\r\n%b\r\n\r\n"


class Http1ResponseWriter(ResponseWriter):
    """
    Args:
        connection: Where to write.
        reader: Reads the requests, of which the body may not have come whole.
        is_ending: Whatever response begins next is the last.

    Attributes:
        closes: The response that was begun is the connection's last.
        delivery_s: Until the next look whether what was written has left, in seconds; 0 while nobody waits for that.
        framing: How the end of the response is recognised.
    """

    __slots__ = ("_connection", "_reader", "closes", "delivery_s", "framing", "is_ending")

    def __init__(self, connection: BatchingWriter, reader: RequestReader, is_ending: bool) -> None:
        self._connection = connection
        self._reader = reader
        self.closes = False
        self.delivery_s = 0.0
        self.framing: int = Framing.NONE
        self.is_ending = is_ending

    def can_discard(self) -> bool:
        """Whether the rest of the request's body is worth reading, to keep the connection."""
        return 0 < self._reader.body.left <= MAX_DISCARD_BYTES

    def send_informational(self, request: RequestHead, head: ResponseHead, fields: list[Field]) -> None:
        """
        Pass a 1xx response on.

        "A proxy MUST forward 1xx responses" (RFC 9110, 15.2), but for clients of HTTP/1.0, which know none.
        """
        if request.version:
            self._connection.write(response_bytes(head, fields, Framing.NONE, b""))

    def send_response(
        self,
        request: RequestHead,
        head: ResponseHead,
        fields: list[Field],
        payload: bytes,
        is_end: bool,
        trailers: list[Field],
    ) -> None:
        """Write the head and what there is of the body."""
        framing = head.framing
        if framing > Framing.LENGTH:
            if request.version:
                framing = Framing.CHUNKED
            else:
                framing = Framing.CLOSE
                self.closes = True
        self.framing = framing
        data = response_bytes(head, fields, framing, self._connection_option(request, is_end))
        size = len(payload)
        if size > MUCH_BYTES:
            self._connection.write_much([data, *frame_parts(framing, [payload], is_end, trailers)])
            return
        if framing != Framing.CHUNKED:
            data += payload
        elif size or is_end:
            data += frame(framing, payload, is_end, trailers)
        self._connection.write(data)

    def send_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Write more of the body."""
        if self.framing != Framing.CHUNKED:
            if payload:
                self._connection.write(payload)
        elif len(payload) > MUCH_BYTES:
            self._connection.write_much(frame_parts(self.framing, [payload], is_end, trailers))
        elif payload or is_end:
            self._connection.write(frame(self.framing, payload, is_end, trailers))

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """Let more of the body go by, whose length the client was told."""
        return self._connection.splice_from(first, source, limit)

    def send_reply(
        self, request: RequestHead | None, status: int, fields: list[Field], body: bytes, *, is_last: bool
    ) -> None:
        """Write an answer of the proxy's own."""
        if is_last:
            self.closes = True
        is_head = request is not None and request.method == b"HEAD"
        option = self._connection_option(request, True)
        self._connection.write(reply_bytes(status, fields, body, is_head=is_head, connection=option))

    def _connection_option(self, request: RequestHead | None, is_last: bool) -> bytes:
        """
        Decide, before a response head is written, whether it is the connection's last.

        Args:
            request: What it answers; None for what should have been a request.
            is_last: Nothing comes behind what is written with this head.
        """
        if request is None or self.is_ending or not request.keep_alive:
            self.closes = True
        # A client that waits for 100 may never send its body, or may send the next request in its place.
        is_early = not self._reader.body.is_complete
        if is_early and request is not None and (request.kinds & Kind.EXPECT or (is_last and not self.can_discard())):
            self.closes = True
        if self.closes:
            return b"close"
        return b"" if request is None or request.version else b"keep-alive"

    def send_switch(self, head: ResponseHead | None, fields: list[Field], protocol: bytes, rest: bytes) -> None:
        """Tell the client that its tunnel stands, and what came of it already."""
        if head is None:
            self._connection.write(_TUNNEL_BEGINS % DATE.now().wire + rest)
        else:
            data = response_bytes(head, fields, Framing.NONE, b"upgrade\r\nupgrade: " + protocol)
            self._connection.write(data + rest)

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel for the client."""
        self._connection.write(data)

    def end_tunnel(self) -> None:
        """No more of the tunnel's bytes will come for the client."""
        self._connection.end_writing()

    def look_for_delivery(self, course: Course, client: ClientStream, live: Live, now: float) -> None:
        """Whether a client that has ended is there, or gone: then the kernel has its reset, which no read tells."""
        connection = self._connection
        if connection.is_reset():
            course.on_client_lost("gone before the response had arrived")
            client.reset()
        elif not connection.unacknowledged():
            self.delivery_s = 0.0
            course.on_client_writable()
        elif self.delivery_s < live.plan.limits.stream_idle_timeout_s:
            self.delivery_s *= 2
            live.timers.arm(client, now + self.delivery_s)
        else:
            course.on_deadline(now)
