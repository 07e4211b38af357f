"""HTTP/2 as far as load and upstreams of a comparison need it: frames as octets, and HPACK without Huffman code.

A block of a connection's first message inserts into the table what comes again; all later ones name that by its index
and change nothing, so that they can be made once, and sent in any order.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME = struct.Struct(">HBBBI")
"""The two upper octets of the length, the lower one, type, flags, stream."""
MAX_FRAME = 16384
DEFAULT_WINDOW = 65535
MAX_WINDOW = (1 << 31) - 1
STATIC = 61
"""Entries of the static table."""

Pairs = list[tuple[bytes, bytes]]


def begin(kind: int, flags: int, length: int) -> bytes:
    """The first five octets of a frame; the stream's number follows."""
    return struct.pack(">HBBB", length >> 8, length & 0xFF, kind, flags)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return begin(kind, flags, len(payload)) + stream.to_bytes(4, "big") + payload


def window_update(stream: int, size: int) -> bytes:
    """So many octets more."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def settings(**values: int) -> bytes:
    """SETTINGS: `max_streams`, `window`."""
    keys = {"max_streams": 3, "window": 4}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", keys[key], value) for key, value in values.items()))


def _integer(first: int, most: int, value: int) -> bytes:
    if value < most:
        return bytes([first | value])
    octets, value = [first | most], value - most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def _string(octets: bytes) -> bytes:
    return _integer(0, 0x7F, len(octets)) + octets


class Blocks:
    """
    The blocks of one kind of message.

    Args:
        first: Static entries, by index, that each begins with.
        same: Fields that all have.
        own: Names of fields whose value is each one's own.
        plain: Fields that all have, and that the table does not.
        behind: Entries that blocks of another kind will have inserted on the connection after the first of this one.
    """

    def __init__(
        self, first: list[int], same: Pairs, own: list[bytes], behind: int = 0, plain: Pairs | None = None
    ) -> None:
        self._static = b"".join(_integer(0x80, 0x7F, index) for index in first)
        self._static += b"".join(b"\0" + _string(name) + _string(value) for name, value in plain or ())
        self._same = same
        self._own = own
        self.inserts = len(same) + len(own)
        newest = STATIC + self.inserts + behind
        indexed = [_integer(0x80, 0x7F, newest - number) for number in range(len(same))]
        self._indexed = self._static + b"".join(indexed)
        self._names = [_integer(0, 0x0F, newest - len(same) - number) for number in range(len(own))]

    def learning(self, values: list[bytes]) -> bytes:
        """The first of a connection."""
        pairs = [*self._same, *zip(self._own, values, strict=True)]
        return self._static + b"".join(b"\x40" + _string(name) + _string(value) for name, value in pairs)

    def later(self, values: list[bytes]) -> bytes:
        """Any other."""
        named = zip(self._names, values, strict=True)
        return self._indexed + b"".join(name + _string(value) for name, value in named)
