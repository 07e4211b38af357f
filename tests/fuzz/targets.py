"""
What is fuzzed, each a function of octets that raises if it finds a fault: the documented errors are none.

HTTP/2's frames by a session in both roles, and HPACK with the heads that come of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from sidecar.http2 import bounds, frames
from sidecar.http2.codes import Flag, FrameType, MalformedError, Setting
from sidecar.http2.forward import SCHEMES, request_fields
from sidecar.http2.head import request_head, response_head
from sidecar.http2.hpack.decoder import Decoder, FieldsTooLarge, HpackError
from sidecar.message import Kind
from tests.support.http2 import (
    GET,
    HELLO,
    OK,
    POST,
    SETTINGS,
    Talk,
    block,
    content,
    continuation,
    encode_integer,
    frame,
    headers,
    reset,
    window,
)

_MAX_HEADER_BYTES = 4096
_MAX_HEADERS = 40
_WINDOW = 40_000
_UPGRADES = Kind.UPGRADE


def fuzz_frames(data: bytes) -> None:
    """The first octet says who speaks and how it is cut; the rest is said. `Talk` lets any error out but its own."""
    if not data:
        return
    is_server, size = bool(data[0] & 1), (data[0] >> 1) or len(data)
    talk = Talk(
        is_server=is_server,
        greets=bool(data[0] & 2),
        window_bytes=_WINDOW,
        max_header_bytes=_MAX_HEADER_BYTES,
        max_headers=_MAX_HEADERS,
        max_streams=20,
    )
    if not is_server:
        talk.send(talk.open(), POST, bytes(_WINDOW), ends=False)
        talk.send(talk.open(), GET)
    session = talk.session
    for at in range(1, len(data), size):
        talk.say(data[at : at + size])
        if is_server:
            _answer(talk)
    assert len(session._held) <= 9 + 16384
    assert sum(map(len, session._block)) <= _MAX_HEADER_BYTES
    assert len(session._forgotten) <= bounds.MAX_REMEMBERED
    assert len(session.streams) <= 20
    for stream in session.streams.values():
        assert 0 <= stream.receive_window <= _WINDOW


def _answer(talk: Talk) -> None:
    for one in talk.take():
        stream = talk.session.streams.get(one.stream_id)
        if one.what == "head" and stream is not None and not stream.has_local_ended and not stream.ends:
            talk.send(stream, OK, bytes(3000))
    talk.read_raw()


def fuzz_hpack(data: bytes) -> None:
    """Blocks of one connection, each behind an octet that says how long it is, and the heads that they are."""
    decoder = Decoder()
    at = 0
    while at < len(data):
        size = data[at]
        part = data[at + 1 : at + 1 + size]
        at += 1 + size
        try:
            fields = decoder.decode(part, _MAX_HEADER_BYTES, _MAX_HEADERS)
        except HpackError:
            return
        except FieldsTooLarge:
            continue
        finally:
            assert decoder._size <= 4096
        assert len(fields) <= _MAX_HEADERS
        assert sum(len(one.name) + len(one.value) + 32 for one in fields) <= _MAX_HEADER_BYTES
        try:
            head = request_head(fields, True)
        except MalformedError:
            pass
        else:
            # What is sent on may be said in both versions, and means the same to whoever reads it next.
            for one in head.fields:
                assert not set(b"\0\r\n") & set(one.name + one.value), one
            if head.method != b"CONNECT" and not head.kinds & _UPGRADES:
                sent = request_fields(head, head.fields, head.path, None, b"", SCHEMES[0])
                again = request_head(sent, True)
                assert (again.method, again.path, again.query) == (head.method, head.path, head.query)
                assert (again.host, again.port) == (head.host, head.port)
        with contextlib.suppress(MalformedError):
            response_head(fields, b"GET", True)


TARGETS: dict[str, Callable[[bytes], None]] = {"frames": fuzz_frames, "hpack": fuzz_hpack}

_BLOCK = block(GET)
_WHOLE = [
    HELLO + headers(1),
    headers(1) + reset(1) + headers(3),
    headers(1, POST, ends=False) + content(1, b"abc") + content(1, b"def", ends=True),
    headers(1, POST, ends=False) + content(1, b"abc") + headers(1, [(b"x", b"1")]),
    headers(1, POST, ends=False) + frame(FrameType.DATA, Flag.PADDED, 1, b"\x03abcxyz"),
    frame(FrameType.HEADERS, Flag.END_STREAM, 1, _BLOCK[:9]) + continuation(1, _BLOCK[9:], ends=True),
    frame(FrameType.HEADERS, 0x2D, 1, b"\x02\0\0\0\0\x10" + _BLOCK + b"\0\0"),
    headers(1, OK, ends=False) + content(1, b"abc", ends=True) + headers(3, [(b":status", b"103")], ends=False),
    frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0), (Setting.MAX_FRAME_SIZE, 16384)]) + headers(1) + window(1, 10),
    SETTINGS + frames.SETTINGS_ACK + frames.ping(b"12345678", is_ack=False) + frames.goaway(1, 0, b"bye"),
    frame(FrameType.PRIORITY, 0, 1, b"\0\0\0\3\1") + window(0, 1000) + frame(0x42, 0, 0, b"any"),
]
_BLOCKS = [
    b"\x82\x86\x84\x41\x03web",
    b"\x82\x86\x84\x41\x83\xf0\x5a\x1f",
    b"\x40\x01x\x01y\xbe\xbe",
    b"\x10\x01x\x01y\x0f\x2d\x01z",
    b"\x20\x3f\xe1\x1f\x82",
    b"\x88\x5c\x01\x30",
    encode_integer(4096, 0x20, 5) + _BLOCK,
    block([*GET, (b"cookie", b"a"), (b"cookie", b"b"), (b"host", b"web"), (b"te", b"trailers")]),
]

SEEDS: dict[str, list[bytes]] = {
    "frames": [bytes([how]) + said for said in _WHOLE for how in (2, 3, 0x13)],
    "hpack": [*[bytes([len(one)]) + one for one in _BLOCKS], b"".join(bytes([len(one)]) + one for one in _BLOCKS)],
}
"""What a search begins with."""
