"""
The half of a connection of HTTP/2 that sends: windows, what waits for them, field blocks (RFC 9113, 5.2). *Hot path;
pure.*

Field blocks are encoded at the moment of writing, because each changes what the next ones mean (RFC 7541, 2.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from sidecar.http2 import bounds, frames
from sidecar.http2.bounds import Budget
from sidecar.http2.codes import DEFAULT_MAX_FRAME, DEFAULT_WINDOW, MAX_STREAM_ID
from sidecar.http2.hpack.encoder import Encoder
from sidecar.http2.streams import HIGH_BYTES, LOW_BYTES, Stream
from sidecar.message import Field

_MANY: Final = 16 * 1024


class SessionOwner(Protocol):
    """The connection: where octets go, and who is told what is no stream's."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send."""

    def write_much(self, parts: list[bytes]) -> None:
        """Send what is large, without joining it."""

    def new_stream(self) -> Stream | None:
        """The peer opens a stream: what is to hear of it; None: it is refused."""

    def on_stream_closed(self, stream: Stream) -> None:
        """A stream is over, whoever ended it; its own calls come behind this."""

    def on_settings(self) -> None:
        """The peer has said what it allows, for the first time or anew."""

    def on_going_away(self, code: int, detail: bytes) -> None:
        """The peer takes no further streams."""

    def on_ping_answered(self, data: bytes) -> None:
        """The peer has answered a PING of ours."""

    def defer(self) -> None:
        """More has come than is taken in one turn: call `receive(b"")` in another, and read nothing till then."""


class _Nobody:
    """
    In the owner's place when a connection is over: it knows its session, which must not know it then. A circle would be
    the collector's, and what a reload finds under way that never looks at again.
    """

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def write_much(self, parts: list[bytes]) -> None:
        """Nobody reads it."""

    def new_stream(self) -> Stream | None:
        """There will be none."""
        return None

    def on_stream_closed(self, stream: Stream) -> None:
        """It is over anyhow."""

    def on_settings(self) -> None:
        """They mean nothing any more."""

    def on_going_away(self, code: int, detail: bytes) -> None:
        """It is gone."""

    def on_ping_answered(self, data: bytes) -> None:
        """Nobody has asked."""

    def defer(self) -> None:
        """Nothing comes."""


NOBODY: Final = _Nobody()


