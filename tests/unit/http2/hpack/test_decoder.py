"""Blocks to fields: the examples of RFC 7541, appendix C, and what its sections say MUST be."""

from __future__ import annotations

import pytest

from sidecar.http1.grammar import field_of
from sidecar.http2.fields import STATIC_FIELDS, field_from
from sidecar.http2.hpack import huffman
from sidecar.http2.hpack.decoder import Decoder, FieldsTooLarge, HpackError
from sidecar.http2.hpack.encoder import Encoder
from sidecar.message import Kind

Pairs = list[tuple[bytes, bytes]]


def read(decoder: Decoder, block: str | bytes, max_bytes: int = 65536, max_fields: int = 128) -> Pairs:
    """Names and values of a block, octets or hexadecimal."""
    octets = bytes.fromhex(block) if isinstance(block, str) else block
    return [(field.name, field.value) for field in decoder.decode(octets, max_bytes, max_fields)]


def table(decoder: Decoder) -> Pairs:
    """What the dynamic table holds, the newest first, as a peer could ask for it."""
    entries: Pairs = []
    while True:
        index = 62 + len(entries)
        octets = bytes([0x80 | index]) if index < 127 else bytes([0xFF, index - 127])
        try:
            entries += read(decoder, octets)
        except HpackError:
            return entries


def inserted(name: bytes, value: bytes) -> bytes:
    """A literal with incremental indexing and a new name, in plain octets, each shorter than 127."""
    return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value


def pairs(*lines: str) -> Pairs:
    return [(name.encode(), value.encode()) for name, _, value in (line.rpartition(": ") for line in lines)]


_FIRST = pairs(":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com")
_SECOND = [*_FIRST, *pairs("cache-control: no-cache")]
_THIRD = pairs(
    ":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"
)
_NOW = "date: Mon, 21 Oct 2013 20:13:21 GMT"
_LOCATION = "location: https://www.example.com"
_FOUND = pairs(":status: 302", "cache-control: private", _NOW, _LOCATION)
_MOVED = pairs(":status: 307", "cache-control: private", _NOW, _LOCATION)
_LATER = "date: Mon, 21 Oct 2013 20:13:22 GMT"
_COOKIE = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
_DONE = pairs(":status: 200", "cache-control: private", _LATER, _LOCATION, "content-encoding: gzip", _COOKIE)
_REQUESTS = (_FIRST, _SECOND, _THIRD)
_REQUEST_TABLES = (
    pairs(":authority: www.example.com"),
    pairs("cache-control: no-cache", ":authority: www.example.com"),
    pairs("custom-key: custom-value", "cache-control: no-cache", ":authority: www.example.com"),
)
_RESPONSES = (_FOUND, _MOVED, _DONE)
_RESPONSE_TABLES = (
    pairs(_LOCATION, _NOW, "cache-control: private", ":status: 302"),
    pairs(":status: 307", _LOCATION, _NOW, "cache-control: private"),
    pairs(_COOKIE, "content-encoding: gzip", _LATER),
)


class TestAppendixC:
    """RFC 7541, appendix C, with the table after each block."""

    @pytest.mark.parametrize(
        ("block", "fields", "entries"),
        [
            ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", pairs("custom-key: custom-header"),
             pairs("custom-key: custom-header")),
            ("040c2f73616d706c652f70617468", pairs(":path: /sample/path"), []),
            ("100870617373776f726406736563726574", pairs("password: secret"), []),
            ("82", pairs(":method: GET"), []),
        ],
        ids=["C.2.1", "C.2.2", "C.2.3", "C.2.4"],
    )  # fmt: skip
    def test_representations(self, block: str, fields: Pairs, entries: Pairs) -> None:
        """C.2: one of each kind."""
        decoder = Decoder()
        assert read(decoder, block) == fields
        assert table(decoder) == entries

    @pytest.mark.parametrize(
        "blocks",
        [
            ("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
             "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"),
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
             "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
        ],
        ids=["C.3", "C.4"],
    )  # fmt: skip
    def test_requests(self, blocks: tuple[str, ...]) -> None:
        """C.3 in plain octets, C.4 in Huffman code."""
        decoder = Decoder()
        for block, fields, entries in zip(blocks, _REQUESTS, _REQUEST_TABLES, strict=True):
            assert read(decoder, block) == fields
            assert table(decoder) == entries

    @pytest.mark.parametrize(
        "blocks",
        [
            ("4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a"
             "2f2f7777772e6578616d706c652e636f6d", "4803333037c1c0bf",
             "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b4851"
             "4b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31"),
            ("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43"
             "d3", "4883640effc1c0bf",
             "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27"
             "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"),
        ],
        ids=["C.5", "C.6"],
    )  # fmt: skip
    def test_responses_in_a_table_of_256_octets(self, blocks: tuple[str, ...]) -> None:
        """C.5 in plain octets, C.6 in Huffman code; entries are evicted."""
        decoder = Decoder(256)
        for block, fields, entries in zip(blocks, _RESPONSES, _RESPONSE_TABLES, strict=True):
            assert read(decoder, block) == fields
            assert table(decoder) == entries


