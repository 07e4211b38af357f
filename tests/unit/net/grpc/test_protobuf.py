"""Messages of Protocol Buffers: taken apart as Google's library does it, or refused as a whole."""

from __future__ import annotations

import pytest

from sidecar.net.grpc.protobuf import (
    FIXED_32,
    FIXED_64,
    MAX_FIELDS,
    OCTETS,
    VARINT,
    Field,
    ProtobufError,
    fields,
    octets,
    octets_field,
    text,
)


def test_every_way_to_write_a_field_is_read() -> None:
    """protobuf.dev, "Encoding": Message Structure; unknown ones can be passed over."""
    message = b"\x08\x96\x01" + b"\x12\x02ab" + b"\x1d\1\2\3\4" + b"\x21" + bytes(8) + b"\xf8\xff\xff\xff\x0f\0"
    assert list(fields(message)) == [
        Field(1, VARINT, 150),
        Field(2, OCTETS, b"ab"),
        Field(3, FIXED_32, b"\1\2\3\4"),
        Field(4, FIXED_64, bytes(8)),
        Field((1 << 29) - 1, VARINT, 0),
    ]
    assert list(fields(b"")) == []
    assert list(fields(b"\x08" + b"\xff" * 9 + b"\1")) == [Field(1, VARINT, (1 << 64) - 1)]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x08", "ends within a number"),
        (b"\x08\x80", "ends within a number"),
        (b"\x80", "ends within a number"),
        (b"\x08" + b"\xff" * 9 + b"\2", "too large"),
        (b"\x08" + b"\xff" * 10, "too large"),
        (b"\xff\xff\xff\xff\x1f\0", "too large"),
        (b"\x00\x00", "the number 0"),
        (b"\x12\x03ab", "the field 2 is longer than what is left"),
        (b"\x12" + b"\xff" * 9 + b"\1", "longer than what is left"),
        (b"\x1d\1\2\3", "longer than what is left"),
        (b"\x21" + bytes(7), "longer than what is left"),
        (b"\x0b\x0c", "a way (3) that there is not"),
        (b"\x0c", "a way (4) that there is not"),
        (b"\x0e", "a way (6) that there is not"),
        (b"\x0f", "a way (7) that there is not"),
        (b"\x08\0" * (MAX_FIELDS + 1), "more than 10000 fields"),
    ],
)
def test_what_does_not_come_out_even_is_refused(message: bytes, why: str) -> None:
    """With the reason, and without any of its octets."""
    with pytest.raises(ProtobufError) as caught:
        list(fields(message))
    assert why in str(caught.value)


def test_as_many_fields_as_are_allowed_are_read() -> None:
    """The bound is not one less."""
    assert len(list(fields(b"\x08\0" * MAX_FIELDS))) == MAX_FIELDS


def test_a_field_has_the_kind_that_it_must_have() -> None:
    """Octets are no number, and text is UTF-8."""
    assert text(Field(1, OCTETS, "é".encode())) == "é"
    for wrong in (Field(1, VARINT, 1), Field(1, FIXED_32, bytes(4))):
        with pytest.raises(ProtobufError, match="in another way"):
            octets(wrong)
    with pytest.raises(ProtobufError, match="not UTF-8"):
        text(Field(1, OCTETS, b"\xff"))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 70_000])
def test_what_is_written_is_read_again(length: int) -> None:
    """Numbers of one octet and of several."""
    assert list(fields(octets_field(1, b"x" * length) + octets_field(16, b""))) == [
        Field(1, OCTETS, b"x" * length),
        Field(16, OCTETS, b""),
    ]
