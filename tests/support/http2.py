"""HTTP/2 by hand: frames as octets, what was written read back, and a session whose streams note what they hear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.http2 import frames
from sidecar.http2.codes import PREFACE, Code, Flag, FrameType, SessionError
from sidecar.http2.fields import field_from
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.message import Field

Pairs = list[tuple[bytes, bytes]]

GET: Pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"web")]
POST: Pairs = [(b":method", b"POST"), *GET[1:]]
OK: Pairs = [(b":status", b"200")]
SETTINGS = frames.settings([])
SETTINGS_ACK = frames.SETTINGS_ACK
HELLO = PREFACE + SETTINGS
"""With what a client begins."""


def _string(text: bytes) -> bytes:
    return encode_integer(len(text), 0, 7) + text


def block(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A field block of literals, whatever their octets, that leaves the peer's table as it is (RFC 7541, 6.2.2)."""
    return b"".join([b"\0" + _string(name) + _string(value) for name, value in pairs])


def encode_integer(value: int, first: int, bits: int) -> bytes:
    """RFC 7541, 5.1: in the low `bits` of an octet whose others are those of `first`, and behind it."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    octets = [first | most]
    value -= most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame, whether it may be or not."""
    return frames.frame(kind, flags, stream_id, payload)


def headers(stream_id: int, pairs: Iterable[tuple[bytes, bytes]] = GET, *, ends: bool = True, more: int = 0) -> bytes:
    """HEADERS with all of its fields; `more` are further flags."""
    flags = Flag.END_HEADERS | (Flag.END_STREAM if ends else 0) | more
    return frame(FrameType.HEADERS, flags, stream_id, block(pairs))


def content(stream_id: int, payload: bytes = b"", *, ends: bool = False) -> bytes:
    """DATA."""
    return frame(FrameType.DATA, Flag.END_STREAM if ends else 0, stream_id, payload)


def continuation(stream_id: int, payload: bytes = b"", *, ends: bool = False) -> bytes:
    """CONTINUATION; `ends` is END_HEADERS."""
    return frame(FrameType.CONTINUATION, Flag.END_HEADERS if ends else 0, stream_id, payload)


def reset(stream_id: int, code: int = Code.CANCEL) -> bytes:
    """RST_STREAM."""
    return frames.rst_stream(stream_id, code)


def window(stream_id: int, size: int) -> bytes:
    """WINDOW_UPDATE."""
    return frames.window_update(stream_id, size)


