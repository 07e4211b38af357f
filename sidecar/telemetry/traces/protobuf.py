"""
The few pieces of protobuf's wire format that spans are made of. *Hot path; pure.*

Source: https://protobuf.dev/programming-guides/encoding/. Field numbers are those of opentelemetry-proto
`trace/v1/trace.proto` and `common/v1/common.proto`; tests parse what is made here with the generated classes.
"""

from __future__ import annotations

from typing import Final

_TABLE_SIZE: Final = 4096


def varint(value: int) -> bytes:
    """A non-negative integer in base 128, low group first."""
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


# A span's length is looked up: 0.3 us less than `varint`.
_VARINTS: Final = [varint(value) for value in range(_TABLE_SIZE)]


def length(size: int) -> bytes:
    """What says how long a field is, between its tag and its content."""
    return _VARINTS[size] if size < _TABLE_SIZE else varint(size)


def delimited(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: a string, bytes, or a message."""
    return b"%b%b%b" % (tag, length(len(content)), content)


class StringAttribute:
    """
    `Span.attributes` entries of one key whose value is a string: `KeyValue{key, AnyValue{string_value}}`.

    What stands before the value depends on the key and the value's length only, so it is looked up.
    """

    __slots__ = ("_key", "_prefixes")

    def __init__(self, key: str) -> None:
        self._key = delimited(b"\x0a", key.encode())
        self._prefixes = [_string_prefix(self._key, size) for size in range(256)]

    def encode(self, value: bytes) -> bytes:
        """The attribute with this value, which must be UTF-8."""
        size = len(value)
        return (self._prefixes[size] if size < 256 else _string_prefix(self._key, size)) + value


def _string_prefix(key: bytes, size: int) -> bytes:
    """Everything before a string value of this size; `key` is the encoded `KeyValue.key`."""
    string = b"\x0a" + varint(size)  # AnyValue.string_value = 1
    value = b"\x12" + varint(len(string) + size) + string  # KeyValue.value = 2
    return b"\x4a" + varint(len(key) + len(value) + size) + key + value  # Span.attributes = 9


def int_attribute(key: str, value: int) -> bytes:
    """A `Span.attributes` entry whose value is a non-negative integer."""
    number = b"\x18" + varint(value)  # AnyValue.int_value = 3
    return delimited(b"\x4a", delimited(b"\x0a", key.encode()) + delimited(b"\x12", number))


def string_attribute(key: str, value: str) -> bytes:
    """A `Span.attributes` entry, for what is made once."""
    encoded = value.encode("utf-8", "replace")
    return _string_prefix(delimited(b"\x0a", key.encode()), len(encoded)) + encoded