class TestIntegers:
    """RFC 7541, 5.1."""

    def test_integers_of_appendix_c(self) -> None:
        """C.1.1 and C.1.2, as sizes of a table: 10 and 1337; the same with zeros after it."""
        for octets, size in (("2a", 10), ("3f9a0a", 1337), ("3f9a8a8000", 1337)):
            assert read(Decoder(size), octets) == []
            with pytest.raises(HpackError):
                read(Decoder(size - 1), octets)

    @pytest.mark.parametrize(
        "octets", ["ff808080808000", "ffffffffff7f", "0f8080808001", "7f8080808080", "3fffffffff0f"]
    )
    def test_integer_of_more_octets_than_any_needs_is_refused(self, octets: str) -> None:
        """ "Excessively large integer encodings ... MUST be treated as decoding errors"."""
        with pytest.raises(HpackError):
            read(Decoder(), octets)

    @pytest.mark.parametrize("octets", ["ff", "ff80", "7f", "0f", "1f", "3f", "3fe1", "407f", "00ff80"])
    def test_integer_that_is_cut_short_is_refused(self, octets: str) -> None:
        """By the end of the block."""
        with pytest.raises(HpackError):
            read(Decoder(), octets)


class TestStrings:
    """RFC 7541, 5.2."""

    @pytest.mark.parametrize(
        "octets", ["40", "4001", "400161", "40016101", "00016102", "4081", "04", "0402ff", "047f00"]
    )
    def test_string_that_ends_beyond_the_block_is_refused(self, octets: str) -> None:
        """Name or value, plain or not, length or octets."""
        with pytest.raises(HpackError):
            read(Decoder(), octets)

    @pytest.mark.parametrize("octets", ["0482f8ff", "048107ff", "0484fffffffc", "048100"])
    def test_huffman_code_that_is_none_is_refused(self, octets: str) -> None:
        """Padding too long, or not that of EOS; EOS: "MUST be treated as a decoding error"."""
        with pytest.raises(HpackError):
            read(Decoder(), octets)

    def test_empty_strings_are_strings(self) -> None:
        """Plain and in Huffman code; that there is no field without a name is HTTP's rule, not HPACK's."""
        assert read(Decoder(), "000000" + "008080" + "0f1000") == [(b"", b""), (b"", b""), (b"content-type", b"")]

    def test_long_string_in_huffman_code(self) -> None:
        """Longer than is remembered, twice."""
        text = b"/" + b"abcdefgh" * 40
        coded = huffman.encode(text)
        block = b"\x04\xff" + bytes([len(coded) - 127 & 0x7F | 0x80, len(coded) - 127 >> 7]) + coded
        assert read(Decoder(), block * 2) == [(b":path", text)] * 2


class TestIndices:
    """RFC 7541, 2.3.3 and 6.1."""

    @pytest.mark.parametrize("octets", ["80", "be", "ff00", "7f00", "7e01 61", "0f2f 0161", "ff8001"])
    def test_index_of_nothing_is_refused(self, octets: str) -> None:
        """0, and beyond both tables, whole or for its name."""
        with pytest.raises(HpackError):
            read(Decoder(), octets)

    def test_static_table_by_index(self) -> None:
        """All 61, the same objects each time."""
        block = bytes(0x80 | index for index in range(1, 62))
        assert Decoder().decode(block, 65536, 128) == STATIC_FIELDS

    def test_large_index(self) -> None:
        """Of more than one octet."""
        decoder = Decoder()
        read(decoder, b"".join(inserted(b"n%d" % number, b"") for number in range(100)))
        assert read(decoder, b"\xff\x22") == [(b"n0", b"")]
        assert read(decoder, b"\x7f\x62\x01v") == [(b"n0", b"v")]


