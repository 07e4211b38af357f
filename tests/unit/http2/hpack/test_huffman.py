"""The code of RFC 7541, appendix B, and the strings that a decoder must refuse."""

from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from sidecar.http2.hpack import huffman

OCTETS = [bytes([octet]) for octet in range(256)]
ORACLE = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def packed(bits: str) -> bytes:
    """Bits, a whole number of octets."""
    assert len(bits) % 8 == 0
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def code(symbol: int) -> str:
    """As appendix B has it, by another's table."""
    return f"{REQUEST_CODES[symbol]:0{REQUEST_CODES_LENGTH[symbol]}b}"


class TestCode:
    """RFC 7541, appendix B."""

    @pytest.mark.parametrize(
        ("text", "coded"),
        [(b"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"), (b"no-cache", "a8eb10649cbf"),
         (b"custom-key", "25a849e95ba97d7f"), (b"custom-value", "25a849e95bb8e8b4bf"), (b"302", "6402"),
         (b"private", "aec3771a4b"),
         (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"), (b"307", "640eff"),
         (b"https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"), (b"gzip", "9bd9ab"), (b"", "")],
    )  # fmt: skip
    def test_strings_of_appendix_c(self, text: bytes, coded: str) -> None:
        """C.4 and C.6."""
        assert huffman.encode(text).hex() == coded
        assert huffman.decode(bytes.fromhex(coded)) == text

    def test_every_octet_has_its_code(self) -> None:
        """Alone, and after each shift that a code before it may leave."""
        for octet in OCTETS:
            for before in (b"", b"0", b"00", b"000", b"!", b"0!", b"\x00", b"\xff"):
                text = before + octet + b"end"
                assert huffman.encode(text) == ORACLE.encode(text)
                assert huffman.decode(huffman.encode(text)) == text


class TestRefused:
    """RFC 7541, 5.2: what "MUST be treated as a decoding error"."""

    @pytest.mark.parametrize("bits", range(8))
    def test_padding_of_up_to_seven_bits_of_eos_is_accepted(self, bits: int) -> None:
        """As many as are left in the last octet; `0` has five bits."""
        text = next(b"0" * count for count in range(8) if -5 * count % 8 == bits)
        assert huffman.decode(packed(code(0x30) * len(text) + "1" * bits)) == text

    @pytest.mark.parametrize("text", [b"", b"a", b"0123456"])
    def test_padding_longer_than_seven_bits_is_refused(self, text: bytes) -> None:
        """A whole octet of ones more."""
        assert huffman.decode(huffman.encode(text) + b"\xff") is None

    @pytest.mark.parametrize("padding", ["000", "110", "011", "101"])
    def test_padding_that_eos_does_not_begin_with_is_refused(self, padding: str) -> None:
        """After `0`, five bits."""
        assert huffman.decode(packed(code(0x30) + "111")) == b"0"
        assert huffman.decode(packed(code(0x30) + padding)) is None

    @pytest.mark.parametrize("before", [b"", b"0", b"00", b"ab", b"\xff"])
    def test_eos_is_refused(self, before: bytes) -> None:
        """At the end, and with more after it."""
        bits = "".join(map(code, before)) + code(256)
        assert huffman.decode(packed(bits + "1" * (-len(bits) % 8))) is None
        bits += code(0x61)
        assert huffman.decode(packed(bits + "1" * (-len(bits) % 8))) is None

    def test_code_cut_short_is_refused(self) -> None:
        """A symbol of more than seven bits of which some are missing."""
        assert huffman.decode(huffman.encode(b"\x00\x00")[:-1]) is None
