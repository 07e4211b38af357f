"""
Bodies, taken apart as they arrive and framed again (RFC 9112, 6 and 7). *Hot path for streamed bodies; pure.*

A body of known length is counted off. The chunked coding is read line by line:

    chunk          = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
    last-chunk     = 1*("0") [ chunk-ext ] CRLF
    chunk-ext      = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS ( token / quoted-string ) ] )
    chunked-body   = *chunk last-chunk trailer-section CRLF

The reader waits for one of four things: a size line, data, the CRLF after data, or a trailer line. Nothing but an
unfinished line is ever held. What goes on is the payload in chunks of our own: a peer's sizes, extensions and white
space end here.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.framing import MEANS_SOMETHING, NOTHING_NOMINATED, unwanted_trailers
from sidecar.http1.grammar import GrammarError, field_of
from sidecar.message import NO_TRAILERS, Field, Framing, Kind, RequestHead, ResponseHead

# Extensions are bounded as Node and Apache bound them; they are dropped.
_MAX_LINE_BYTES: Final = 4096
# Lines taken in one call, at about a microsecond each: a peer that sends an octet a chunk must not hold the loop.
_MAX_LINES_AT_ONCE: Final = 512
# Possessive throughout, so that no line makes it go back: what does not fit at once does not fit.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+" % (_TOKEN, _TOKEN, _QUOTED)
)

# What may not come in a trailer (RFC 9110, 6.5.1): fields that frame, route, authenticate, control, or say how to read
# the content, all of which somebody decided by before they came. Of those that have a kind, none may but the status of
# gRPC, which is at home there: they are dropped by that.
_NEVER_IN_TRAILERS: Final = frozenset(
    (
        b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"expires",
        b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"location",
        b"pragma", b"range", b"retry-after", b"set-cookie", b"trailer", b"vary", b"www-authenticate",
    )
)  # fmt: skip
_UNWANTED_KINDS: Final = MEANS_SOMETHING & ~(Kind.GRPC_STATUS | Kind.NEVER_INDEXED)
_UNWANTED_OR_UNDERSCORED: Final = ~(Kind.GRPC_STATUS | Kind.NEVER_INDEXED)


# Most bodies come in chunks of a few sizes: a look at the dictionary instead of a match and a conversion, which halves
# the cost of chunks of 4 KiB. The memory is bounded by count and by line length, at about 100 KiB.
_MAX_SIZES, _MAX_REMEMBERED_BYTES = 1024, 16
_sizes: dict[bytes, int] = {}


class _Awaits:
    """What the next octet belongs to."""

    SIZE: Final = 0
    PAYLOAD: Final = 1
    PAYLOAD_END: Final = 2
    TRAILER: Final = 3
    NOTHING: Final = 4


class BodyReader:
    """
    Reads the bodies of one connection, one after another: those of known length and those in chunks.

    Attributes:
        is_complete: Whether the body has been read to its end; true before the first one begins.
        left: Bytes that are still to come of a body of known length; 0 for one in chunks.
    """

    __slots__ = ("_chunked", "is_complete", "left")

    def __init__(self) -> None:
        self.is_complete = True
        self.left = 0
        self._chunked: ChunkedReader | None = None

    def begin(
        self, head: RequestHead | ResponseHead, max_trailer_bytes: int, *, drops_underscored: bool = False
    ) -> None:
        """
        A body begins.

        Args:
            head: Of a message whose body is of known length or chunked.
            max_trailer_bytes: Most of a trailer section.
            drops_underscored: As for `ChunkedReader`.
        """
        self.is_complete = False
        if head.framing == Framing.LENGTH:
            self.left = head.content_length
        else:
            self.left = 0
            unwanted = unwanted_trailers(head)
            self._chunked = ChunkedReader(max_trailer_bytes, unwanted, drops_underscored=drops_underscored)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Take what has arrived.

        Returns:
            The payload found in it, and what follows. Once `is_complete`, that belongs to the next message; before, it
            is to be fed again, in another callback of the loop.

        Raises:
            GrammarError: Not a chunked body; nothing of this call may go on.
        """
        chunked = self._chunked
        if chunked is None:
            surplus = self.take(len(data))
            return (data[:-surplus], data[-surplus:]) if surplus else (data, b"")
        payload, end = chunked.feed(data)
        self.is_complete = chunked.is_complete
        return payload, data[end:]

    def take(self, size: int) -> int:
        """Count so many bytes off a body of known length; returns how many of them came behind its end."""
        left = self.left - size
        if left > 0:
            self.left = left
            return 0
        self.left = 0
        self.is_complete = True
        return -left

    def take_trailers(self) -> list[Field]:
        """Trailers of a body that is complete, without the unwanted; a second time there are none."""
        chunked, self._chunked = self._chunked, None
        return NO_TRAILERS if chunked is None else chunked.trailers

    def stop(self) -> None:
        """What is left of the body does not matter any more."""
        self.left = 0
        self.is_complete = True
        self._chunked = None


def wanted_trailers(fields: list[Field], *, drops_underscored: bool = False) -> list[Field]:
    """Those that may stand behind a body, of a trailer section that another wire has carried; no other goes on."""
    unwanted = _UNWANTED_OR_UNDERSCORED if drops_underscored else _UNWANTED_KINDS
    return [field for field in fields if not field.kind & unwanted and field.name not in _NEVER_IN_TRAILERS]


