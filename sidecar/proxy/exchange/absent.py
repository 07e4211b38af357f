"""
In the place of a client that has left, when its exchange is to be carried to its end all the same. *Cold.*

`limits.on_client_reset: finish` is for requests whose work matters more than their answer. What the upstream says is
taken and dropped; the same deadlines hold, and a drain waits for it as for a client's connection.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol

from sidecar.message import Field, RequestHead, ResponseHead
from sidecar.net.timers import NOT_ARMED
from sidecar.proxy.exchange.interfaces import ClientStream, ResponseWriter
from sidecar.proxy.live import ListenerState, Live


class UnattendedCourse(Protocol):
    """Whose client has left."""

    expires_at: float

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""

    def abort(self) -> None:
        """The process ends."""


class AbsentClient(ClientStream, ResponseWriter):
    """
    It is the `ClientStream` and the `ResponseWriter` of its course, and a client's connection to whoever drains those.

    Args:
        live: What all connections share.
        listener_state: By which the client had come.
        course: Goes on.
    """

    __slots__ = ("_course", "_live", "bucket", "deadline", "listener_state")

    def __init__(self, live: Live, listener_state: ListenerState, course: UnattendedCourse) -> None:
        self._live = live
        self._course: UnattendedCourse | None = course
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED
        live.connections[listener_state.listener.direction].add(self)

    # --- whoever drains connections ----------------------------------------------------------------------------

    def announce_close(self) -> None:
        """It ends anyway."""

    def drain(self) -> None:
        """It ends anyway."""

    def abort(self) -> None:
        """End now."""
        course = self._course
        if course is not None:
            course.abort()
        self.close()

    # --- as far as it lives ------------------------------------------------------------------------------------

    def touch(self) -> None:
        """The exchange goes on: as much time as it would have with its client."""
        course, timers = self._course, self._live.timers
        if course is not None:
            idle_timeout_s = self._live.plan.limits.stream_idle_timeout_s
            timers.arm(self, min(timers.time() + idle_timeout_s, course.expires_at))

    def on_deadline(self, now: float) -> None:
        """Passed on."""
        if self._course is not None:
            self._course.on_deadline(now)

    def update_reading(self) -> None:
        """Nothing more is read."""

    def awaits_delivery(self) -> bool:
        """Nothing is delivered."""
        return False

    def on_switched(self) -> None:
        """There is nobody at this end of a tunnel."""
        self.abort()

    def on_exchange_over(self) -> None:
        """It is over."""
        self.close()

    def reset(self) -> None:
        """It is over."""
        self.close()

    def close(self) -> None:
        """It is over."""
        self._course = None
        self._live.timers.forget(self)
        self._live.connections[self.listener_state.listener.direction].discard(self)

    # --- as far as something is sent ---------------------------------------------------------------------------

    def send_informational(self, request: RequestHead, head: ResponseHead, fields: list[Field]) -> None:
        """Dropped."""

    def send_response(
        self,
        request: RequestHead,
        head: ResponseHead,
        fields: list[Field],
        payload: bytes,
        is_end: bool,
        trailers: list[Field],
    ) -> None:
        """Dropped."""

    def send_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Dropped."""

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """It is to be read, and dropped."""
        return 0

    def send_reply(
        self, request: RequestHead | None, status: int, fields: list[Field], body: bytes, *, is_last: bool
    ) -> None:
        """Dropped."""

    def send_switch(self, head: ResponseHead | None, fields: list[Field], protocol: bytes, rest: bytes) -> None:
        """Dropped."""

    def send_tunnel(self, data: bytes) -> None:
        """Dropped."""

    def end_tunnel(self) -> None:
        """Dropped."""
