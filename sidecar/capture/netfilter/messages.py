"""
Messages of nftables and their attributes, as octets and back. *Pure.*

A message is a header of netlink, one of nfnetlink, and attributes; an attribute is a length, a kind and a value, padded
to four octets, and may hold others (linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h).
Numbers are in the machine's order in headers and in the network's within nftables' attributes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

REQUEST: Final = 0x001
ACK: Final = 0x004
DUMP: Final = 0x300
CREATE: Final = 0x400
APPEND: Final = 0x800
"""Flags (linux/netlink.h)."""

ERROR: Final = 2
DONE: Final = 3
BATCH_BEGIN: Final = 0x10
BATCH_END: Final = 0x11

SUBSYSTEM: Final = 10
"""Of nftables, in the upper octet of a kind."""
NEW_TABLE, GET_TABLE, DELETE_TABLE, NEW_CHAIN, GET_CHAIN = (SUBSYSTEM << 8 | kind for kind in range(5))
NEW_RULE: Final = SUBSYSTEM << 8 | 6
GET_RULE: Final = SUBSYSTEM << 8 | 7

FAMILY: Final = 1
"""inet: IPv4 and IPv6 in one table (NFPROTO_INET), with address translation since Linux 5.2."""

_HEADER: Final = struct.Struct("=IHHII")
_NETFILTER_HEADER: Final = struct.Struct(">BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_HEADERS: Final = _HEADER.size + _NETFILTER_HEADER.size
_NESTED: Final = 0x8000
_KIND: Final = 0x3FFF


class Message(NamedTuple):
    """
    One to the kernel, or one of its answers.

    Attributes:
        kind: Such as `NEW_RULE`.
        flags: As above.
        body: Attributes; of an answer of the kind `ERROR`, everything behind netlink's header.
        number: By which an answer is known; whoever sends gives it.
    """

    kind: int
    flags: int
    body: bytes
    number: int = 0


def message_bytes(message: Message) -> bytes:
    """One message to the kernel."""
    is_mark = message.kind in (BATCH_BEGIN, BATCH_END)
    family, subsystem = (0, SUBSYSTEM) if is_mark else (FAMILY, 0)
    header = _HEADER.pack(_HEADERS + len(message.body), message.kind, message.flags | REQUEST, message.number, 0)
    return header + _NETFILTER_HEADER.pack(family, 0, subsystem) + message.body


def read_messages(data: bytes) -> Iterator[Message]:
    """
    What came in one datagram.

    Raises:
        ValueError: It is cut off.
    """
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise ValueError(f"a header of {len(data) - at} octets")
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise ValueError(f"a message of {length} octets, where there are {len(data) - at}")
        start = at + (_HEADER.size if kind in (ERROR, DONE) else _HEADERS)
        yield Message(kind, flags, data[start : at + length], number)
        at += length + -length % 4


def error_of(answer: Message) -> int:
    """The number of an answer of the kind `ERROR`, as `errno` has it; 0 for none."""
    code: int = struct.unpack_from("=i", answer.body)[0]
    return -code


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """One that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """One with a text."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """One with a number of 32 bits, negative ones in two's complement."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def read_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Kind and value of each.

    Raises:
        ValueError: It is cut off.
    """
    return ((kind & _KIND, value) for kind, value in _attributes(data))


def covers(found: bytes, written: bytes) -> bool:
    """
    Whether attributes that were read say all that was written. The kernel says them in an order of its own, adds some,
    and does not always mark those that hold others; of several of a kind the order counts, and none may be added.

    Raises:
        ValueError: One of the two is cut off.
    """
    here: dict[int, list[bytes]] = {}
    for kind, value in read_attributes(found):
        here.setdefault(kind, []).append(value)
    seen: dict[int, int] = {}
    for kind, value in _attributes(written):
        name = kind & _KIND
        place = seen[name] = seen.get(name, -1) + 1
        there = here.get(name, ())
        if place >= len(there):
            return False
        if not (covers(there[place], value) if kind & _NESTED else there[place] == value):
            return False
    return all(len(here[name]) == place + 1 for name, place in seen.items())


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise ValueError(f"an attribute of {len(data) - at} octets")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ValueError(f"an attribute of {length} octets, where there are {len(data) - at}")
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
