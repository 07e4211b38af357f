"""
A connection of HTTP/2, either end of it: frames, streams, windows, settings (RFC 9113). *Hot path; pure.*

    octets -> receive -> frames -> Stream.on_head / on_data / on_reset
    send_message, send_data, reset -> frames -> SessionOwner.write

Nothing here waits or knows a socket. Frames of one stream that came together are told together: a head, what there is
of its content and its end are one call. Field blocks are encoded at the moment of writing, because each changes what
the next ones mean (RFC 7541, 2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.http2 import bounds, frames
from sidecar.http2.codes import (
    DEFAULT_MAX_FRAME,
    DEFAULT_WINDOW,
    FRAME_HEADER,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PREFACE,
    Code,
    Flag,
    FrameType,
    SessionError,
    Setting,
)
from sidecar.http2.control import Control
from sidecar.http2.hpack.decoder import Decoder, FieldsTooLarge, HpackError
from sidecar.http2.sending import NOBODY, SessionOwner
from sidecar.http2.streams import Stream
from sidecar.message import Field, Kind

_LEAST_CONNECTION_WINDOW: Final = 1024 * 1024
_WINDOWS_OF_A_CONNECTION: Final = 4
_FOUR: Final = 4
_LEAST_STATUS: Final = 200
_MOST_TOO_LARGE: Final = 2
_BROKEN: Final = Kind.PSEUDO | Kind.MALFORMED


class Session(Control):
    """
    Args:
        owner: The connection.
        is_server: The peer is a client, and opens the streams.
        max_streams: That the peer may have open at once.
        window_bytes: That it may send on a stream before we have taken any of it.
        max_header_bytes: Of a field section, as RFC 9113, 6.5.2 counts them.
        max_headers: Fields of one.
        max_resets: `bounds`.
        now: Seconds, on a clock that never goes back.

    Attributes:
        receive_window: Octets that the peer may still send on all streams together.
        unfinished_since: When that came of which the rest is still to come: a field section, or a frame that is
            none of content. However its octets trickle, this stays as it is until the whole is here (a field section
            of several frames counts from the first that is); 0: there is no such thing.
    """

    __slots__ = (
        "_begun",
        "_block",
        "_block_continuations",
        "_block_ends",
        "_block_id",
        "_block_size",
        "_connection_window",
        "_decoder",
        "_held",
        "_left",
        "_left_ends",
        "_left_id",
        "_max_header_bytes",
        "_max_headers",
        "_max_streams",
        "_now",
        "_preface_left",
        "_told",
        "receive_window",
        "unfinished_since",
    )

    def __init__(
        self,
        owner: SessionOwner,
        is_server: bool,
        max_streams: int,
        window_bytes: int,
        max_header_bytes: int,
        max_headers: int,
        max_resets: int,
        now: Callable[[], float],
    ) -> None:
        super().__init__(owner, is_server, window_bytes, max_resets, now)
        self._max_streams = max_streams
        self._now = now
        wanted = max(_LEAST_CONNECTION_WINDOW, window_bytes * _WINDOWS_OF_A_CONNECTION)
        self._connection_window = min(wanted, MAX_WINDOW)
        self._max_header_bytes = max_header_bytes
        self._max_headers = max_headers
        self._decoder = Decoder()
        self.receive_window = self._connection_window
        self._held = b""
        self._preface_left = PREFACE if is_server else b""
        self._left = 0
        self._left_ends = False
        self._left_id = 0
        self._block: list[bytes] = []
        self._block_id = self._block_size = self._block_continuations = 0
        self._block_ends = False
        self._begun = self._told = 0
        self.unfinished_since = 0.0

    def __repr__(self) -> str:
        side = "server" if self._is_server else "client"
        return f"<Session as {side}, {len(self.streams)} streams, last {self.last_id or self._next_id - 2}>"

    # --- the owner's side: a connection ------------------------------------------------------------------------

    def start(self) -> None:
        """Say what we allow (3.4)."""
        said = [
            (Setting.MAX_CONCURRENT_STREAMS, self._max_streams),
            (Setting.INITIAL_WINDOW_SIZE, self._window),
            (Setting.MAX_HEADER_LIST_SIZE, self._max_header_bytes),
        ]
        if self._is_server:
            said.append((Setting.ENABLE_CONNECT_PROTOCOL, 1))
        else:
            said[0] = (Setting.ENABLE_PUSH, 0)
        data = frames.settings(said) + frames.window_update(0, self._connection_window - DEFAULT_WINDOW)
        self._owner.write(data if self._is_server else PREFACE + data)

    def limit_heads(self, max_header_bytes: int, max_headers: int) -> None:
        """What holds for field sections from now on; the peer is told (6.5.2), since it may keep to that by itself."""
        self._max_headers = max_headers
        if max_header_bytes != self._max_header_bytes:
            self._max_header_bytes = max_header_bytes
            self._owner.write(frames.settings([(Setting.MAX_HEADER_LIST_SIZE, max_header_bytes)]))

    def fail(self, fault: SessionError) -> None:
        """Say why the connection ends, which has ended with this; the owner closes it, and has the streams ended."""
        self.is_going_away = True
        if not self._is_server:
            self._tell()  # an answer may have been whole before
        self.is_closed = True
        self._drop_event()
        detail = fault.detail.encode("ascii", "replace")[:128]
        self._owner.write(frames.goaway(self.last_id, fault.code, detail))

    def close(self) -> None:
        """Nothing more is read or written, and neither the owner nor a stream is known any more."""
        self.is_closed = True
        self._drop_event()
        self._held = b""
        self._owner = NOBODY
        self._ready.clear()
        self.streams.clear()

    # --- what the peer sends -----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """
        Take in octets, and tell what they say.

        Raises:
            SessionError: The connection ends; `fail` is to be called with it.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        pos, size = 0, len(data)
        if self._preface_left:
            pos = self._read_preface(data)
        if self._left:
            pos = self._read_left(data)
        self._begun = self._told = 0
        first = pos
        while size - pos >= FRAME_HEADER and not self.is_closed:
            length = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
            kind = data[pos + 3]
            # Before a request, not behind it: what resets it may be next, and it need not be begun.
            if (self._begun >= bounds.MAX_AT_ONCE and kind == FrameType.HEADERS) or (
                self._told >= bounds.MAX_TOLD_AT_ONCE
            ):
                self._owner.defer()
                break
            flags = data[pos + 4]
            stream_id = (data[pos + 5] & 0x7F) << 24 | data[pos + 6] << 16 | data[pos + 7] << 8 | data[pos + 8]
            if length > DEFAULT_MAX_FRAME:
                raise SessionError(Code.FRAME_SIZE_ERROR, f"a frame of {length} octets")
            if self._block_id and (kind != FrameType.CONTINUATION or stream_id != self._block_id):
                raise SessionError(Code.PROTOCOL_ERROR, "a field block that is interrupted")
            begin = pos + FRAME_HEADER
            if kind == FrameType.DATA and not flags & Flag.PADDED:
                if not self.has_settings:
                    raise SessionError(Code.PROTOCOL_ERROR, "no settings first")
                stream = self._on_data_begins(stream_id, length, flags)
                pos = begin + length
                ends = flags & Flag.END_STREAM != 0
                if pos <= size:
                    if stream is not None and (length or ends):
                        self._add_data(stream, data[begin:pos], ends)
                else:
                    self._left = pos - size
                    self._left_ends = ends
                    self._left_id = 0 if stream is None else stream_id
                    if stream is not None and begin < size:
                        self._add_data(stream, data[begin:], False)
                    pos = size
                continue
            if size - begin < length:
                break
            pos = begin + length
            self._on_frame(kind, flags, stream_id, data[begin:pos])
        if self.is_closed:
            return
        if pos < size:
            self._held = data[pos:]
            if not self._block_id and (pos > first or not self.unfinished_since):
                self.unfinished_since = self._now()
        elif self.unfinished_since and not self._block_id:
            self.unfinished_since = 0.0
        if self._event_stream is not None:
            self._tell()

    def _read_preface(self, data: bytes) -> int:
        """Check as much of the preface as there is."""
        size = min(len(self._preface_left), len(data))
        if data[:size] != self._preface_left[:size]:
            raise SessionError(Code.PROTOCOL_ERROR, "no connection preface")
        self._preface_left = self._preface_left[size:]
        return size

    def _read_left(self, data: bytes) -> int:
        """The rest of a DATA frame of which the first part has been told."""
        size = min(self._left, len(data))
        self._left -= size
        # By its number: what it was may be over, and the object another's by now.
        stream = self.streams.get(self._left_id)
        ends = self._left_ends and not self._left
        if stream is not None and (size or ends):
            self._add_data(stream, data[:size], ends)
        return size

    def _on_data_begins(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """A DATA frame (6.1): its whole length counts against both windows; None if its payload goes nowhere."""
        self.receive_window -= length
        if self.receive_window < 0:
            raise SessionError(Code.FLOW_CONTROL_ERROR, "more than the connection's window")
        used = self._connection_window - self.receive_window
        if used * 2 >= self._connection_window:
            # Whatever becomes of it: one stream that nobody reads must not keep the others from sending.
            self.receive_window += used
            self._owner.write(frames.window_update(0, used))
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_closed(stream_id, "DATA")
            self._ignore("DATA of closed streams", not length)
            return None
        if stream.has_remote_ended:
            self._fault(stream, Code.STREAM_CLOSED, "content behind the end")
            return None
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._fault(stream, Code.FLOW_CONTROL_ERROR, "more than the stream's window")
            return None
        if not length and not flags & Flag.END_STREAM:
            self._tire("an empty DATA frame")
        return stream

    def _add_data(self, stream: Stream, payload: bytes, ends: bool) -> None:
        if ends:
            stream.has_remote_ended = True
        if self._event_stream is stream and not self._event_payload:
            self._event_payload = payload
            self._event_end = ends
        else:
            if self._event_stream is not None and not self._tell_before(stream):
                return
            self._event_stream = stream
            self._event_payload = payload
            self._event_end = ends
        if not ends:
            self._credit(stream)

    def _tell(self) -> None:
        """Tell what has come together of one stream."""
        stream, fields, payload = self._event_stream, self._event_fields, self._event_payload
        is_end, trailers = self._event_end, self._event_trailers
        self._drop_event()
        if stream is None or stream.is_closed:
            return
        self._told += 1
        if is_end and stream.has_local_ended:
            self._close(stream)
        if fields is not None:
            stream.on_head(fields, payload, is_end, trailers)
        else:
            stream.on_data(payload, is_end, trailers)

    def _tell_before(self, stream: Stream) -> bool:
        """
        Tell what came before, as something has come for this stream; whether it is still for it.

        Whoever is told may end the stream and have the next request sent by the same object, or close the connection.
        """
        stream_id = stream.id
        self._tell()
        return stream.id == stream_id and not stream.is_closed and not self.is_closed

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """A whole frame that is not DATA without padding."""
        if kind == FrameType.HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == FrameType.RST_STREAM:
            self._on_rst_stream(stream_id, payload)
        elif kind == FrameType.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind == FrameType.DATA:
            self._on_padded_data(flags, stream_id, payload)
        else:
            self._on_control(kind, flags, stream_id, payload)

    def _on_padded_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if stream_id == 0:
            raise SessionError(Code.PROTOCOL_ERROR, "DATA on stream 0")
        content = _without_padding(payload)
        stream = self._on_data_begins(stream_id, len(payload), flags)
        ends = flags & Flag.END_STREAM != 0
        if stream is None:
            return
        if content or ends:
            self._add_data(stream, content, ends)
        else:
            self._tire("a DATA frame of nothing but padding")
            self._credit(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if stream_id == 0:
            raise SessionError(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & Flag.PADDED:
            payload = _without_padding(payload)
        is_circular = False
        if flags & Flag.PRIORITY:
            if len(payload) < 5:
                raise SessionError(Code.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            is_circular = int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id
            payload = payload[5:]
        ends = flags & Flag.END_STREAM != 0
        if flags & Flag.END_HEADERS:
            self._on_block(stream_id, payload, ends)
        else:
            self._check_block_size(len(payload))
            self._block_id = stream_id
            self._block_size = len(payload)
            self._block_continuations = 0
            self._block_ends = ends
            self._block = [payload]
            self.unfinished_since = self._now()
        if is_circular:
            # RFC 7540, 5.3.1; who still sends priorities may not send this one.
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._fault(stream, Code.PROTOCOL_ERROR, "a stream that depends on itself")

    def _check_block_size(self, size: int) -> None:
        """
        An encoded block that is longer than the fields may be is read only to be thrown away: twice as much is, as by
        Go's server, because it is one message's fault, and others share the connection.
        """
        if size > _MOST_TOO_LARGE * self._max_header_bytes:
            detail = f"a field block of more than {_MOST_TOO_LARGE * self._max_header_bytes} octets"
            raise SessionError(Code.ENHANCE_YOUR_CALM, detail)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_id:
            raise SessionError(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block_continuations += 1
        if self._block_continuations > bounds.MAX_CONTINUATIONS:
            raise SessionError(Code.ENHANCE_YOUR_CALM, f"more than {bounds.MAX_CONTINUATIONS} CONTINUATION frames")
        self._block_size += len(payload)
        self._check_block_size(self._block_size)
        self._block.append(payload)
        if flags & Flag.END_HEADERS:
            block = b"".join(self._block)
            self._block = []
            self._block_id = 0
            self._on_block(stream_id, block, self._block_ends)

    def _on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        """A whole field block: it is decoded whatever it is for, because it changes what the next ones mean (4.3)."""
        fields: list[Field] | None
        try:
            fields = self._decoder.decode(block, self._max_header_bytes, self._max_headers)
        except FieldsTooLarge:
            fields = None
        except HpackError as error:
            raise SessionError(Code.COMPRESSION_ERROR, str(error)) from None
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._open_theirs(stream_id)
            if stream is None:
                return
        elif stream.has_remote_ended:
            self._fault(stream, Code.STREAM_CLOSED, "fields behind the end")
            return
        elif stream.has_head:
            self._on_trailers(stream, fields, ends)
            return
        if ends:
            stream.has_remote_ended = True
        if self._event_stream is not None and not self._tell_before(stream):
            return
        if fields is None:
            if ends and stream.has_local_ended:
                self._close(stream)
            stream.on_too_large(ends)
            return
        # Of responses all but the last are interim ones (8.1).
        stream.has_head = self._is_server or is_final(fields)
        self._event_stream = stream
        self._event_fields = fields
        self._event_payload = b""
        self._event_end = ends

    def _on_trailers(self, stream: Stream, fields: list[Field] | None, ends: bool) -> None:
        """A second field section: what stands behind the content (8.1)."""
        if not ends:
            self._fault(stream, Code.PROTOCOL_ERROR, "fields in the middle of the content")
        elif fields is None:
            self._fault(stream, Code.ENHANCE_YOUR_CALM, "a trailer section that is too large")
        else:
            for field in fields:
                if field.kind & _BROKEN:
                    detail = field.note if field.kind & Kind.MALFORMED else "a pseudo-header field behind the content"
                    self._fault(stream, Code.PROTOCOL_ERROR, str(detail))
                    return
            stream.has_remote_ended = True
            if self._event_stream is not stream:
                if self._event_stream is not None and not self._tell_before(stream):
                    return
                self._event_stream = stream
            self._event_end = True
            self._event_trailers = fields

    def _open_theirs(self, stream_id: int) -> Stream | None:
        """HEADERS of a number that is not open: the peer opens a stream, or has missed that it is closed (5.1.1)."""
        if not self._is_server or stream_id <= self.last_id or not stream_id & 1:
            self._check_closed(stream_id, "HEADERS")
            self._ignore("HEADERS of closed streams", True)
            return None
        if stream_id > self._refuses_above:
            self._ignore("HEADERS behind our GOAWAY", True)
            return None
        self.last_id = stream_id
        self._begun += 1
        if self._resets.left < 0 and not self._resets.refill():
            raise SessionError(Code.ENHANCE_YOUR_CALM, "too many malformed requests")
        if self._patience.left < bounds.MOST_PATIENCE:
            self._patience.left += bounds.EARNED_BY_STREAM
        stream = self._owner.new_stream() if len(self.streams) < self._max_streams else None
        if stream is None:
            self._spend_reset("streams beyond what was allowed")
            self._owner.write(frames.rst_stream(stream_id, Code.REFUSED_STREAM))
            self._remember(stream_id)
            return None
        stream.open(stream_id, self._peer_window, self._window)
        self.streams[stream_id] = stream
        return stream

    def _ignore(self, what: str, carries_nothing: bool) -> None:
        """
        A frame of a stream that is over, or will never be: nobody is told, but it takes its part of the turn.

        A client that goes on so wears out our patience; not a server, for it may be clients that give up what it
        answers, and others' requests are on the same connection.
        """
        self._told += 1
        if carries_nothing and self._is_server:
            self._tire(what)

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        self._require_settings()
        if len(payload) != _FOUR:
            raise SessionError(Code.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        self._check_idle(stream_id, "RST_STREAM")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._tire("RST_STREAM of closed streams")
            return
        if self._is_server:
            self._spend_reset("requests that are given up")
        code = int.from_bytes(payload, "big")
        if self._event_stream is not stream:
            self._close(stream)
            stream.on_reset(code)
            return
        if self._event_fields is not None and self._is_server:
            # Nobody has begun with it; so it ends before it has cost anything.
            fields = self._event_fields
            self._drop_event()
            self._close(stream)
            stream.on_withdrawn(fields)
            return
        if self._tell_before(stream):
            self._close(stream)
            stream.on_reset(code)


def is_final(fields: list[Field]) -> bool:
    """Whether a response's field section is not that of an interim one; what is malformed is, too."""
    if not fields:
        return True
    status = fields[0].note
    return not isinstance(status, int) or status >= _LEAST_STATUS


def _without_padding(payload: bytes) -> bytes:
    """6.1: the first octet says how long the padding at the end is."""
    size = payload[0] if payload else 0
    if size >= len(payload):
        raise SessionError(Code.PROTOCOL_ERROR, "padding that is longer than the frame")
    return payload[1 : len(payload) - size]
