"""
HPACK to a peer: lists of fields become blocks of octets (RFC 7541). *Hot path; pure.*

One encoder a connection and direction; what it returns must be sent in the order in which it was asked for.

What is worth an entry of the table is what comes again: a field is inserted when the same shared object is sent for the
second time within some thirty new ones, and is an index from then on, found by identity. A name that the static table
lacks is inserted, with whatever value it has, when it comes for the second time, so that a `traceparent`, new each
time, costs an index and its value. The rest goes as literals, in plain octets where the value is new: to have a
`traceparent` shorter by a quarter costs 3 us where it is sent and 1 us where it is read (compiled).

Never inserted are fields that tell people apart: a connection to a server carries many clients, and what one of them
may put into the same table could be told from the length of blocks (7.1). Credentials no hop may index (7.1.3).
"""

from __future__ import annotations

from typing import Final

from sidecar.http2.fields import STATIC_FIELDS
from sidecar.http2.hpack import huffman
from sidecar.http2.hpack.static_table import STATIC_TABLE
from sidecar.message import Field, Kind

# Of name and value, 32 octets for what the entry itself takes (RFC 7541, 4.1).
_OVERHEAD: Final = 32
_STATIC: Final = len(STATIC_TABLE)
# What each side begins with (RFC 9113, 6.5.2), and enough for what repeats itself.
_MAX_TABLE_BYTES: Final = 4096
_MAX_INDEX: Final = _STATIC + _MAX_TABLE_BYTES // _OVERHEAD
# Of the table, the share that an entry may push others out of.
_MAX_SHARE: Final = 4

_NEW_EACH_TIME: Final = Kind.TRACE | Kind.REQUEST_ID | Kind.GRPC_TIMEOUT
_SECRET: Final = frozenset((b"authorization", b"proxy-authorization"))
_PERSONAL: Final = frozenset((b"cookie", b"set-cookie"))

# Of fields and of names, each connection. Sixty-four would take 1.1 KiB more for each.
_MAX_SEEN: Final = 32
# Strings as they are sent, of all connections: 300 KiB at most.
_MAX_STRINGS: Final = 1024
_MAX_STRING_BYTES: Final = 256
_strings: Final[dict[bytes, bytes]] = {}


def _integer(first: int, most: int, value: int) -> bytes:
    """`value` in the low bits of the first octet, which `most` is the mask of, and in as many as are needed (5.1)."""
    if value < most:
        return bytes([first | value])
    octets = [first | most]
    value -= most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _by_index(first: int, most: int) -> list[bytes]:
    return [_integer(first, most, index) for index in range(_MAX_INDEX + 1)]


# How each representation begins, by index; index 0 is for a name that follows.
_INDEXED: Final = _by_index(0x80, 0x7F)
_INSERTED: Final = _by_index(0x40, 0x3F)
_PLAIN: Final = _by_index(0x00, 0x0F)
_NEVER: Final = _by_index(0x10, 0x0F)
_LENGTHS: Final = [_integer(0x00, 0x7F, length) for length in range(256)]

# The first index of each name: later entries of a name come first here, and are overwritten.
_STATIC_NAMES: Final[dict[bytes, int]] = {STATIC_TABLE[at][0]: at + 1 for at in range(_STATIC - 1, -1, -1)}
_STATIC_PLACES: Final[dict[Field, int]] = {STATIC_FIELDS[at]: at + 1 for at in range(_STATIC)}


class _Entry:
    """What the table holds; `field` is None where only the name was wanted."""

    __slots__ = ("field", "name", "size")

    def __init__(self, name: bytes, size: int, field: Field | None) -> None:
        self.name = name
        self.size = size
        self.field = field


