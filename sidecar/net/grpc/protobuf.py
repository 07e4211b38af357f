"""
Messages of Protocol Buffers taken apart into fields, and written (protobuf.dev, "Encoding"). *Pure, cold.*

Strict: what does not come out even is refused as a whole, and so are groups, which the third version does not have.
Bounded: by the number of fields, for a message's length is bounded by who reads it from its connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED_64: Final = 1
OCTETS: Final = 2
FIXED_32: Final = 5

MAX_FIELDS: Final = 10_000
"""Of one message, those that are passed over included; an agent's has some twenty."""
_MAX_TAG: Final = (1 << 32) - 1
_MAX_VARINT: Final = (1 << 64) - 1


class ProtobufError(ValueError):
    """Octets that are no message; the text says why, without any of them."""


class Field(NamedTuple):
    """
    Attributes:
        number: From 1 on.
        wire_type: How it is written.
        value: An integer of a `VARINT`, else octets.
    """

    number: int
    wire_type: int
    value: int | bytes


def fields(message: bytes) -> Iterator[Field]:
    """
    The fields of a message, in its order.

    Raises:
        ProtobufError: It is none; fields that stand before what is wrong were given already.
    """
    at, count = 0, 0
    while at < len(message):
        count += 1
        if count > MAX_FIELDS:
            raise ProtobufError(f"a message has more than {MAX_FIELDS} fields")
        tag, at = _varint(message, at, _MAX_TAG)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise ProtobufError("a field has the number 0")
        value: int | bytes
        if wire_type == VARINT:
            value, at = _varint(message, at, _MAX_VARINT)
        elif wire_type in (OCTETS, FIXED_64, FIXED_32):
            length = 8 if wire_type == FIXED_64 else 4
            if wire_type == OCTETS:
                length, at = _varint(message, at, _MAX_VARINT)
            if length > len(message) - at:
                raise ProtobufError(f"the field {number} is longer than what is left of its message")
            value, at = message[at : at + length], at + length
        else:
            raise ProtobufError(f"the field {number} is written in a way ({wire_type}) that there is not")
        yield Field(number, wire_type, value)


def octets_field(number: int, value: bytes) -> bytes:
    """A field that is written as octets: text, or a message."""
    return _written(number << 3 | OCTETS) + _written(len(value)) + value


def octets(field: Field) -> bytes:
    """
    The value of a field that is written as octets.

    Raises:
        ProtobufError: It is written otherwise.
    """
    if not isinstance(field.value, bytes) or field.wire_type != OCTETS:
        raise ProtobufError(f"the field {field.number} is written in another way ({field.wire_type}) than it must be")
    return field.value


def text(field: Field) -> str:
    """
    The value of a field that is text.

    Raises:
        ProtobufError: It is written otherwise, or not in UTF-8.
    """
    try:
        return octets(field).decode()
    except UnicodeDecodeError:
        raise ProtobufError(f"the field {field.number} is not UTF-8") from None


def _written(value: int) -> bytes:
    """As `_varint` reads it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _varint(message: bytes, at: int, most: int) -> tuple[int, int]:
    """An integer, seven bits an octet from the lowest on, and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            raise ProtobufError("the message ends within a number")
        octet = message[at + place]
        value |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            if value > most:
                break
            return value, at + place + 1
    raise ProtobufError("a number is too large")
