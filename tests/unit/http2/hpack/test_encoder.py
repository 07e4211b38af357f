"""Fields to blocks: what is inserted, what never is, and that any decoder can follow."""

from __future__ import annotations

import hpack
import pytest

from sidecar.http2.fields import field_from, never_indexed
from sidecar.http2.hpack.decoder import Decoder
from sidecar.http2.hpack.encoder import Encoder
from sidecar.message import Field, Kind

Pairs = list[tuple[bytes, bytes]]


class Peer:
    """Both decoders, ours and another's, behind one encoder; they must agree."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.ours = Decoder()
        self.theirs = hpack.Decoder()

    def read(self, block: bytes) -> Pairs:
        """What a block says."""
        fields = [(field.name, field.value) for field in self.ours.decode(block, 1 << 20, 1000)]
        assert [(bytes(name), bytes(value)) for name, value in self.theirs.decode(block, raw=True)] == fields
        return fields

    def sent(self, *fields: Field) -> bytes:
        """The block of these fields, after a look at what it says."""
        block = self.encoder.encode(list(fields))
        assert self.read(block) == [(field.name, field.value) for field in fields]
        return block


@pytest.fixture
def peer() -> Peer:
    return Peer(Encoder())


class TestRepresentations:
    """RFC 7541, 6."""

    def test_whole_entry_of_the_static_table_is_an_index(self, peer: Peer) -> None:
        """6.1, at once and again."""
        fields = [field_from(b":method", b"POST"), field_from(b":scheme", b"http"), field_from(b":status", b"404")]
        assert peer.sent(*fields) == b"\x83\x86\x8d"
        assert peer.sent(*fields) == b"\x83\x86\x8d"

    def test_field_is_plain_at_first_then_inserted_then_an_index(self, peer: Peer) -> None:
        """6.2.2, 6.2.1 and 6.1; the name by its index, the value in Huffman code when it enters."""
        field = field_from(b":path", b"/index.htm")
        assert peer.sent(field) == b"\x04\x0a/index.htm"
        assert peer.sent(field)[:2] == b"\x44\x88"
        assert peer.sent(field) == b"\xbe"
        assert peer.sent(field) == b"\xbe"

    def test_same_field_twice_in_a_block(self, peer: Peer) -> None:
        """The second is inserted, the third an index."""
        field = field_from(b"x-twice", b"1")
        assert peer.sent(field, field, field)[-1:] == b"\xbe"

    def test_equal_field_that_is_another_object_is_no_index(self, peer: Peer) -> None:
        """It is found by identity: what was forgotten and made anew is new."""
        one, other = (Field(b"x-a", b"1", 0, b"x-a: 1") for _ in range(2))
        for _ in range(3):
            peer.sent(one)
        assert len(peer.sent(one)) == 1
        assert len(peer.sent(other)) > 1

    def test_index_moves_as_others_enter(self, peer: Peer) -> None:
        """And has more than one octet at last."""
        fields = [field_from(b"accept", b"t%d" % number) for number in range(70)]
        for field in fields:
            peer.sent(field, field)
        assert peer.sent(fields[-1]) == b"\xbe"
        assert peer.sent(fields[0]) == b"\xff\x04"
        assert peer.sent(*fields) == b"".join(peer.sent(field) for field in fields)

    def test_value_of_any_length(self, peer: Peer) -> None:
        """Lengths of one to three octets, first plain, then as is shorter."""
        for length in (0, 1, 30, 126, 127, 128, 255, 256, 300, 400, 5000, 20000):
            for value in (b"a" * length, b"\xfe" * length):
                field = Field(b"x-long", value, 0, b"")
                for _ in range(3):
                    peer.sent(field)

    def test_large_field_pushes_nothing_out(self, peer: Peer) -> None:
        """Of more than a quarter of the table: it stays a literal."""
        small = field_from(b"x-small", b"1")
        large = Field(b"x-large", b"v" * 1000, 0, b"")
        for _ in range(3):
            peer.sent(small, large)
        assert len(peer.sent(small)) == 1
        assert len(peer.sent(large)) > 600

    def test_name_goes_in_lower_case(self, peer: Peer) -> None:
        """RFC 9113, 8.2: whatever it was in HTTP/1.1."""
        peer.sent(Field(b"x-name", b"v", 0, b"X-Name:v"))


class TestNames:
    """What has a new value each time costs its value."""

    def test_name_that_comes_again_is_inserted_once(self, peer: Peer) -> None:
        """With whatever value it has then; after it, an index and plain octets."""
        sizes = [len(peer.sent(field_from(b"traceparent", b"00-%032x-%016x-01" % (n, n)))) for n in range(5)]
        assert sizes[0] > 55 + 2
        assert sizes[2:] == [55 + 3] * 3
        assert peer.sent(field_from(b"traceparent", b"new"))[2:] == b"\x03new"

    def test_field_that_is_new_each_time_is_never_an_index(self, peer: Peer) -> None:
        """Not even if the same object comes again; and it pushes nothing out."""
        field = field_from(b"x-request-id", b"1")
        blocks = [peer.sent(field) for _ in range(9)]
        assert blocks[2:] == [b"\x0f\x2f\x011"] * 7

    def test_names_that_come_once_are_not_inserted(self, peer: Peer) -> None:
        """A client that sends other names each time leaves the table to those that do not."""
        kept = field_from(b"x-kept", b"1")
        for _ in range(3):
            peer.sent(kept)
        for number in range(300):
            peer.sent(field_from(b"x-odd-%d" % number, b"v"))
        assert peer.sent(kept) == b"\xbe"

    def test_name_that_was_evicted_is_inserted_again(self, peer: Peer) -> None:
        """Indices of names go with their entries."""
        for number in range(4):
            peer.sent(field_from(b"tracestate", b"a=%d" % number))
        for number in range(200):
            field = field_from(b"accept", b"text/%d" % number)
            peer.sent(field, field)
        blocks = [peer.sent(field_from(b"tracestate", b"b=%d" % number)) for number in range(3)]
        assert blocks[-1] == b"\x0f\x2f\x03b=2"

    def test_literal_needs_no_field(self, peer: Peer) -> None:
        """With a static name, and with one that is learnt."""
        assert peer.encoder.literal(b":path", b"/a") == b"\x04\x02/a"
        blocks = [peer.encoder.literal(b"grpc-timeout", b"%dm" % number) for number in range(3)]
        assert [peer.read(block) for block in blocks] == [[(b"grpc-timeout", b"%dm" % number)] for number in range(3)]
        assert blocks[2] == b"\x0f\x2f\x022m"

    def test_calls_in_order_are_one_block(self, peer: Peer) -> None:
        """Also when an index changes between them, and with the updates first."""
        peer.encoder.set_max_table_bytes(2000)
        field = field_from(b"x-a", b"1")
        for number in range(4):
            encoder = peer.encoder
            block = encoder.literal(b"x-n", b"%d" % number) + encoder.encode([field]) + encoder.literal(b"x-m", b"2")
            assert peer.read(block) == [(b"x-n", b"%d" % number), (b"x-a", b"1"), (b"x-m", b"2")]


class TestSecrets:
    """RFC 7541, 7.1."""

    @pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization"])
    def test_credentials_are_never_indexed(self, peer: Peer, name: bytes) -> None:
        """7.1.3: as literals that no hop may index, however often."""
        for _ in range(4):
            block = peer.sent(field_from(name, b"Bearer abc"))
            assert block[0] & 0xF0 == 0x10
            assert block[2:] == b"\x0aBearer abc"

    def test_what_came_as_never_indexed_goes_on_as_such(self, peer: Peer) -> None:
        """6.2.3: "an intermediary MUST use the same representation"; whether the name has an index or not."""
        for name in (b"x-key", b"accept", b":path"):
            field = never_indexed(field_from(name, b"/secret"))
            for _ in range(3):
                (received,) = peer.ours.decode(peer.sent(field), 65536, 128)
                assert received.kind & Kind.NEVER_INDEXED

    def test_name_of_a_secret_is_taken_from_the_table(self, peer: Peer) -> None:
        """Only its value is secret."""
        for _ in range(3):
            peer.sent(field_from(b"x-key", b"public"))
        assert peer.sent(never_indexed(field_from(b"x-key", b"s"))) == b"\x1f\x2f\x01s"

    @pytest.mark.parametrize("name", [b"cookie", b"set-cookie"])
    def test_cookies_are_not_inserted(self, peer: Peer, name: bytes) -> None:
        """One connection carries many clients; and in plain octets, so that no user's costs others their strings."""
        field = field_from(name, b"session=aaaaaaaaaa")
        blocks = [peer.sent(field) for _ in range(4)]
        assert all(block[0] & 0xF0 == 0 for block in blocks)
        assert all(b"session=aaaaaaaaaa" in block for block in blocks)
        assert len(blocks[1]) == len(blocks[0])