class Encoder:
    """The sending end of a connection's compression state."""

    __slots__ = (
        "_entries",
        "_inserted",
        "_max_bytes",
        "_names",
        "_own_bytes",
        "_places",
        "_seen",
        "_seen_names",
        "_size",
        "_smallest",
    )

    def __init__(self, max_table_bytes: int = 4096) -> None:
        """
        Args:
            max_table_bytes: Our own limit of the table, whatever the peer would allow; at most 4096.
        """
        self._own_bytes = min(max_table_bytes, _MAX_TABLE_BYTES)
        self._max_bytes = _MAX_TABLE_BYTES
        self._size = 0
        # The oldest first. An entry's number is how many had been inserted when it was.
        self._entries: list[_Entry] = []
        self._inserted = 0
        # The number of a field's entry, or less than 0: of its static one.
        self._places: dict[Field, int] = {}
        # The number of the newest entry with a name that the static table lacks.
        self._names: dict[bytes, int] = {}
        self._seen: dict[Field, None] = {}
        self._seen_names: dict[bytes, None] = {}
        # The smallest maximum since the last block; -1: it did not change.
        self._smallest = -1
        self.set_max_table_bytes(self._own_bytes)

    def set_max_table_bytes(self, count: int) -> None:
        """
        The limit that the peer's SETTINGS_HEADER_TABLE_SIZE set, in octets; heeded with the next block.

        "The smallest maximum table size that occurs in that interval MUST be signaled", then the final one (4.2).
        """
        count = min(count, self._own_bytes)
        if count == self._max_bytes:
            return
        self._smallest = count if self._smallest < 0 else min(self._smallest, count)
        self._max_bytes = count
        self._make_room(0)

    def encode(self, fields: list[Field]) -> bytes:
        """
        The fields as a field block, or as what follows in one; none may be malformed.

        A field goes by its name and value, whatever it looked like in a line of HTTP/1.1.
        """
        pieces: list[bytes] = []
        if self._smallest >= 0:
            pieces.append(self._updates())
        places = self._places
        for field in fields:
            place = places.get(field, 0)
            if place > 0:
                pieces.append(_INDEXED[self._inserted - place + _STATIC + 1])
            elif place < 0:
                pieces.append(_INDEXED[-place])
            else:
                self._write(pieces, field)
        return b"".join(pieces)

    def literal(self, name: bytes, value: bytes) -> bytes:
        """
        A field that is new each time and needs no object, as a literal; the name in lower case.

        What `encode` and this return are the parts of one block if they are joined in the order of the calls. Not for
        secrets: those are fields of kind NEVER_INDEXED, or of a name that `encode` knows.
        """
        pieces: list[bytes] = []
        if self._smallest >= 0:
            pieces.append(self._updates())
        self._write_new(pieces, name, value, None)
        return b"".join(pieces)

    def _write(self, pieces: list[bytes], field: Field) -> None:
        """A field that has no index, or none that this connection has used yet."""
        static = _STATIC_PLACES.get(field, 0)
        if static:
            self._places[field] = -static
            pieces.append(_INDEXED[static])
            return
        name = field.name
        if field.kind & Kind.NEVER_INDEXED or name in _SECRET:
            self._write_literal(pieces, _NEVER, name, field.value)
        elif field.kind & _NEW_EACH_TIME:
            self._write_new(pieces, name, field.value, None)
        elif name in _PERSONAL:
            # In plain octets even if it was seen: each user's in Huffman code would push all else out of `_strings`.
            self._write_literal(pieces, _PLAIN, name, field.value)
        elif field not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen[field] = None
            self._write_new(pieces, name, field.value, field)
        elif not self._insert(pieces, name, field.value, field):
            index = self._index_of(name)
            pieces.append(_PLAIN[index])
            if not index:
                pieces.append(_string(name))
            pieces.append(_string(field.value))

    def _write_new(self, pieces: list[bytes], name: bytes, value: bytes, field: Field | None) -> None:
        """A literal of what is not expected again (6.2.2); a name that comes again is inserted, its field with it."""
        if not self._index_of(name):
            if name in self._seen_names:
                if self._insert(pieces, name, value, field):
                    return
            else:
                if len(self._seen_names) >= _MAX_SEEN:
                    self._seen_names.clear()
                self._seen_names[name] = None
        self._write_literal(pieces, _PLAIN, name, value)

    def _write_literal(self, pieces: list[bytes], form: list[bytes], name: bytes, value: bytes) -> None:
        index = self._index_of(name)
        pieces.append(form[index])
        if not index:
            pieces.append(_string(name))
        length = len(value)
        pieces.append(_LENGTHS[length] if length < 256 else _integer(0x00, 0x7F, length))
        pieces.append(value)

    def _index_of(self, name: bytes) -> int:
        """The index of an entry with the name, or 0."""
        index = _STATIC_NAMES.get(name, 0)
        if index:
            return index
        number = self._names.get(name, 0)
        return self._inserted - number + _STATIC + 1 if number else 0

    def _insert(self, pieces: list[bytes], name: bytes, value: bytes, field: Field | None) -> bool:
        """Write a literal with incremental indexing (6.2.1); False, and nothing, if it is too large for that."""
        size = len(name) + len(value) + _OVERHEAD
        if size * _MAX_SHARE > self._max_bytes:
            return False
        # An index of before the insertion: it may name the very entry that is pushed out by it (4.4).
        index = self._index_of(name)
        pieces.append(_INSERTED[index])
        if not index:
            pieces.append(_string(name))
        pieces.append(_string(value))
        self._make_room(size)
        self._entries.append(_Entry(name, size, field))
        self._size += size
        self._inserted += 1
        if field is not None:
            del self._seen[field]
            self._places[field] = self._inserted
        if name not in _STATIC_NAMES:
            self._names[name] = self._inserted
        return True

    def _make_room(self, count: int) -> None:
        """Evict the oldest until there is room for so many octets, or none is left (4.3, 4.4)."""
        entries = self._entries
        while entries and self._size + count > self._max_bytes:
            entry = entries[0]
            number = self._inserted - len(entries) + 1
            del entries[0]
            self._size -= entry.size
            if entry.field is not None:
                del self._places[entry.field]
            if self._names.get(entry.name, 0) == number:
                del self._names[entry.name]

    def _updates(self) -> bytes:
        """The updates of the table's size that are due at the beginning of a block (6.3)."""
        smallest, self._smallest = self._smallest, -1
        last = _integer(0x20, 0x1F, self._max_bytes)
        return last if smallest == self._max_bytes else _integer(0x20, 0x1F, smallest) + last


def _string(octets: bytes) -> bytes:
    """A string that will be sent again, with its length (5.2): in Huffman code where that is shorter."""
    known = _strings.get(octets)
    if known is not None:
        return known
    if len(octets) > _MAX_STRING_BYTES:
        return _integer(0x00, 0x7F, len(octets)) + octets
    coded = huffman.encode(octets)
    if len(coded) < len(octets):
        known = _integer(0x80, 0x7F, len(coded)) + coded
    else:
        known = _integer(0x00, 0x7F, len(octets)) + octets
    if len(_strings) >= _MAX_STRINGS:
        _strings.clear()
    _strings[octets] = known
    return known
