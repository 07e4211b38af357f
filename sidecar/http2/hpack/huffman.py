"""
The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). *Hot path; pure.*

The code is canonical: of two symbols the one with the shorter code, and of one length the smaller symbol, has the
smaller code. So the lengths alone are the table.

Octets are decoded one at a time. What one does is known from the node of the code's tree at which the one before
stopped: it completes no, one or two symbols (the shortest code has five bits) and stops at another node. Each node has
a row with that for all octets. Rows are made when they are first needed, 4 KiB each: text visits some of the 256 nodes.
"""

from __future__ import annotations

from typing import Final

# By symbol: the 256 octets, then the end of string (EOS).
_LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)  # fmt: skip
_EOS: Final = 256
_MOST_PADDING: Final = 7  # bits


class _Row:
    """
    A node of the code's tree, and what each octet does there.

    Attributes:
        follows: The nodes after a bit 0 and a bit 1; empty for a leaf.
        symbol: Of a leaf.
        is_end: Whether a string may end here: between symbols, or after padding that EOS might begin with (5.2).
        pieces: By octet, the symbols that it completes. Empty until the row is made.
        then: By octet, the node after it.
    """

    __slots__ = ("follows", "is_end", "pieces", "symbol", "then")

    def __init__(self) -> None:
        self.follows: list[_Row] = []
        self.symbol = -1
        self.is_end = False
        self.pieces: list[bytes] = []
        self.then: list[_Row] = []

    def make(self) -> None:
        """Walk from here with each octet."""
        for octet in range(256):
            node = self
            symbols: list[int] = []
            for shift in range(7, -1, -1):
                node = node.follows[octet >> shift & 1]
                if node.symbol == _EOS:
                    break
                if node.symbol >= 0:
                    symbols.append(node.symbol)
                    node = _ROOT
            piece = bytes(symbols)
            self.then.append(node)
            self.pieces.append(_pieces.setdefault(piece, piece))


def _codes() -> list[str]:
    """The code of each symbol, as text of `0` and `1`."""
    codes = [""] * len(_LENGTHS)
    code = length = 0
    for bits, symbol in sorted((bits, symbol) for symbol, bits in enumerate(_LENGTHS)):
        code <<= bits - length
        length = bits
        codes[symbol] = f"{code:0{bits}b}"
        code += 1
    return codes


def _tree(codes: list[str]) -> _Row:
    """The root of the code's tree."""
    root = _Row()
    for symbol, code in enumerate(codes):
        node = root
        for bit in code:
            if not node.follows:
                node.follows = [_Row(), _Row()]
            node = node.follows[int(bit)]
        node.symbol = symbol
    # Nothing comes after EOS: whatever follows it completes nothing, and may not end.
    node.pieces, node.then = [b""] * 256, [node] * 256
    node = root
    for _ in range(_MOST_PADDING + 1):
        node.is_end = True
        node = node.follows[1]
    return root


_CODES: Final = _codes()
_ROOT: Final = _tree(_CODES)
_pieces: Final[dict[bytes, bytes]] = {}


def decode(octets: bytes) -> bytes | None:
    """
    What Huffman-coded octets say; at most 1.6 times as long.

    Returns:
        None if it is no such string: "a padding strictly longer than 7 bits", one "not corresponding to the most
        significant bits of the code for the EOS symbol", or EOS itself "MUST be treated as a decoding error" (5.2).
    """
    # Of five ways the fastest compiled, 27 ns an octet; symbols as integers took 53, rows found by number 44 to 60.
    pieces: list[bytes] = []
    row = _ROOT
    for at in range(len(octets)):
        octet = octets[at]
        if not row.pieces:
            row.make()
        pieces.append(row.pieces[octet])
        row = row.then[octet]
    return b"".join(pieces) if row.is_end else None


def encode(octets: bytes) -> bytes:
    """The octets in Huffman code, padded with the first bits of EOS; up to four times as long, if they are not text."""
    # One conversion of text to a number, in C: shifting an integer for each symbol takes twice as long interpreted.
    bits = "".join([_CODES[octet] for octet in octets])
    size = (len(bits) + 7) // 8
    return int(bits + "1" * (8 * size - len(bits)), 2).to_bytes(size, "big") if size else b""
