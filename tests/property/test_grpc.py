"""Timeouts of gRPC: what is written is read again, and never longer than it was; nothing makes the reader fail."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from sidecar import grpc


@given(st.floats(min_value=0, max_value=1e15))
def test_a_timeout_is_told_to_within_a_ten_thousandth_and_not_longer(seconds: float) -> None:
    """Of what can be told at all: a nanosecond to 99,999,999 hours."""
    value = grpc.format_timeout(seconds)
    read = grpc.parse_timeout(value)
    assert read is not None
    assert 0 < read <= max(seconds, 1e-9)
    if 1e-5 < seconds < 3e11:
        assert read >= seconds * (1 - 1e-4) - 1e-9


@given(st.integers(min_value=1, max_value=99_999_999), st.sampled_from(b"HMSmun"))
def test_whatever_is_read_can_be_told_on(number: int, unit: int) -> None:
    """And is at most a ten thousandth shorter at the next hop."""
    seconds = grpc.parse_timeout(b"%d%c" % (number, unit))
    assert seconds is not None
    told = grpc.parse_timeout(grpc.format_timeout(seconds))
    assert told is not None
    assert seconds * 0.9999 - 1e-9 <= told <= seconds


@given(st.binary(max_size=12))
def test_no_value_makes_the_readers_fail(value: bytes) -> None:
    """They are the wire's."""
    seconds = grpc.parse_timeout(value)
    assert seconds is None or seconds >= 0
    assert 0 <= grpc.status_of(value) <= 16
    assert grpc.is_grpc(value) in (True, False)


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_a_message_is_printable_and_decodes_to_itself(text: str) -> None:
    """As a client reads it."""
    encoded = grpc.encode_message(text)
    assert all(0x20 <= octet <= 0x7E for octet in encoded)
    assert unquote(encoded.decode()) == text