class Sending:
    """
    Args:
        owner: The connection.
        window_bytes: That the peer may send on a stream before we have taken any of it.
        now: Seconds, on a clock that never goes back.

    Attributes:
        streams: Open ones, by number.
        peer_max_streams: Which of ours may be open at once.
        send_window: Octets that the peer takes on all streams together.
        is_going_away: The peer takes no further streams.
        is_closed: It has ended; nothing more is read or written.
        is_blocked: What was written has not left: content waits.
    """

    __slots__ = (
        "_encoder",
        "_event_stream",
        "_forgotten",
        "_max_frame",
        "_next_id",
        "_owner",
        "_patience",
        "_peer_window",
        "_ready",
        "_window",
        "is_blocked",
        "is_closed",
        "is_going_away",
        "peer_max_streams",
        "send_window",
        "streams",
    )

    def __init__(self, owner: SessionOwner, window_bytes: int, now: Callable[[], float]) -> None:
        self._owner = owner
        self._window = window_bytes
        self._encoder = Encoder()
        self._patience: Budget = bounds.patience(now)
        self._ready: dict[int, Stream] = {}
        self._forgotten: dict[int, None] = {}
        self._event_stream: Stream | None = None
        self._next_id = 1
        self._peer_window = DEFAULT_WINDOW
        self._max_frame = DEFAULT_MAX_FRAME
        self.streams: dict[int, Stream] = {}
        self.peer_max_streams = MAX_STREAM_ID
        self.send_window = DEFAULT_WINDOW
        self.is_blocked = False
        self.is_closed = False
        self.is_going_away = False

    def can_open(self) -> bool:
        """Whether the peer, as far as we know, takes another stream now."""
        return (
            not self.is_going_away
            and not self.is_closed
            and len(self.streams) < self.peer_max_streams
            and self._next_id < MAX_STREAM_ID
        )

    def open(self, stream: Stream) -> None:
        """A stream of ours, which `can_open`; `send_message` follows at once."""
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if self._patience.left < bounds.MOST_PATIENCE:
            self._patience.left += bounds.EARNED_BY_STREAM
        stream.open(stream_id, self._peer_window, self._window)
        self.streams[stream_id] = stream

    def send_message(
        self, stream: Stream, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]
    ) -> None:
        """A head, and what there is of the content; all that goes at once in one write."""
        block = self._encoder.encode(fields)
        is_all = is_end and not payload and not trailers
        tag = stream.id.to_bytes(4, "big")
        head = frames.header_frames(tag, block, is_all, self._max_frame)
        if is_all:
            self._owner.write(head)
            self._local_end(stream)
        elif payload or is_end:
            self._send([head], stream, tag, payload, is_end, trailers)
        else:
            self._owner.write(head)

    def send_data(self, stream: Stream, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the content; empty only together with `is_end`."""
        self._send([], stream, stream.id.to_bytes(4, "big"), payload, is_end, trailers)

    def _send(
        self, parts: list[bytes], stream: Stream, tag: bytes, payload: bytes, is_end: bool, trailers: list[Field]
    ) -> None:
        size = len(payload)
        if stream.queue is not None or (
            size and (self.is_blocked or size > stream.send_window or size > self.send_window)
        ):
            if parts:
                self._owner.write(parts[0])
            self._enqueue(stream, payload, is_end, trailers)
            return
        ends_with_data = is_end and not trailers
        if size:
            stream.send_window -= size
            self.send_window -= size
            patience = self._patience
            if patience.left < bounds.MOST_PATIENCE:
                patience.left += bounds.EARNED_BY_DATA
            parts += frames.data_frames(tag, payload, ends_with_data, self._max_frame)
        elif ends_with_data:
            parts += frames.data_frames(tag, b"", True, self._max_frame)
        if is_end and trailers:
            block = self._encoder.encode(trailers)
            parts.append(frames.header_frames(tag, block, True, self._max_frame))
        if size > _MANY:
            self._owner.write_much(parts)
        else:
            self._owner.write(b"".join(parts))
        if is_end:
            self._local_end(stream)

    def _enqueue(self, stream: Stream, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Keep what has no window, or what comes behind it."""
        queue = stream.queue
        if queue is None:
            queue = stream.queue = deque()
        if payload:
            queue.append(payload)
            stream.queued += len(payload)
        if is_end:
            stream.ends = True
            stream.end_fields = trailers
        if stream.send_window > 0:
            self._ready[stream.id] = stream
            self._pump()
        if stream.queued > HIGH_BYTES and not stream.is_full:
            stream.is_full = True
            stream.on_blocked()

    def _pump(self) -> None:
        """Send what waits, of one stream after another a frame at a time, as far as the windows let it."""
        ready = self._ready
        while ready and self.send_window > 0 and not self.is_blocked and not self.is_closed:
            stream_id, stream = next(iter(ready.items()))
            del ready[stream_id]
            self._pump_one(stream)
            if stream.queue is not None and stream.send_window > 0:
                ready[stream.id] = stream  # told that all has left, it may have another number by now

    def _pump_one(self, stream: Stream) -> None:
        queue = stream.queue
        assert queue is not None
        tag = stream.id.to_bytes(4, "big")
        parts: list[bytes] = []
        room = min(stream.send_window, self.send_window, self._max_frame)
        if queue and room > 0:
            piece = queue.popleft()
            if len(piece) > room:
                queue.appendleft(piece[room:])
                piece = piece[:room]
            size = len(piece)
            stream.queued -= size
            stream.send_window -= size
            self.send_window -= size
            if size >= bounds.LEAST_THAT_EARNS or not queue:
                self._patience.left = min(self._patience.left + bounds.EARNED_BY_DATA, bounds.MOST_PATIENCE)
                stream.on_moved()
            ends = stream.ends and not queue and not stream.end_fields
            parts += frames.data_frames(tag, piece, ends, self._max_frame)
        is_over = not queue
        if is_over:
            stream.queue = None
            if stream.ends and not parts and not stream.end_fields:
                parts += frames.data_frames(tag, b"", True, self._max_frame)
            if stream.ends and stream.end_fields:
                block = self._encoder.encode(stream.end_fields)
                parts.append(frames.header_frames(tag, block, True, self._max_frame))
        if parts:
            self._owner.write(b"".join(parts))
        if is_over and stream.ends:
            self._local_end(stream)
            stream.on_sent()
        elif stream.is_full and stream.queued <= LOW_BYTES:
            stream.is_full = False
            stream.on_writable()

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once (5.4.2); what still comes for it is dropped."""
        if stream.is_closed:
            return
        self._owner.write(frames.rst_stream(stream.id, code))
        self._remember(stream.id)
        self._close(stream)

    def hold(self, stream: Stream) -> None:
        """What comes cannot be passed on: give the peer no further window."""
        stream.is_held = True

    def unhold(self, stream: Stream) -> None:
        """Undo `hold`."""
        if stream.is_held:
            stream.is_held = False
            self._credit(stream)

    def block(self) -> None:
        """The peer does not read: let content wait in its streams."""
        self.is_blocked = True

    def unblock(self) -> None:
        """Undo `block`."""
        self.is_blocked = False
        self._pump()

    def _local_end(self, stream: Stream) -> None:
        """We have sent our END_STREAM."""
        stream.has_local_ended = True
        # What has come of the peer's and is not told yet is told first.
        if stream.has_remote_ended and stream is not self._event_stream:
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        """The stream is over."""
        stream.is_closed = True
        stream.queue = None
        stream.queued = 0
        self.streams.pop(stream.id, None)
        if self._ready:
            self._ready.pop(stream.id, None)
        self._owner.on_stream_closed(stream)

    def _remember(self, stream_id: int) -> None:
        """For a stream that we have reset frames may be on their way (5.1, closed)."""
        forgotten = self._forgotten
        forgotten[stream_id] = None
        if len(forgotten) > bounds.MAX_REMEMBERED:
            del forgotten[next(iter(forgotten))]

    def _credit(self, stream: Stream) -> None:
        """Give the window back that was used, if that is much and what came is passed on."""
        used = self._window - stream.receive_window
        if used * 2 >= self._window and not stream.is_held and not stream.has_remote_ended and not stream.is_closed:
            stream.receive_window = self._window
            self._owner.write(frames.window_update(stream.id, used))
