"""
What both ends of a connection of HTTP/2 say of the connection itself (RFC 9113, 6.3 to 6.9), and what is too
much of it. *Hot path; pure.*

The second of three layers of one object, so that a connection is one, and small: `sending`, this, `session`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.http2 import bounds, frames
from sidecar.http2.bounds import Budget
from sidecar.http2.codes import (
    DEFAULT_MAX_FRAME,
    LARGEST_MAX_FRAME,
    MAX_OUR_FRAME,
    MAX_STREAM_ID,
    MAX_WINDOW,
    Code,
    Flag,
    FrameType,
    SessionError,
    Setting,
)
from sidecar.http2.sending import Sending, SessionOwner
from sidecar.http2.streams import Stream
from sidecar.message import NO_TRAILERS, Field

_PING_BYTES: Final = 8
_FOUR: Final = 4
_SETTING_BYTES: Final = 6


class Control(Sending):
    """
    Args:
        owner: The connection.
        is_server: The peer is a client, and opens the streams.
        window_bytes: That the peer may send on a stream before we have taken any of it.
        max_resets: `bounds`.
        now: Seconds, on a clock that never goes back.

    Attributes:
        last_id: The highest number of a stream that the peer has opened and we have looked at.
        has_settings: The peer has said what it allows.
        allows_extended_connect: The peer is a server that takes `:protocol` (RFC 8441).
    """

    __slots__ = (
        "_event_end",
        "_event_fields",
        "_event_payload",
        "_event_trailers",
        "_is_server",
        "_refuses_above",
        "_resets",
        "allows_extended_connect",
        "has_settings",
        "last_id",
    )

    def __init__(
        self, owner: SessionOwner, is_server: bool, window_bytes: int, max_resets: int, now: Callable[[], float]
    ) -> None:
        super().__init__(owner, window_bytes, now)
        self._is_server = is_server
        self._resets = Budget(max_resets, max_resets, now)
        self._refuses_above = MAX_STREAM_ID
        self._event_fields: list[Field] | None = None
        self._event_payload = b""
        self._event_end = False
        self._event_trailers = NO_TRAILERS
        self.last_id = 0
        self.has_settings = False
        self.allows_extended_connect = False

    def announce_end(self) -> None:
        """Say that the connection will end, and let the peer open what it has begun to open (6.8)."""
        self._owner.write(frames.goaway(MAX_STREAM_ID, Code.NO_ERROR))

    def end(self) -> None:
        """Take no further stream: later ones are as if they had never come, and the peer may repeat them elsewhere."""
        if self._refuses_above == MAX_STREAM_ID:
            self._refuses_above = self.last_id
            self._owner.write(frames.goaway(self.last_id, Code.NO_ERROR))

    def ping(self, data: bytes) -> None:
        """Ask for an answer: eight octets that it will have."""
        self._owner.write(frames.ping(data, is_ack=False))

    def _drop_event(self) -> None:
        """Forget what has come and is not told yet."""
        self._event_stream = self._event_fields = None
        self._event_payload = b""
        self._event_end = False
        self._event_trailers = NO_TRAILERS

    def _tell(self) -> None:
        """Tell what has come and is not told yet."""
        raise NotImplementedError

    # --- what the peer sends -----------------------------------------------------------------------------------

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """A frame that carries no part of a message."""
        if kind == FrameType.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == FrameType.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == FrameType.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == FrameType.GOAWAY:
            self._on_goaway(stream_id, payload)
        elif kind == FrameType.PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == FrameType.PUSH_PROMISE:
            raise SessionError(Code.PROTOCOL_ERROR, "a push that nobody wants")  # 6.6 and 8.4
        else:
            self._require_settings()
            self._tire("a frame of an unknown type")  # 5.5: ignored

    def _require_settings(self) -> None:
        if not self.has_settings:
            raise SessionError(Code.PROTOCOL_ERROR, "no settings first")  # 3.4

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if len(payload) != _FOUR:
            raise SessionError(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        self._tire("WINDOW_UPDATE")
        size = int.from_bytes(payload, "big") & MAX_WINDOW
        if stream_id == 0:
            if not size:
                raise SessionError(Code.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self.send_window += size
            if self.send_window > MAX_WINDOW:
                raise SessionError(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
            if self._ready:
                self._pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_idle(stream_id, "WINDOW_UPDATE")
        elif not size:
            self._fault(stream, Code.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        elif stream.send_window + size > MAX_WINDOW:
            self._fault(stream, Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
        else:
            stream.send_window += size
            if stream.queue is not None and stream.send_window > 0:
                self._ready[stream.id] = stream
                self._pump()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise SessionError(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & Flag.ACK:
            self._require_settings()
            if payload:
                raise SessionError(Code.FRAME_SIZE_ERROR, "an acknowledgement that is not empty")
            self._tire("SETTINGS")
            return
        if len(payload) % _SETTING_BYTES:
            raise SessionError(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if len(payload) > bounds.MAX_SETTINGS * _SETTING_BYTES:
            raise SessionError(Code.ENHANCE_YOUR_CALM, f"more than {bounds.MAX_SETTINGS} settings in a frame")
        if self.has_settings:
            self._tire("SETTINGS")
        for key, value in frames.read_settings(payload):
            self._on_setting(key, value)
        self.has_settings = True
        # Before anything is sent as they allow: until it has read this, the peer may hold us to what it said before.
        self._owner.write(frames.SETTINGS_ACK)
        if self._ready:
            self._pump()
        self._owner.on_settings()

    def _on_setting(self, key: int, value: int) -> None:
        """One value (6.5.2); those that we do not know mean nothing to us."""
        if key == Setting.HEADER_TABLE_SIZE:
            self._encoder.set_max_table_bytes(value)
        elif key == Setting.ENABLE_PUSH:
            if value > 1 or (value and not self._is_server):
                raise SessionError(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}")
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise SessionError(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
            difference = value - self._peer_window
            self._peer_window = value
            for stream in list(self.streams.values()) if difference else ():
                stream.send_window += difference
                if stream.send_window > MAX_WINDOW:
                    raise SessionError(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
                if stream.queue is not None and stream.send_window > 0:
                    self._ready[stream.id] = stream
        elif key == Setting.MAX_FRAME_SIZE:
            if not DEFAULT_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
                raise SessionError(Code.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}")
            self._max_frame = min(value, MAX_OUR_FRAME)
        elif key == Setting.ENABLE_CONNECT_PROTOCOL:
            if value > 1 or (self.allows_extended_connect and not value):
                raise SessionError(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_CONNECT_PROTOCOL of {value}")
            self.allows_extended_connect = value == 1 and not self._is_server

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if stream_id:
            raise SessionError(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != _PING_BYTES:
            raise SessionError(Code.FRAME_SIZE_ERROR, "PING of a wrong length")
        self._tire("PING")
        if flags & Flag.ACK:
            self._owner.on_ping_answered(payload)
        else:
            self._owner.write(frames.ping(payload, is_ack=True))

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if stream_id:
            raise SessionError(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 2 * _FOUR:
            raise SessionError(Code.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        self._tire("GOAWAY")
        if self._event_stream is not None:
            self._tell()
        last_id = int.from_bytes(payload[:4], "big") & MAX_STREAM_ID
        self.is_going_away = True
        if not self._is_server:
            for stream in [stream for number, stream in self.streams.items() if number > last_id]:
                # "Endpoints SHOULD treat these as though they had never been created": they may be sent elsewhere.
                self._close(stream)
                stream.on_reset(Code.REFUSED_STREAM)
        self._owner.on_going_away(int.from_bytes(payload[4:8], "big"), payload[8:])

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        """5.3.2: nothing is made of it."""
        self._require_settings()
        if stream_id == 0:
            raise SessionError(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._tire("PRIORITY")
        stream = self.streams.get(stream_id)
        if len(payload) != _FOUR + 1:
            if stream is None:
                raise SessionError(Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
            self._fault(stream, Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        elif stream is not None and int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
            self._fault(stream, Code.PROTOCOL_ERROR, "a stream that depends on itself")

    # --- what is too much ----------------------------------------------------------------------------------------

    def _tire(self, what: str) -> None:
        """A frame that carries nothing."""
        self._patience.left -= 1
        if self._patience.left < 0 and not self._patience.refill():
            raise SessionError(Code.ENHANCE_YOUR_CALM, f"too many frames that carry nothing, the last of them {what}")

    def _spend_reset(self, what: str) -> None:
        self._resets.left -= 1
        if self._resets.left < 0 and not self._resets.refill():
            raise SessionError(Code.ENHANCE_YOUR_CALM, f"too many {what}")

    def _fault(self, stream: Stream, code: int, detail: str) -> None:
        """The peer has broken a rule on a stream, which is reset for it, and hears of it."""
        if self._event_stream is stream:
            self._drop_event()
        self.reset(stream, code)
        stream.on_fault(code, detail)
        self._spend_reset("streams on which a rule is broken")

    def break_off(self, stream: Stream, code: int) -> None:
        """As `reset`, for a message that breaks a rule: what such cost is bounded."""
        self.reset(stream, code)
        self._resets.left -= 1  # the next frame of theirs meets it

    def _check_closed(self, stream_id: int, what: str) -> None:
        """
        A frame for a stream that is not open: it is ignored if that is because we have reset it (5.1).

        Of servers also if nobody knows any more: so many resets within a moment are clients' that give up, and a server
        that has not heard of them yet must not lose the connection for all others.
        """
        self._check_idle(stream_id, what)
        if stream_id in self._forgotten or stream_id > self._refuses_above:
            return
        if self._is_server or len(self._forgotten) < bounds.MAX_REMEMBERED:
            raise SessionError(Code.STREAM_CLOSED, f"{what} on a closed stream")

    def _check_idle(self, stream_id: int, what: str) -> None:
        """Nothing may be said of a stream that was never opened, nor of the connection as if it were a stream."""
        if self._is_server:
            was_open = stream_id & 1 and (stream_id <= self.last_id or stream_id > self._refuses_above)
        else:
            was_open = stream_id & 1 and stream_id < self._next_id
        if not was_open:
            raise SessionError(Code.PROTOCOL_ERROR, f"{what} on a stream that is not open")
