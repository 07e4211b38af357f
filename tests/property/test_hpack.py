"""
HPACK against `hpack`, another's codec: whatever one writes the other reads, over blocks, evictions and resizes; and
whatever octets come, the decoder ends with fields or one of its two errors, within its limits.
"""

from __future__ import annotations

import tracemalloc

import hpack
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2.fields import field_from, never_indexed
from sidecar.http2.hpack import huffman
from sidecar.http2.hpack.decoder import FIELD_OVERHEAD, Decoder, FieldsTooLarge, HpackError
from sidecar.http2.hpack.encoder import Encoder
from sidecar.http2.hpack.static_table import STATIC_TABLE
from sidecar.message import Field, Kind
from tests.support.thoroughness import examples

Pair = tuple[bytes, bytes]

QUICK = settings(deadline=None, max_examples=examples(150))

_MAX_BYTES, _MAX_FIELDS = 1 << 20, 1000
_VALUES = st.one_of(
    st.sampled_from((b"", b"1", b"text/html", b"gzip, deflate", b"v" * 40, b"w" * 1200)),
    st.text(st.characters(codec="latin-1"), max_size=20).map(lambda text: text.encode("latin-1")),
)
_NAMES = st.one_of(
    st.sampled_from(
        (b"accept", b"cookie", b"authorization", b"traceparent", b"x-request-id", b"x-own", b"x-other", b":path")
    ),
    st.text("abcxyz-_", min_size=1, max_size=6).map(str.encode),
    st.binary(max_size=6),
)
_PAIRS = st.one_of(st.sampled_from(STATIC_TABLE), st.tuples(_NAMES, _VALUES))
# Fields come again, which is what a table is for.
_FEW = st.lists(_PAIRS, min_size=1, max_size=8)
_SIZES = st.sampled_from((0, 31, 64, 100, 300, 1000, 4096, 5000))


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[list[int], list[tuple[Pair, bool]]]]:
    """For each block the limits that come before it, and its fields, each with whether it may never be indexed."""
    pool = st.sampled_from(draw(_FEW))
    fields = st.lists(st.tuples(pool | _PAIRS, st.sampled_from((False, False, False, True))), max_size=12)
    return draw(st.lists(st.tuples(st.lists(_SIZES, max_size=3) | st.just([]), fields), min_size=1, max_size=12))


def spelt(field: Field) -> tuple[bytes, bytes, bool]:
    return field.name, field.value, bool(field.kind & Kind.NEVER_INDEXED)


@QUICK
@given(conversations())
def test_ours_is_read_by_both(conversation: list[tuple[list[int], list[tuple[Pair, bool]]]]) -> None:
    """Names, values and what may never be indexed, field by field; the same objects from our own."""
    encoder, ours, theirs = Encoder(), Decoder(), hpack.Decoder(_MAX_BYTES)
    objects: dict[Pair, Field] = {}
    for limits, sent in conversation:
        for limit in limits:
            encoder.set_max_table_bytes(limit)
            ours.set_max_table_bytes(limit)
        fields = []
        for pair, is_secret in sent:
            field = objects.setdefault(pair, field_from(*pair))
            fields.append(never_indexed(field) if is_secret else field)
        theirs.max_allowed_table_size = max([*limits, theirs.max_allowed_table_size])
        block = encoder.encode(fields) + encoder.literal(b"x-new", b"%d" % len(fields))
        read = ours.decode(block, _MAX_BYTES, _MAX_FIELDS)
        pairs = [(field.name, field.value) for field in read]
        assert pairs == [*(pair for pair, _ in sent), (b"x-new", b"%d" % len(fields))]
        for field, (pair, is_secret) in zip(read, sent, strict=False):
            if is_secret or pair[0] in (b"authorization", b"proxy-authorization"):
                assert field.kind & Kind.NEVER_INDEXED or pair in STATIC_TABLE
        assert [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)] == pairs