class TestTable:
    """RFC 7541, 4: size, eviction, insertion."""

    def test_entry_counts_its_octets_and_32(self) -> None:
        """4.1: two entries of 50 octets fill a table of 100."""
        decoder = Decoder(100)
        for name in (b"a", b"b", b"c"):
            read(decoder, inserted(name, b"v" * 17))
        assert [name for name, _ in table(decoder)] == [b"c", b"b"]
        read(decoder, inserted(b"d", b"v" * 18))
        assert [name for name, _ in table(decoder)] == [b"d"]

    def test_entry_larger_than_the_table_empties_it(self) -> None:
        """4.4: "it is not an error"; the field is handed out all the same."""
        decoder = Decoder(100)
        read(decoder, inserted(b"a", b"v"))
        assert read(decoder, inserted(b"b", b"v" * 68)) == [(b"b", b"v" * 68)]
        assert table(decoder) == []

    def test_name_may_be_that_of_the_entry_that_is_evicted(self) -> None:
        """4.4: "a new entry can reference the name of an entry that will be evicted"."""
        decoder = Decoder(100)
        read(decoder, inserted(b"name", b"v" * 60))
        assert read(decoder, b"\x7e\x01w") == [(b"name", b"w")]
        assert table(decoder) == [(b"name", b"w")]

    def test_same_entry_may_be_there_twice(self) -> None:
        """2.3.2: "duplicate entries MUST NOT be treated as an error"."""
        decoder = Decoder()
        read(decoder, inserted(b"a", b"v") * 2)
        assert table(decoder) == [(b"a", b"v")] * 2


class TestUpdates:
    """RFC 7541, 4.2 and 6.3: changes of the table's size."""

    def test_smaller_size_evicts(self) -> None:
        """4.3: until the table is no larger; 0 empties it, and a larger one lets entries in again."""
        decoder = Decoder()
        read(decoder, inserted(b"a", b"v") + inserted(b"b", b"v"))
        assert read(decoder, "3f0f") == []
        assert table(decoder) == [(b"b", b"v")]
        read(decoder, "203fe11f")
        assert table(decoder) == []
        read(decoder, inserted(b"c", b"v"))
        assert table(decoder) == [(b"c", b"v")]

    def test_size_above_the_limit_is_refused(self) -> None:
        """ "MUST be lower than or equal to the limit"; a value that exceeds it is a decoding error."""
        assert read(Decoder(), "3fe11f") == []
        with pytest.raises(HpackError):
            read(Decoder(), "3fe21f")

    @pytest.mark.parametrize("block", ["8220", "82823fe11f", "20820120", "202020"])
    def test_update_elsewhere_than_at_the_beginning_is_refused(self, block: str) -> None:
        """4.2: "MUST occur at the beginning of the first header block"; two are enough for any change."""
        with pytest.raises(HpackError):
            read(Decoder(), block)

    def test_lowered_limit_must_be_acknowledged(self) -> None:
        """4.2; by what is no larger, and before a field."""
        for block in ("82", "", "3fe21f", "3f623f03"):
            decoder = Decoder()
            decoder.set_max_table_bytes(128)
            with pytest.raises(HpackError):
                read(decoder, block)
        decoder = Decoder()
        read(decoder, inserted(b"a", b"v"))
        decoder.set_max_table_bytes(128)
        assert read(decoder, "3f61 be") == [(b"a", b"v")]
        assert read(decoder, "be") == [(b"a", b"v")]

    def test_smallest_limit_since_the_last_block_must_be_acknowledged(self) -> None:
        """ "The smallest maximum table size that occurs in that interval MUST be signaled", then what it is now."""
        for block, is_good in (("82", False), ("3fe11f", False), ("20", True), ("203fe11f", True)):
            decoder = Decoder()
            read(decoder, inserted(b"a", b"v"))
            decoder.set_max_table_bytes(0)
            decoder.set_max_table_bytes(1024)
            decoder.set_max_table_bytes(4096)
            if is_good:
                assert read(decoder, block) == []
                assert table(decoder) == []
            else:
                with pytest.raises(HpackError):
                    read(decoder, block)

    def test_raised_limit_need_not_be_used(self) -> None:
        """And may."""
        decoder = Decoder()
        decoder.set_max_table_bytes(8192)
        assert read(decoder, "82") == pairs(":method: GET")
        assert read(decoder, "3fe13f") == []

    def test_limit_lowered_to_what_is_used_needs_no_acknowledgement(self) -> None:
        """The table was as small before."""
        decoder = Decoder()
        read(decoder, "20")
        decoder.set_max_table_bytes(100)
        assert read(decoder, "82") == pairs(":method: GET")


