"""
What a rule asks of a packet and does with it, as expressions of nftables: small steps over registers. *Pure.*

Each condition loads something into a register and compares it; a rule goes on to its next expression only while they
are equal. Names and numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import Final

from sidecar.capture.netfilter.messages import attribute, nested, number, text

_ELEMENT, _NAME, _DATA = 1, 1, 2
_VALUE, _VERDICT = 1, 2
_REGISTER: Final = 1
"""The first of four, of 16 octets each (NFT_REG_1)."""
_VERDICT_REGISTER: Final = 0
_RETURN: Final = -5
_RETURN_CODE: Final = 1


class Meta(IntEnum):
    """What is known of a packet besides its octets."""

    IN_INTERFACE = 6
    OUT_INTERFACE = 7
    USER = 10
    FAMILY = 15
    PROTOCOL = 16


class Compared(IntEnum):
    """How a register is compared, octet by octet from the first."""

    EQUAL = 0
    DIFFERENT = 1
    AT_MOST = 3
    AT_LEAST = 5


class Header(IntEnum):
    """Of which octets are loaded."""

    NETWORK = 1
    TRANSPORT = 2


def meta(key: Meta) -> bytes:
    """Load what is known of it."""
    return _expression("meta", number(1, _REGISTER), number(2, key))


def octets(header: Header, offset: int, length: int) -> bytes:
    """Load so many octets of a header."""
    return _expression("payload", number(1, _REGISTER), number(2, header), number(3, offset), number(4, length))


def masked(mask: bytes) -> bytes:
    """Keep these bits."""
    zeros, length = bytes(len(mask)), number(3, len(mask))
    return _expression(
        "bitwise", number(1, _REGISTER), number(2, _REGISTER), length, _data(4, mask), _data(5, zeros)
    )  # fmt: skip


def compare(how: Compared, value: bytes) -> bytes:
    """Go on only if it is so."""
    return _expression("cmp", number(1, _REGISTER), number(2, how), _data(3, value))


def is_local() -> bytes:
    """Go on only with what is addressed to this machine (RTN_LOCAL)."""
    destination, kind_of_address, local = 2, 3, (2).to_bytes(4, sys.byteorder)
    return _expression("fib", number(1, _REGISTER), number(2, kind_of_address), number(3, destination)) + compare(
        Compared.EQUAL, local
    )


def leave() -> bytes:
    """Ask no more rules of this chain."""
    verdict = nested(_VERDICT, number(_RETURN_CODE, _RETURN))
    return _expression("immediate", number(1, _VERDICT_REGISTER), nested(2, verdict))


def redirect(port: int) -> bytes:
    """Lead the connection to this port of this machine."""
    load = _expression("immediate", number(1, _REGISTER), _data(2, port.to_bytes(2, "big")))
    return load + _expression("redir", number(1, _REGISTER))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(_VALUE, value))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_ELEMENT, text(_NAME, name), nested(_DATA, *attributes))