@QUICK
@given(conversations(), st.booleans())
def test_theirs_is_read_by_ours(conversation: list[tuple[list[int], list[tuple[Pair, bool]]]], is_coded: bool) -> None:
    """With Huffman code and without; nothing says that it may never be indexed but what may not."""
    encoder, decoder = hpack.Encoder(), Decoder()
    for limits, sent in conversation:
        # It announces each change, and none if the last was to the same; as the RFC has it, two are enough.
        for limit in dict.fromkeys((min(limits), limits[-1])) if limits else ():
            if limit != encoder.header_table_size:
                encoder.header_table_size = limit
                decoder.set_max_table_bytes(limit)
        headers = [NeverIndexedHeaderTuple(*pair) if is_secret else HeaderTuple(*pair) for pair, is_secret in sent]
        block = encoder.encode(headers, huffman=is_coded)
        fields = decoder.decode(block, _MAX_BYTES, _MAX_FIELDS)
        assert [(field.name, field.value) for field in fields] == [pair for pair, _ in sent]
        for field, (pair, is_secret) in zip(fields, sent, strict=True):
            made = field_from(*pair)
            # Theirs takes an index for a secret, too, if there is one.
            assert field.kind == made.kind or (is_secret and field.kind == made.kind | Kind.NEVER_INDEXED)
            assert field.wire == made.wire


@given(st.binary(max_size=60))
def test_huffman_code_says_what_was_coded(text: bytes) -> None:
    """There and back."""
    assert huffman.decode(huffman.encode(text)) == text


@given(st.binary(max_size=40))
def test_one_huffman_string_has_one_meaning(octets: bytes) -> None:
    """What is decoded is coded the same again: padding has one form."""
    text = huffman.decode(octets)
    assert text is None or huffman.encode(text) == octets


_BLOCKS = st.one_of(
    st.binary(max_size=60),
    # Representations that are nearly right: an octet that begins one, and what may come after it.
    st.lists(
        st.sampled_from(
            (b"\x82", b"\xbe", b"\xbf", b"\x40\x01a\x01b", b"\x40\x81\x1f\x03abc", b"\x7e\x02xy", b"\x10\x01k\x01v",
             b"\x20", b"\x3f\xe1\x1f", b"\x44\x82\x62\xff", b"\xff\x00", b"\x00", b"\x0f\x10\x00")
        ) | st.binary(max_size=3),
        max_size=20,
    ).map(b"".join),
)  # fmt: skip


@settings(deadline=None, max_examples=examples(600))
@given(st.lists(_BLOCKS, max_size=8), st.integers(0, 400), st.integers(0, 8))
def test_any_octets_are_fields_or_one_of_two_errors(blocks: list[bytes], max_bytes: int, max_fields: int) -> None:
    """And what is handed out is within the limits; after a list too large the next block is read as by who had none."""
    decoder, patient = Decoder(200), Decoder(200)
    for block in blocks:
        try:
            fields = patient.decode(block, _MAX_BYTES, _MAX_FIELDS)
        except HpackError:
            fields = None
        try:
            read = decoder.decode(block, max_bytes, max_fields)
        except HpackError:
            assert fields is None
            return
        except FieldsTooLarge:
            assert fields is not None
            assert len(fields) > max_fields or sum(map(counted, fields)) > max_bytes
            continue
        assert fields is not None
        assert list(map(spelt, read)) == list(map(spelt, fields))
        assert [field.kind for field in read] == [field.kind for field in fields]
        assert len(read) <= max_fields
        assert sum(map(counted, read)) <= max_bytes


def counted(field: Field) -> int:
    return len(field.name) + len(field.value) + FIELD_OVERHEAD


def test_small_block_makes_no_large_list() -> None:
    """
    An entry of a table's size, then its index or its name as often as fits: 16 KiB would be 64 MiB of fields. What is
    held at the most is a few times what the limits allow.
    """
    name = b"n" * 4000
    entry = b"\x40\x7f" + bytes([4000 - 127 & 0x7F | 0x80, 4000 - 127 >> 7]) + name + b"\x01v"
    for bomb in (b"\xbe" * 16384, b"\x0f\x2f\x00" * 5461, b"\x7e\x00" * 8192):
        decoder = Decoder()
        tracemalloc.start()
        try:
            decoder.decode(entry + bomb, 65536, 128)
        except FieldsTooLarge:
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20
        assert decoder.decode(b"\xbe", 65536, 128)[0].name == name
