"""Octets of netlink: what is written can be read, and what is cut off is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.capture.netfilter.messages import (
    ERROR,
    NEW_RULE,
    Message,
    attribute,
    covers,
    error_of,
    message_bytes,
    nested,
    number,
    read_attributes,
    read_messages,
    text,
)

KINDS = st.integers(0, 0x3FFF)
SOME = st.lists(st.tuples(KINDS, st.binary(max_size=40)), max_size=6)


@given(SOME)
def test_attributes_are_read_as_they_were_written(some: list[tuple[int, bytes]]) -> None:
    """Whatever their length; each begins at a multiple of four."""
    written = b"".join(attribute(kind, value) for kind, value in some)
    assert len(written) % 4 == 0
    assert list(read_attributes(written)) == some
    assert list(read_attributes(nested(3, written))) == [(3, written)]


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    """Nothing else is raised, and it ends."""
    for read in (read_attributes, read_messages):
        try:
            list(read(data))  # type: ignore[operator]
        except ValueError:
            continue


def test_messages_are_read_one_behind_the_other() -> None:
    """With their numbers; an error is what follows netlink's own header."""
    one = message_bytes(Message(NEW_RULE, 0, text(1, "sidecar"), 7))
    refused = struct.pack("=IHHIIi", 20, ERROR, 0, 8, 0, -1)
    first, second = read_messages(one + refused)
    assert (first.kind, first.number, first.body) == (NEW_RULE, 7, text(1, "sidecar"))
    assert (second.kind, second.number, error_of(second)) == (ERROR, 8, 1)
    with pytest.raises(ValueError, match="octets"):
        list(read_messages(one[:-4]))


def test_what_the_kernel_adds_and_turns_round_is_the_same() -> None:
    """But not what is missing, is another, or is there twice."""
    written = nested(4, nested(1, text(1, "cmp"), nested(2, number(1, 1), number(2, 0))))
    order = attribute(4, attribute(1, attribute(2, number(2, 0) + number(9, 5) + number(1, 1)) + text(1, "cmp")))
    assert covers(written, written)
    assert covers(order + number(12, 3), written)
    assert not covers(b"", written)
    assert not covers(written + written, written)
    assert not covers(written, written + written)
    assert not covers(nested(4, nested(1, text(1, "cmp"), nested(2, number(1, 1), number(2, 1)))), written)
