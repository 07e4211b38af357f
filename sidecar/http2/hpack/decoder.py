"""
HPACK from a peer: blocks of octets become lists of fields (RFC 7541). *Hot path; pure.*

One decoder a connection and direction; blocks must come to it in the order in which they were sent, all of them, since
each may change the dynamic table. A table holds fields as `fields.field_from` makes them, so that what is sent by its
index is checked and classified once, when it enters, and later is an item of a list.

What a peer can make us do is bounded by what it sends: the table by its size, a list by the caller's limits, an integer
by its octets. A block whose list grows beyond the limits is read to its end with the fields left unmade.
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.grammar import _KINDS
from sidecar.http2.fields import STATIC_FIELDS, field_from, never_indexed
from sidecar.http2.hpack import huffman
from sidecar.message import Field, Kind


class HpackError(ValueError):
    """Octets that no encoder makes: COMPRESSION_ERROR, for tables have come apart, and the connection is at its end."""


class FieldsTooLarge(ValueError):  # noqa: N818 - the peer's doing, within its rights, and no error of HPACK's
    """A list of fields beyond the limits; the decoder is in step, and the connection may go on."""


FIELD_OVERHEAD: Final = 32
"""Octets that a field counts beside its name and value: in the table (RFC 7541, 4.1), in a list (RFC 9113, 6.5.2)."""
_STATIC: Final = len(STATIC_FIELDS)
# "Excessively large integer encodings -- in value or octet length -- MUST be treated as decoding errors" (5.1). Octets
# after the first: 256 MiB, beyond what any block, table or index may be.
_MAX_INTEGER_OCTETS: Final = 4
# A changed limit can be announced twice in a block: the smallest that it was meanwhile, and what it is now (4.2).
_MAX_UPDATES: Final = 2

# Huffman strings seen lately, in all connections: most literals repeat themselves. A name or a value; 200 KiB at most.
_MAX_STRINGS: Final = 1024
_MAX_STRING_BYTES: Final = 64
_strings: Final[dict[bytes, bytes]] = {}
# Values that are new with every request would only push the others out.
_NEW_KINDS: Final = Kind.TRACE | Kind.REQUEST_ID | Kind.GRPC_TIMEOUT
_NEW_EACH_TIME: Final = frozenset(name for name, kind in _KINDS.items() if kind & _NEW_KINDS)

# Blocks of indices alone, which responses and trailers mostly are.
_MAX_BLOCKS: Final = 8
_MAX_BLOCK_BYTES: Final = 64


class _Block:
    """What a block said while the table was of a certain version."""

    __slots__ = ("fields", "size", "version")

    def __init__(self, version: int, size: int, fields: list[Field]) -> None:
        self.version = version
        self.size = size
        self.fields = fields


class Decoder:
    """
    The receiving end of a connection's compression state.

    Attributes:
        version: Another after each change of the dynamic table: as long as it stays, equal blocks are equal lists.
    """

    __slots__ = ("_blocks", "_due", "_limit", "_max_bytes", "_size", "_table", "version")

    def __init__(self, max_table_bytes: int = 4096) -> None:
        """
        Args:
            max_table_bytes: Size that both sides begin with: 4096, unless they agreed on another (RFC 9113, 6.5.2).
        """
        self.version = 0
        self._limit = max_table_bytes
        self._max_bytes = max_table_bytes
        self._size = 0
        # The newest last: index 62.
        self._table: list[Field] = []
        # What the next block must say that the table is at most; -1: nothing.
        self._due = -1
        self._blocks: dict[bytes, _Block] = {}

    def set_max_table_bytes(self, count: int) -> None:
        """
        The limit that our SETTINGS_HEADER_TABLE_SIZE set, in octets.

        To be called when the peer acknowledges it: from then on a block must begin with an update if the table was
        larger (RFC 7541, 4.2).
        """
        self._limit = count
        if count < self._max_bytes and (self._due < 0 or count < self._due):
            self._due = count

    def decode(self, block: bytes, max_bytes: int, max_fields: int) -> list[Field]:
        """
        The fields of a field block: all fragments of HEADERS and its CONTINUATIONs, joined.

        Args:
            block: Octets; all of them.
            max_bytes: Largest list, each field counted as its name, its value and 32 (RFC 9113, 6.5.2).
            max_fields: Most fields.

        Returns:
            The fields in order, malformed ones among them. For an equal block the same list: nobody may change it.

        Raises:
            HpackError: The connection must be closed with COMPRESSION_ERROR, and the decoder not be used again.
            FieldsTooLarge: Beyond a limit; the whole block was read, and the next may come.
        """
        known = self._blocks.get(block) if len(block) <= _MAX_BLOCK_BYTES else None
        if known is not None and known.version == self.version and self._due < 0:
            if known.size > max_bytes or len(known.fields) > max_fields:
                raise FieldsTooLarge(f"{len(known.fields)} fields of {known.size} octets")
            return known.fields
        fields: list[Field] = []
        size = 0
        is_over = False
        has_literals = False
        at = self._read_updates(block)
        while at < len(block):
            octet = block[at]
            at += 1
            if octet >= 0x80:  # indexed (6.1)
                index = octet & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, 0x7F)
                field = self._field_at(index)
            else:
                has_literals = True
                is_inserted = (
                    octet >= 0x40
                )  # a literal with incremental indexing (6.2.1), without (6.2.2) or never (6.2.3)
                if not is_inserted and octet >= 0x20:
                    # "This dynamic table size update MUST occur at the beginning of the first header block" (4.2).
                    raise HpackError("a table size update after a field")
                most = 0x3F if is_inserted else 0x0F
                index = octet & most
                if index == most:
                    index, at = _integer(block, at, most)
                if index:
                    name = self._field_at(index).name
                else:
                    name, at = _string(block, at, False)
                value, at = _string(block, at, name in _NEW_EACH_TIME)
                if is_over:
                    # Two octets may name a field of a table's size: made here, it would cost a thousand times as much.
                    if is_inserted:
                        self._insert(Field(name, value, 0, b""))
                    continue
                field = field_from(name, value)
                if is_inserted:
                    self._insert(field)
                elif octet >= 0x10:
                    field = never_indexed(field)
            size += len(field.name) + len(field.value) + FIELD_OVERHEAD
            if size > max_bytes or len(fields) >= max_fields:
                is_over = True
            else:
                fields.append(field)
        if is_over:
            self._make_unmade()
            raise FieldsTooLarge(f"more than {max_fields} fields, or {max_bytes} octets of them")
        if not has_literals and len(block) <= _MAX_BLOCK_BYTES:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = _Block(self.version, size, fields)
        return fields

    def _read_updates(self, block: bytes) -> int:
        """Heed the updates of the table's size that a block begins with (6.3); where its fields begin."""
        at = count = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                size, at = _integer(block, at, 0x1F)
            count += 1
            # "The new maximum size MUST be lower than or equal to the limit determined by the protocol" (6.3).
            if size > self._limit or count > _MAX_UPDATES or (self._due >= 0 and size > self._due):
                raise HpackError(f"a table size update to {size}; the limit is {self._limit}")
            self._due = -1
            self._max_bytes = size
            self._make_room(0)
            self.version += 1
        if self._due >= 0:
            raise HpackError(f"no table size update; the limit was lowered to {self._due}")
        return at

    def _field_at(self, index: int) -> Field:
        if index <= _STATIC:
            if not index:
                # "The index value of 0 is not used" (6.1).
                raise HpackError("index 0")
            return STATIC_FIELDS[index - 1]
        place = len(self._table) + _STATIC - index
        if place < 0:
            # "Indices strictly greater than the sum of the lengths of both tables" are errors (2.3.3).
            raise HpackError(f"index {index} is beyond the table")
        return self._table[place]

    def _insert(self, field: Field) -> None:
        size = len(field.name) + len(field.value) + FIELD_OVERHEAD
        self._make_room(size)
        if size <= self._max_bytes:  # "an attempt to add a larger entry causes the table to be emptied" (4.4)
            self._table.append(field)
            self._size += size
        self.version += 1

    def _make_room(self, count: int) -> None:
        """Evict the oldest until there is room for so many octets, or none is left (4.3, 4.4)."""
        table = self._table
        gone = 0
        while gone < len(table) and self._size + count > self._max_bytes:
            field = table[gone]
            self._size -= len(field.name) + len(field.value) + FIELD_OVERHEAD
            gone += 1
        if gone:
            del table[:gone]

    def _make_unmade(self) -> None:
        """Make the fields that a too large block left in the table: no more than that has room for."""
        for place, field in enumerate(self._table):
            if not field.kind and not field.wire:
                self._table[place] = field_from(field.name, field.value)


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The integer whose first octet said only that it is `value` or more (5.1), and where it ends."""
    shift = 0
    while at < len(block):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7
        if shift >= 7 * _MAX_INTEGER_OCTETS:
            raise HpackError("an integer that is too long")
    raise HpackError("a block that ends within an integer")


def _string(block: bytes, at: int, is_new: bool) -> tuple[bytes, int]:
    """The string that begins there (5.2), and where it ends."""
    if at >= len(block):
        raise HpackError("a block that ends within a field")
    octet = block[at]
    at += 1
    length = octet & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise HpackError("a string that ends beyond its block")
    octets = block[at:end]
    if octet < 0x80:
        return octets, end
    text = None if is_new else _strings.get(octets)
    if text is None:
        text = huffman.decode(octets)
        if text is None:
            raise HpackError("a string that is not in Huffman code")
        if not is_new and length <= _MAX_STRING_BYTES:
            if len(_strings) >= _MAX_STRINGS:
                _strings.clear()
            _strings[octets] = text
    return text, end