class TestFields:
    """What is handed out."""

    def test_fields_are_shared(self) -> None:
        """With HTTP/1.1, with other connections, and by index."""
        block = inserted(b"x-shared", b"1")
        (field,) = Decoder().decode(block, 65536, 128)
        decoder = Decoder()
        assert field is field_of(b"x-shared: 1")
        assert decoder.decode(block + b"\xbe\x00\x08x-shared\x011", 65536, 128) == [field] * 3

    def test_literal_that_may_never_be_indexed_says_so(self) -> None:
        """6.2.3, and no other does; nor does the shared field."""
        never, plain = Decoder().decode(b"\x10\x01k\x01v\x00\x01k\x01v", 65536, 128)
        assert (never.kind, plain.kind) == (Kind.NEVER_INDEXED, 0)
        assert plain is field_of(b"k: v")

    def test_malformed_field_leaves_the_state_as_it_must_be(self) -> None:
        """It is in the table, and its name can be used."""
        decoder = Decoder()
        (field,) = decoder.decode(inserted(b"Upper", b"a\r\nb"), 65536, 128)
        assert field.kind == Kind.MALFORMED
        assert read(decoder, b"\xbe\x0f\x2f\x01v") == [(b"Upper", b"a\r\nb"), (b"Upper", b"v")]


class TestLimits:
    """RFC 9113, 6.5.2 and 10.5.1: a list that is too large."""

    def test_list_counts_names_values_and_32_each(self) -> None:
        """By octets; by number."""
        block = inserted(b"ab", b"cde")
        assert len(read(Decoder(), block * 2, 74, 2)) == 2
        for max_bytes, max_fields in ((73, 2), (74, 1), (0, 2), (74, 0)):
            with pytest.raises(FieldsTooLarge):
                read(Decoder(), block * 2, max_bytes, max_fields)

    def test_too_large_block_is_read_to_its_end(self) -> None:
        """What follows the limit is in the table, checked like any other."""
        decoder = Decoder()
        block = (
            inserted(b"a", b"1")
            + inserted(b"b", b"2")
            + inserted(b"Up", b"3")
            + b"\x00\x01c\x014"
            + inserted(b"d", b"5")
        )
        with pytest.raises(FieldsTooLarge):
            read(decoder, block, 65536, 1)
        assert table(decoder) == [(b"d", b"5"), (b"Up", b"3"), (b"b", b"2"), (b"a", b"1")]
        fields = decoder.decode(b"\xbe\xbf\xc0\xc1", 65536, 128)
        assert [field.kind for field in fields] == [0, Kind.MALFORMED, 0, 0]
        assert fields[0] is field_of(b"d: 5")

    def test_error_beyond_the_limit_is_an_error(self) -> None:
        """It is read, not skipped."""
        with pytest.raises(HpackError):
            read(Decoder(), b"\x82\x82\x82\x80", 65536, 1)

    def test_remembered_block_is_held_to_the_limits_of_now(self) -> None:
        """A list handed out before is too large for less."""
        decoder = Decoder()
        assert len(read(decoder, "828684")) == 3
        for max_bytes, max_fields in ((65536, 2), (100, 128)):
            with pytest.raises(FieldsTooLarge):
                read(decoder, "828684", max_bytes, max_fields)


class TestRememberedBlocks:
    """The same list for the same block, as long as the table is the same."""

    def test_block_of_indices_is_read_once(self) -> None:
        """And again when the table has changed, for indices mean others then."""
        decoder = Decoder()
        read(decoder, inserted(b"a", b"1"))
        version = decoder.version
        first = decoder.decode(b"\x82\xbe", 65536, 128)
        assert decoder.decode(b"\x82\xbe", 65536, 128) is first
        assert decoder.version == version
        read(decoder, inserted(b"b", b"2"))
        assert decoder.version != version
        assert read(decoder, b"\x82\xbe") == [(b":method", b"GET"), (b"b", b"2")]

    def test_block_with_an_update_counts_each_time(self) -> None:
        """It empties the table again."""
        decoder = Decoder()
        for _ in range(3):
            read(decoder, "203fe11f82")
            assert table(decoder) == []
            read(decoder, inserted(b"a", b"1"))

    def test_update_that_is_due_is_not_forgotten(self) -> None:
        """The block is known, and is not good any more."""
        decoder = Decoder()
        read(decoder, "82")
        decoder.set_max_table_bytes(0)
        with pytest.raises(HpackError):
            read(decoder, "82")

    def test_memory_is_bounded(self) -> None:
        """Many blocks, few of which are kept; all are right."""
        decoder = Decoder()
        for first in range(1, 62):
            for second in (2, 3):
                fields = decoder.decode(bytes((0x80 | first, 0x80 | second)), 65536, 128)
                assert fields == [STATIC_FIELDS[first - 1], STATIC_FIELDS[second - 1]]


def test_decoder_reads_what_the_encoder_writes() -> None:
    """The very same objects, however often."""
    encoder, decoder = Encoder(), Decoder()
    fields = [field_from(b":method", b"POST"), field_from(b"x-own", b"1"), field_from(b"cookie", b"a=b")]
    for _ in range(5):
        assert decoder.decode(encoder.encode(fields), 65536, 128) == fields
