"""
Telling protocols apart, held against a parser that is naive, on any octets in any pieces: more is needed until it is
known, and then nothing changes it.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.net.detect import MAX_METHOD, PREFACE, Protocol, detect
from tests.support.thoroughness import examples

QUICK = settings(deadline=None, max_examples=examples(600))
WORDS = st.sampled_from(
    [b"GET", b"PRI", b"P", b"*", b"/", b"HTTP/1.1", b"http/", b"HTTP/2.0", b"SM", b" ", b"  ", b"\t", b"\r\n", b"\n",
     b"\r", b"\0", b"\x16", b"\x03\x01", b"\x00\x05", b"\x40\x01", b":", b"A" * MAX_METHOD, PREFACE, PREFACE[:20]]
)  # fmt: skip
BEGINNINGS = st.one_of(st.lists(WORDS, max_size=8).map(b"".join), st.binary(max_size=30))
TOKEN = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def naive(data: bytes) -> int:
    """Octet by octet, as one would say it."""
    if data[:1] == b"\x16":
        header = data[:5]
        could_be = header[1:2] in (b"", b"\x03")
        if len(header) == 4:
            could_be &= header[3] <= 0x40
        if len(header) == 5:
            could_be &= 0 < header[3] * 256 + header[4] <= 0x4000
        if could_be:
            return Protocol.TLS if len(header) == 5 else Protocol.UNKNOWN
        return Protocol.OTHER
    if data.startswith(PREFACE):
        return Protocol.HTTP2
    if PREFACE.startswith(data):
        return Protocol.UNKNOWN
    left = list(data)
    while left and left[0] in b"\r\n":
        left.pop(0)
    method = []
    while left and left[0] in TOKEN:
        method.append(left.pop(0))
    if len(method) > MAX_METHOD:
        return Protocol.OTHER
    if not left:
        return Protocol.UNKNOWN
    if not method or left[0] != ord(" "):
        return Protocol.OTHER
    if ord("\n") not in left:
        return Protocol.UNKNOWN
    words = bytes(left[: left.index(ord("\n"))]).split()
    return Protocol.HTTP1 if words and words[-1].upper().startswith(b"HTTP/") else Protocol.OTHER


@QUICK
@given(BEGINNINGS)
@example(PREFACE)
@example(b"\x16\x03\x01\x40\x00")
def test_as_a_naive_parser(data: bytes) -> None:
    """On the whole, and on each piece of it, as the pieces come."""
    for size in range(len(data) + 1):
        assert detect(data[:size]) == naive(data[:size])


@QUICK
@given(BEGINNINGS)
@example(PREFACE + b"x")
@example(b"\x16\x03\x01\x40\x01")
def test_what_is_known_stays_known(data: bytes) -> None:
    """So that it does not matter how the octets were split."""
    known = [detect(data[:size]) for size in range(len(data) + 1)]
    first = next((answer for answer in known if answer != Protocol.UNKNOWN), Protocol.UNKNOWN)
    assert set(known[known.index(first) :]) <= {first}
