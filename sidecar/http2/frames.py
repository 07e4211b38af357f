"""
Frames as octets (RFC 9113, 4.1 and 6). *Hot path; pure.*

Reading them is `session`'s, which has them one after another in what came; here is what is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from sidecar.http2.codes import Flag, FrameType

_SETTING: Final = Struct(">HI")
_SETTING_BYTES: Final = 6
_BEGIN: Final = Struct(">BHBB")

# Length, type and flags of frames: most are the same few again. A dictionary's lookup costs a third of the packing, and
# an item of a list a tenth of that: DATA and HEADERS of the usual lengths, by whether they are the end.
_begins: Final[dict[int, bytes]] = {}
_MAX_BEGINS: Final = 4096
_SHORT: Final = 512


def _shorts(kind: int, flags: int) -> list[bytes]:
    return [_BEGIN.pack(0, length, kind, flags) for length in range(_SHORT)]


_DATA: Final = _shorts(FrameType.DATA, 0)
_LAST_DATA: Final = _shorts(FrameType.DATA, Flag.END_STREAM)
_HEADERS: Final = _shorts(FrameType.HEADERS, Flag.END_HEADERS)
_LAST_HEADERS: Final = _shorts(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM)


def begin(length: int, kind: int, flags: int) -> bytes:
    """The first five octets of a frame; the stream's number and the payload follow."""
    key = length << 16 | kind << 8 | flags
    found = _begins.get(key)
    if found is None:
        found = _BEGIN.pack(length >> 16, length & 0xFFFF, kind, flags)
        if len(_begins) >= _MAX_BEGINS:
            _begins.clear()
        _begins[key] = found
    return found


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """A whole frame; its payload must not be longer than the peer allows."""
    return b"%b%b%b" % (begin(len(payload), kind, flags), stream_id.to_bytes(4, "big"), payload)


def header_frames(tag: bytes, block: bytes, is_end: bool, max_frame: int) -> bytes:
    """
    HEADERS, and CONTINUATION for as long as the block does not fit (6.2 and 6.10).

    Args:
        tag: The stream's number, four octets.
        block: Field block.
        is_end: Nothing follows on the stream.
        max_frame: What the peer says of SETTINGS_MAX_FRAME_SIZE.
    """
    end = Flag.END_STREAM if is_end else 0
    size = len(block)
    if size <= max_frame:
        if size < _SHORT:
            return b"%b%b%b" % ((_LAST_HEADERS if is_end else _HEADERS)[size], tag, block)
        return b"%b%b%b" % (begin(size, FrameType.HEADERS, end | Flag.END_HEADERS), tag, block)
    parts = [begin(max_frame, FrameType.HEADERS, end), tag, block[:max_frame]]
    for at in range(max_frame, size, max_frame):
        piece = block[at : at + max_frame]
        flags = Flag.END_HEADERS if at + max_frame >= size else 0
        parts += [begin(len(piece), FrameType.CONTINUATION, flags), tag, piece]
    return b"".join(parts)


def data_frames(tag: bytes, payload: bytes, is_end: bool, max_frame: int) -> list[bytes]:
    """DATA (6.1), in parts so that what is large need not be copied; one frame of no payload if there is none."""
    size = len(payload)
    if size < _SHORT:
        return [(_LAST_DATA if is_end else _DATA)[size], tag, payload]
    if size <= max_frame:
        return [begin(size, FrameType.DATA, Flag.END_STREAM if is_end else 0), tag, payload]
    parts: list[bytes] = []
    for at in range(0, size, max_frame):
        piece = payload[at : at + max_frame]
        flags = Flag.END_STREAM if is_end and at + max_frame >= size else 0
        parts += [begin(len(piece), FrameType.DATA, flags), tag, piece]
    return parts


def rst_stream(stream_id: int, code: int) -> bytes:
    """RST_STREAM (6.4)."""
    return frame(FrameType.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def window_update(stream_id: int, size: int) -> bytes:
    """WINDOW_UPDATE (6.9), of a stream or, with 0, of the connection."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, size.to_bytes(4, "big"))


def ping(data: bytes, *, is_ack: bool) -> bytes:
    """PING (6.7), of eight octets."""
    return frame(FrameType.PING, Flag.ACK if is_ack else 0, 0, data)


def goaway(last_id: int, code: int, detail: bytes = b"") -> bytes:
    """GOAWAY (6.8); the detail is for people."""
    return frame(FrameType.GOAWAY, 0, 0, last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + detail)


def settings(pairs: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS (6.5)."""
    return frame(FrameType.SETTINGS, 0, 0, b"".join([_SETTING.pack(key, value) for key, value in pairs]))


SETTINGS_ACK: Final = frame(FrameType.SETTINGS, Flag.ACK, 0, b"")


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a SETTINGS frame, whose length is a multiple of six, in their order."""
    return [_SETTING.unpack_from(payload, at) for at in range(0, len(payload), _SETTING_BYTES)]
