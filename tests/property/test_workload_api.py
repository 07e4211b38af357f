"""Whatever an agent sends: it is a message that Google's library reads as we do, or it is refused in our words."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.net.grpc.call import Call
from sidecar.net.grpc.protobuf import ProtobufError, fields
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.identity.workload_api.svids import choose, material_of, read_response, split
from tests.support.fake_agent import Response, X509Svid, framed

DER = st.one_of(
    st.binary(max_size=300).map(lambda content: b"0" + _length(len(content)) + content),
    st.binary(max_size=12),
)
SVIDS = st.builds(
    X509Svid,
    spiffe_id=st.text(max_size=30),
    x509_svid=st.lists(DER, max_size=3).map(b"".join),
    x509_svid_key=DER,
    bundle=st.lists(DER, max_size=3).map(b"".join),
    hint=st.text(max_size=5),
)
RESPONSES = st.builds(
    Response,
    svids=st.lists(SVIDS, max_size=3),
    crl=st.lists(st.binary(max_size=9), max_size=2),
    federated_bundles=st.dictionaries(st.text(max_size=9), st.binary(max_size=9), max_size=2),
).map(lambda made: bytes(made.SerializeToString()))
MARKS = st.sampled_from([b"\x0a", b"\x12", b"\x80", b"\xff", b"\0", b"0\x82"])
PIECES = st.lists(st.one_of(st.binary(max_size=8), MARKS), max_size=12).map(b"".join)


def _length(size: int) -> bytes:
    """X.690, 8.1.3."""
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(octets)]) + octets


@given(RESPONSES)
def test_what_is_written_by_the_book_is_read_or_lacks_what_it_must_have(message: bytes) -> None:
    """And what is read is what was written."""
    wanted: Any = Response.FromString(message)
    if not wanted.svids or not all(_is_right(one) for one in wanted.svids):
        with pytest.raises(TroubleError) as caught:
            read_response(message, "agent")
        assert caught.value.trouble.code == "malformed"
        return
    found = read_response(message, "agent")
    assert [(one.spiffe_id, b"".join(one.chain), one.key, b"".join(one.bundle)) for one in found] == [
        (one.spiffe_id, one.x509_svid, one.x509_svid_key, one.bundle) for one in wanted.svids
    ]
    material_of(choose(found, "shop"), "agent")


def _is_right(one: Any) -> bool:
    try:
        parts = [split(each, "x") for each in (one.x509_svid, one.x509_svid_key, one.bundle)]
    except ProtobufError:
        return False
    return bool(one.spiffe_id and one.x509_svid and one.bundle) and len(parts[1]) == 1


@given(st.one_of(RESPONSES, PIECES, st.binary(max_size=60)), st.integers(0, 400), st.integers(0, 255))
@example(b"\x0b\x0c", 400, 0)
def test_no_octets_bring_another_error(message: bytes, at: int, octet: int) -> None:
    """Whole, cut, or with one octet changed; what we take apart Google's library takes, but for what is inside."""
    for one in (message, message[:at], message[:at] + bytes([octet]) + message[at + 1 :]):
        told = ""
        try:
            numbers = {field.number for field in fields(one)}
        except ProtobufError as error:
            told = str(error)
        else:
            assert _is_message(one) or numbers & {1, 2, 3}
        try:
            read_response(one, "agent")
        except TroubleError as error:
            told += error.trouble.text
        assert told.isprintable()


def _is_message(octets: bytes) -> bool:
    try:
        Response.FromString(octets)
    except DecodeError:
        return False
    return True


@given(st.binary(max_size=2000))
def test_parts_of_der_are_the_whole(joined: bytes) -> None:
    """Nothing is lost, and nothing that was parted can be parted again."""
    try:
        parts = split(joined, "x")
    except ProtobufError:
        return
    assert b"".join(parts) == joined
    assert all(split(one, "x") == (one,) for one in parts)


@given(st.lists(st.binary(max_size=80), max_size=8), st.booleans())
def test_no_octets_break_a_call(pieces: list[bytes], is_framed: bool) -> None:
    """It goes on, or is over for a reason in one line."""
    call = Call("/a/b", "localhost")
    call.to_send()
    for piece in pieces:
        for message in call.feed(framed(piece) if is_framed else piece):
            assert isinstance(message, bytes)
        call.to_send()
    call.end()
    assert call.over is not None
    assert call.over.text.isprintable()