class TestSizes:
    """RFC 7541, 4.2 and 6.3: the peer's limit, and ours."""

    def test_no_update_without_a_change(self, peer: Peer) -> None:
        """The peer's limit is what it was, or above ours."""
        for count in (4096, 65536, 4096):
            peer.encoder.set_max_table_bytes(count)
        assert peer.encoder.encode([]) == b""

    def test_limit_of_ours_is_announced_with_the_first_block(self) -> None:
        """The peer begins with 4096. C.1.2: 1337."""
        assert Encoder(1337).encode([]) == b"\x3f\x9a\x0a"
        assert Encoder(10).encode([field_from(b":method", b"GET")]) == b"\x2a\x82"
        assert Encoder(1 << 20).encode([]) == b""

    def test_limit_of_the_peer_is_heeded_with_the_next_block(self, peer: Peer) -> None:
        """Once; entries go."""
        field = field_from(b"x-a", b"1")
        for _ in range(3):
            peer.sent(field)
        peer.encoder.set_max_table_bytes(0)
        assert peer.sent(field)[:1] == b"\x20"
        for _ in range(3):
            assert peer.sent(field)[:1] == b"\x00"

    def test_smallest_and_last_of_several_limits_are_announced(self, peer: Peer) -> None:
        """ "The smallest maximum table size that occurs in that interval MUST be signaled"; entries went meanwhile."""
        field = field_from(b"x-a", b"1")
        for _ in range(3):
            peer.sent(field)
        for count in (1000, 0, 100, 4096):
            peer.encoder.set_max_table_bytes(count)
        assert peer.sent(field)[:4] == b"\x20\x3f\xe1\x1f"
        assert peer.sent(field)[:1] == b"\xbe"

    def test_limit_above_ours_is_not_used(self) -> None:
        """Our memory is ours."""
        peer = Peer(Encoder(100))
        peer.encoder.set_max_table_bytes(65536)
        assert peer.sent()[:2] == b"\x3f\x45"

    def test_memory_is_bounded_whatever_is_sent(self, peer: Peer) -> None:
        """Fields of the table, the static ones used, and those seen once."""
        for number in range(2000):
            fields = [Field(b"x-%d" % (number % 150), b"%d" % number, 0, b""), field_from(b":path", b"/%d" % number)]
            peer.sent(*fields, *fields)
        encoder = peer.encoder
        assert sum(len(name) + len(value) + 32 for name, value in peer.theirs.header_table.dynamic_entries) <= 4096
        held = (encoder._entries, encoder._places, encoder._names, encoder._seen, encoder._seen_names)
        assert max(map(len, held)) <= 128 + 61
