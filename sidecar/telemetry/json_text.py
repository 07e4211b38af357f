"""
Octets from the wire as JSON strings of ASCII. *Hot path; pure.*

Text that is UTF-8 is escaped by its characters; anything else octet by octet, as Latin-1.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quoted  # the C function, without json's options around it
from typing import Final

_PLAIN: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))


def text(octets: bytes) -> str:
    """The characters of octets from the wire: UTF-8 if they are, else Latin-1, which every octet is in."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def escape(octets: bytes) -> bytes:
    """What stands for the octets between the quotes of a JSON string; ASCII, without control octets."""
    if not octets.translate(None, _PLAIN):
        return octets
    return escape_text(text(octets))


def escape_text(value: str) -> bytes:
    """As `escape`, of text."""
    # JSON does not ask for DEL to be escaped; a terminal would obey it.
    return _quoted(value)[1:-1].replace("\x7f", "\\u007f").encode("ascii")


def quote(octets: bytes | None) -> bytes:
    """A JSON string, or `null`."""
    return b"null" if octets is None else b'"%b"' % escape(octets)


def quote_text(value: str) -> bytes:
    """A JSON string; `null` for an empty one."""
    return b'"%b"' % escape_text(value) if value else b"null"