class ChunkedReader:
    """
    Reads one chunked body.

    Args:
        max_trailer_bytes: Of the trailer section, line ends included.
        unwanted: Names of trailer fields that are dropped besides those that no trailer may have: what the head's
            `Connection` names (`framing.nominated`), since "any header or trailer field(s) from the message with the
            same name as the connection-option" go (RFC 9110, 7.6.1).
        drops_underscored: Whether trailer fields with `_` in their name are dropped, as such fields of the head are.

    Attributes:
        trailers: Those that are wanted, in order, once the body is complete.
    """

    __slots__ = (
        "_awaits",
        "_held",
        "_left",
        "_max_trailer_bytes",
        "_trailer_bytes",
        "_unwanted",
        "_unwanted_kinds",
        "trailers",
    )

    def __init__(
        self, max_trailer_bytes: int, unwanted: frozenset[bytes] = NOTHING_NOMINATED, *, drops_underscored: bool = False
    ) -> None:
        self._unwanted = unwanted
        self._unwanted_kinds: int = _UNWANTED_OR_UNDERSCORED if drops_underscored else _UNWANTED_KINDS
        self._awaits: int = _Awaits.SIZE
        self._held = b""
        self._left = 0
        self._max_trailer_bytes = max_trailer_bytes
        self._trailer_bytes = 0
        self.trailers: list[Field] = []

    @property
    def is_complete(self) -> bool:
        """Whether the last line has been read."""
        return self._awaits == _Awaits.NOTHING

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """
        Take what has arrived.

        Returns:
            The payload found in it, and the index in `data` up to which it was taken. Once `is_complete`, what follows
            belongs to the next message; before, it is to be fed again, in another callback of the loop.

        Raises:
            GrammarError: Not a chunked body; nothing of this call may go on.
        """
        held = len(self._held)
        if held:
            data = self._held + data
            self._held = b""
        # Views, so that the payload is copied once, into what is returned: a third less for a body in chunks of 32 KiB.
        pieces: list[memoryview] = []
        view = memoryview(data)
        position, size, budget = 0, len(data), _MAX_LINES_AT_ONCE
        while position < size and budget:
            awaits = self._awaits
            if awaits == _Awaits.PAYLOAD:
                end = position + self._left
                if end > size:
                    pieces.append(view[position:])
                    self._left = end - size
                    position = size
                    break
                pieces.append(view[position:end])
                self._awaits = _Awaits.PAYLOAD_END
                position = end
            elif awaits == _Awaits.PAYLOAD_END:
                if size - position < 2:
                    self._hold(data, position)
                    position = size
                    break
                if data[position : position + 2] != b"\r\n":
                    raise GrammarError("a chunk longer than its size")
                self._awaits = _Awaits.SIZE
                position += 2
            elif awaits == _Awaits.NOTHING:
                break
            else:
                end = self._line_end(data, position)
                if end < 0:
                    self._hold(data, position)
                    position = size
                    break
                line = data[position:end]
                position = end + 2
                budget -= 1
                if awaits == _Awaits.SIZE:
                    self._on_size(line)
                else:
                    self._on_trailer(line)
        payload = b"".join(pieces)
        return payload, max(position - held, 0)

    def _hold(self, data: bytes, position: int) -> None:
        rest = data[position:]
        if self._awaits == _Awaits.PAYLOAD_END and rest != b"\r":
            raise GrammarError("a chunk longer than its size")
        self._held = rest

    def _line_end(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position)
        length = (end if end >= 0 else len(data)) - position
        limit = _MAX_LINE_BYTES if self._awaits == _Awaits.SIZE else self._max_trailer_bytes - self._trailer_bytes
        if length > limit:
            raise GrammarError("a chunk line or trailer section that is too long")
        if end < 0 and data.find(b"\n", position) >= 0:
            raise GrammarError("a bare LF")
        return end

    def _on_size(self, line: bytes) -> None:
        size = _sizes.get(line)
        if size is None:
            size = _learn_size(line)
        self._left = size
        self._awaits = _Awaits.PAYLOAD if size else _Awaits.TRAILER

    def _on_trailer(self, line: bytes) -> None:
        if not line:
            self._awaits = _Awaits.NOTHING
            return
        self._trailer_bytes += len(line) + 2
        field = field_of(line)
        name = field.name
        if not field.kind & self._unwanted_kinds and name not in _NEVER_IN_TRAILERS and name not in self._unwanted:
            self.trailers.append(field)


def _learn_size(line: bytes) -> int:
    match = _SIZE_LINE.fullmatch(line)
    if match is None:
        raise GrammarError("an invalid chunk size")
    size = int(match[1], 16)
    if len(line) <= _MAX_REMEMBERED_BYTES:
        if len(_sizes) >= _MAX_SIZES:
            _sizes.clear()
        _sizes[line] = size
    return size


def encode_chunk(payload: bytes) -> bytes:
    """One chunk; `payload` must not be empty, for an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def chunk_parts(payload: bytes) -> list[bytes]:
    """As `encode_chunk`, in parts, so that what is large need not be copied."""
    return [b"%x\r\n" % len(payload), payload, b"\r\n"]


def encode_end(trailers: list[Field]) -> bytes:
    """The last chunk and the trailer section."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n" + b"\r\n".join([field.wire for field in trailers]) + b"\r\n\r\n"


def frame(framing: int, payload: bytes, is_end: bool, trailers: list[Field]) -> bytes:
    """A part of a body as the wire has it: as it is, or as a chunk, with the last chunk behind it if it is the end."""
    if framing != Framing.CHUNKED:
        return payload
    if not is_end:
        return encode_chunk(payload) if payload else b""
    return encode_chunk(payload) + encode_end(trailers) if payload else encode_end(trailers)


def frame_parts(framing: int, pieces: list[bytes], is_end: bool, trailers: list[Field]) -> list[bytes]:
    """As `frame`, of several pieces, none empty, and in parts, so that what is large need not be copied."""
    if framing != Framing.CHUNKED:
        return pieces
    parts: list[bytes] = []
    for piece in pieces:
        parts += chunk_parts(piece)
    if is_end:
        parts.append(encode_end(trailers))
    return parts
