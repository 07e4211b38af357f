"""
A client's connection that is no HTTP's: carried as it is to the upstream that has its destination, or there. *Hot path:
its octets.*

It is a tunnel from its start: the same course, forwarder and tunnel as of a `CONNECT`, of which the client knows
nothing. So it is balanced, limited, tried elsewhere and recorded by the same code; nothing is answered to the client,
and one that cannot be served is reset.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final

from sidecar.exchange import Direction
from sidecar.message import Field, RequestHead, ResponseHead, Version
from sidecar.net.detect import Protocol, detect, goes_to_proxy, looks_like_http
from sidecar.net.flow import BatchingWriter
from sidecar.net.timers import NOT_ARMED
from sidecar.peer import Peer
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.client.lingering import LingeringConnection
from sidecar.proxy.exchange.course import Course
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.live import ClientConnection as Opening
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.origin import peer_of

# Octets of the client that are held while its server is dialled; then it is paused.
_MAX_AHEAD_BYTES: Final = 64 * 1024


def head_of(destination: Destination | None, name: str) -> RequestHead:
    """What a connection is called by: the name that it asks for itself, or where it was meant to go, if anywhere."""
    head = RequestHead(b"CONNECT", b"", None, Version.HTTP11)
    head.host = name.lower().encode("ascii", "replace")
    if destination is not None:
        head.host = head.host or destination.host
        head.port = destination.port
    return head


class TcpConnection(BatchingWriter):
    """
    An `asyncio.Protocol` by its methods, and by them a `ClientStream` and a `ResponseWriter` to its course.

    Args:
        destination: Where it was meant to go that was led here; None: here.
    """

    __slots__ = (
        "_course",
        "_destination",
        "_has_client_ended",
        "_held",
        "_is_over",
        "_is_paused",
        "_is_unheard",
        "_live",
        "_opened_ns",
        "bucket",
        "deadline",
        "listener_state",
        "secured",
    )

    def __init__(self, live: Live, listener_state: ListenerState, destination: Destination | None) -> None:
        super().__init__(live.outbox)
        self._live = live
        self._destination = destination
        self._opened_ns = 0
        self._course: Course | None = None
        self._held = b""
        self._has_client_ended = False
        self._is_over = False
        self._is_paused = False
        self._is_unheard = False
        self.listener_state = listener_state
        self.secured: Peer | None = None
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        return f"<TcpConnection {self._course!r}>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Nobody could be told."""

    def drain(self) -> None:
        """It goes on until it ends, or the drain does."""

    def abort(self) -> None:
        """Close now."""
        course = self._course
        if course is not None and course.exchange is not None:
            course.abort()
        self.reset()

    def take_over(
        self, opening: Opening, transport: asyncio.Transport, opened_ns: int, secured: Peer | None = None
    ) -> None:
        """In the place of another, a client that was admitted is carried on over this; `begin` follows."""
        self._opened_ns, self.secured = opened_ns, secured
        self.attach(transport)
        self._live.replace(opening, self, inf if secured is None else secured.not_after_s)

    def begin(self, protocol: str, name: str = "", data: bytes = b"", *, is_unheard: bool = False) -> None:
        """
        Carry it on.

        Args:
            protocol: As `Exchange.protocol`.
            name: Of the server, as the client asks for it; empty if it does not.
            data: What the client has sent.
            is_unheard: It has sent nothing for a while: should it speak before the server does, it may be HTTP's.
        """
        self._held, self._is_unheard = data, is_unheard
        peer = peer_of(self.transport.get_extra_info("peername"))
        self._course = course = Course(
            self._live, self.listener_state, self, self, peer, b"", self.secured, self._destination
        )  # fmt: skip
        course.begin_stream(head_of(self._destination, name), protocol)

    # --- the transport's side --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Octets for the server."""
        course = self._course
        if course is None:
            return
        if self._is_unheard and self._is_http(data):
            self._become_http(data)
        elif course.tunnel is not None:
            course.tunnel.on_client_data(data)
        else:
            self._held += data
            self.update_reading()

    def eof_received(self) -> bool:
        """The client sends no more; the other direction goes on."""
        course = self._course
        self._has_client_ended = True
        if course is not None and course.tunnel is not None:
            return course.tunnel.on_client_eof()
        return course is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        course = self._course
        if course is not None and course.exchange is not None:
            course.on_client_lost(str(exc or ""))
        if not self._is_over:
            self._forget()

    def pause_writing(self) -> None:
        """The client reads slower than the server sends."""
        if self._course is not None and self._course.exchange is not None:
            self._course.on_client_blocked()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._course is not None and self._course.exchange is not None:
            self.touch()
            self._course.on_client_writable()

    def on_deadline(self, now: float) -> None:
        """Nothing has moved for too long."""
        course = self._course
        if course is not None and course.exchange is not None:
            course.on_deadline(now)
        else:
            self.reset()

    # --- a client that spoke late ----------------------------------------------------------------------------

    def _is_http(self, data: bytes) -> bool:
        """Whether a client that was silent at first speaks HTTP now, its server having said nothing."""
        self._is_unheard = False
        protocol = detect(data)
        is_http = protocol == Protocol.HTTP1 or (protocol == Protocol.UNKNOWN and looks_like_http(data))
        is_inbound = self.listener_state.listener.direction is Direction.INBOUND
        return is_http and (is_inbound or self._destination is None or not goes_to_proxy(data))

    def _become_http(self, data: bytes) -> None:
        """A connection of HTTP takes its place; the server that was dialled is left."""
        course, transport, live = self._course, self.transport, self._live
        assert course is not None
        connection = ClientConnection(live, self.listener_state)
        transport.set_protocol(connection)  # type: ignore[arg-type]
        connection.take_over(self, transport, self._opened_ns, self.secured, self._destination)
        self._is_over = True
        self._course = None
        live.timers.forget(self)
        course.on_client_lost("speaks HTTP after all")
        connection.serve()
        connection.data_received(data)

    # --- the course's side: the client as far as it lives ------------------------------------------------------

    def touch(self) -> None:
        """Something moved: put the deadline off."""
        timers, limits = self._live.timers, self._live.plan.limits
        self.deadline = timers.time() + limits.tunnel_idle_timeout_s
        if self.bucket == NOT_ARMED:
            timers.arm(self, self.deadline)

    def update_reading(self) -> None:
        """Read unless what was read has nowhere to go."""
        course = self._course
        pauses = course is not None and (course.is_upstream_blocked or len(self._held) > _MAX_AHEAD_BYTES)
        if pauses != self._is_paused:
            self._is_paused = pauses
            if not self.transport.is_closing():
                self.transport.pause_reading() if pauses else self.transport.resume_reading()

    def awaits_delivery(self) -> bool:
        """There is no response whose end could be told."""
        return False

    def on_switched(self) -> None:
        """The server is there: what the client has sent is its first."""
        course = self._course
        assert course is not None
        held, self._held = self._held, b""
        if held and course.tunnel is not None:
            course.tunnel.on_client_data(held)
        if self._has_client_ended and course.tunnel is not None:
            course.tunnel.on_client_eof()
        self.update_reading()
        # Armed, not touched: it may come sooner than the deadline before, which is in a later bucket.
        self._live.timers.arm(self, self._live.timers.time() + self._live.plan.limits.tunnel_idle_timeout_s)

    def on_exchange_over(self) -> None:
        """It is over."""
        self.close()

    def close(self) -> None:
        """Close when everything has been sent."""
        if self._is_over:
            return
        self.flush()
        transport, live = self.transport, self._live
        if transport.get_write_buffer_size():
            # A client that does not read must not hold it for ever.
            patience_s = live.plan.limits.stream_idle_timeout_s
            live.replace(self, LingeringConnection(live, self.listener_state, transport, self._opened_ns, patience_s))
        self._forget()
        transport.close()

    def reset(self) -> None:
        """Close at once, in a way that shows that not all has come."""
        if not self._is_over:
            self.flush()  # what came first goes first
            self._forget()
            self.cut()

    def _forget(self) -> None:
        self._is_over = True
        self._course = None
        self._held = b""
        self._live.timers.forget(self)
        self._live.forget(self, self._opened_ns)

    # --- the course's side: the client as far as something is sent ---------------------------------------------

    def send_switch(self, head: ResponseHead | None, fields: list[Field], protocol: bytes, rest: bytes) -> None:
        """The client is told nothing of it but the first octets."""
        if rest:
            self.send_tunnel(rest)

    def send_tunnel(self, data: bytes) -> None:
        """Octets for the client."""
        if self._is_unheard:
            self._is_unheard = False
            self._live.silent.add(self._destination or self.listener_state.listener.address)
        self.write(data)

    def end_tunnel(self) -> None:
        """No more octets will come for the client."""
        self.end_writing()

    def send_informational(self, request: RequestHead, head: ResponseHead, fields: list[Field]) -> None:
        """There is no HTTP, as in the three that follow."""
        raise AssertionError("a response to no request")

    def send_response(
        self, request: RequestHead, head: ResponseHead, fields: list[Field], payload: bytes, is_end: bool,
        trailers: list[Field],
    ) -> None:  # fmt: skip
        """As `send_informational`."""
        raise AssertionError("a response to no request")

    def send_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """As `send_informational`."""
        raise AssertionError("a response to no request")

    def send_reply(
        self, request: RequestHead | None, status: int, fields: list[Field], body: bytes, *, is_last: bool
    ) -> None:
        """As `send_informational`."""
        raise AssertionError("an answer to no request")