@dataclass(frozen=True)
class Frame:
    """One that was written."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes = b""

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == FrameType.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def ends(self) -> bool:
        """END_STREAM."""
        return bool(self.flags & Flag.END_STREAM)


def parse(data: bytes) -> tuple[list[Frame], bytes]:
    """The frames of these octets, and what is left of an unfinished one."""
    found = []
    while len(data) >= 9 and len(data) >= 9 + (length := int.from_bytes(data[:3], "big")):
        stream_id = int.from_bytes(data[5:9], "big")
        found.append(Frame(data[3], data[4], stream_id, data[9 : 9 + length]))
        data = data[9 + length :]
    return found, data


def parse_all(data: bytes) -> list[Frame]:
    """The frames of these octets, which are whole."""
    found, rest = parse(data)
    assert not rest, rest
    return found


def of_kind(found: list[Frame], kind: int, stream_id: int | None = None) -> list[Frame]:
    """Those of a type, and of a stream."""
    return [one for one in found if one.kind == kind and stream_id in (None, one.stream_id)]


@dataclass
class Heard:
    """One call of a stream."""

    what: str
    stream_id: int
    fields: Pairs = field(default_factory=list)
    payload: bytes = b""
    is_end: bool = False
    trailers: Pairs = field(default_factory=list)
    code: int = 0
    detail: str = ""


def fields_of(pairs: Pairs) -> list[Field]:
    """As HPACK would have read them."""
    return [field_from(name, value) for name, value in pairs]


def _pairs(fields: list[Field]) -> Pairs:
    return [(one.name, one.value) for one in fields]


class NotingStream(Stream):
    """A stream that notes what it is told with its connection."""

    __slots__ = ("_heard",)

    def __init__(self, heard: list[Heard]) -> None:
        super().__init__()
        self._heard = heard

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        self._heard.append(Heard("head", self.id, _pairs(fields), payload, is_end, _pairs(trailers)))

    def on_data(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        assert payload or is_end, "a call that says nothing"
        self._heard.append(Heard("data", self.id, [], payload, is_end, _pairs(trailers)))

    def on_too_large(self, is_end: bool) -> None:
        self._heard.append(Heard("too large", self.id, is_end=is_end))

    def on_reset(self, code: int) -> None:
        self._heard.append(Heard("reset", self.id, code=code))

    def on_withdrawn(self, fields: list[Field]) -> None:
        self._heard.append(Heard("withdrawn", self.id, _pairs(fields)))

    def on_fault(self, code: int, detail: str) -> None:
        self._heard.append(Heard("fault", self.id, code=code, detail=detail))

    def on_blocked(self) -> None:
        self._heard.append(Heard("blocked", self.id))

    def on_writable(self) -> None:
        self._heard.append(Heard("writable", self.id))

    def on_sent(self) -> None:
        self._heard.append(Heard("sent", self.id))


class Talk:
    """
    A session without a socket, its peer played by the test; it is its own `SessionOwner`.

    Attributes:
        heard: What its streams were told, all of them, in order.
        going_away, pings, settings: What the owner was told.
        error: With what the connection ended.
        now: The clock.
    """

    def __init__(
        self,
        *,
        is_server: bool = True,
        max_streams: int = 100,
        window_bytes: int = 65536,
        max_header_bytes: int = 16384,
        max_headers: int = 100,
        max_resets: int = 200,
        greets: bool = True,
    ) -> None:
        self.now = 100.0
        self.heard: list[Heard] = []
        self.going_away: list[tuple[int, bytes]] = []
        self.pings: list[bytes] = []
        self.settings = 0
        self.closed: list[int] = []
        self.opened: dict[int, Stream] = {}
        self.error: SessionError | None = None
        self.turns = 0
        self.deferred = False
        self._written: list[bytes] = []
        self.session = Session(
            self, is_server, max_streams, window_bytes, max_header_bytes, max_headers, max_resets, lambda: self.now
        )
        self._is_server = is_server
        self.session.start()
        if greets:
            self.say(HELLO if is_server else SETTINGS)
            self.read()

    # --- the owner ---------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._written.append(data)

    def write_much(self, parts: list[bytes]) -> None:
        self._written += parts

    def new_stream(self) -> Stream | None:
        return NotingStream(self.heard)

    def on_stream_closed(self, stream: Stream) -> None:
        self.closed.append(stream.id)

    def on_settings(self) -> None:
        self.settings += 1

    def on_going_away(self, code: int, detail: bytes) -> None:
        self.going_away.append((code, detail))

    def on_ping_answered(self, data: bytes) -> None:
        self.pings.append(data)

    def defer(self) -> None:
        self.deferred = True

    # --- the test ----------------------------------------------------------------------------------------------

    def say(self, *data: bytes) -> Talk:
        """The peer says this, all at once; with the turns that follow from it."""
        self._receive(b"".join(data))
        while self.deferred and self.error is None:
            self.deferred = False
            self.turns += 1
            self._receive(b"")
        return self

    def say_by_byte(self, data: bytes) -> Talk:
        """The peer says this octet by octet."""
        for at in range(len(data)):
            self.say(data[at : at + 1])
        return self

    def _receive(self, data: bytes) -> None:
        if self.error is not None or self.session.is_closed:
            return
        try:
            self.session.receive(data)
        except SessionError as error:
            self.error = error
            self.session.fail(error)

    def read_raw(self) -> bytes:
        """What the session has written since it was last asked."""
        data = b"".join(self._written)
        self._written = []
        return data

    def read(self) -> list[Frame]:
        """The same as frames."""
        return parse_all(self.read_raw().removeprefix(PREFACE))

    def take(self) -> list[Heard]:
        """What the streams have heard since it was last asked."""
        heard = list(self.heard)
        self.heard.clear()
        return heard

    def open(self) -> NotingStream:
        """A stream of ours, as a client."""
        assert self.session.can_open()
        stream = NotingStream(self.heard)
        self.session.open(stream)
        return stream

    def send(
        self, stream: Stream, pairs: Pairs, payload: bytes = b"", *, ends: bool = True, trailers: Pairs | None = None
    ) -> None:
        """Send a head of ours, and what follows it."""
        self.session.send_message(stream, fields_of(pairs), payload, ends, fields_of(trailers or []))
