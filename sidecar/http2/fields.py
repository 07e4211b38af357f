"""
Fields of HTTP/2: the shared fields of HTTP/1.1, pseudo-header fields, and what HTTP may not have. *Hot path; pure.*

HPACK carries any octets, so nothing here raises: a field that makes a message malformed (RFC 9113, 8.1.1) is handed out
with the fault in its note, and the connection's compression state goes on. Who makes a head of the fields decides; the
union of their kinds says at once whether one is malformed.

A regular field is the one that `http1.grammar` remembers for the line `name: value`: whatever is known of it is known,
and an encoder finds it by identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.http1.grammar import (
    _NEVER_REMEMBERED,
    ALPHANUMERIC,
    TOKEN,
    GrammarError,
    _remembered,
    field_of,
    kind_of,
    learn_named,
)
from sidecar.http1.target import is_plain, split_query, split_target
from sidecar.http2.hpack.static_table import STATIC_TABLE
from sidecar.message import Field, Kind

# What a name is: the kind of its fields, or one of these.
_NEW: Final = -1
_PSEUDO: Final = -2
_TE: Final = -3
_OF_CONNECTION: Final = -4
_EMPTY: Final = -5
_UPPER: Final = -6
_INVALID: Final = -7
_UNKNOWN: Final = -8
_FAULTS: Final[dict[int, str]] = {
    _OF_CONNECTION: "a field that is about the connection",
    _EMPTY: "a field without a name",
    _UPPER: "an upper-case letter in a field name",
    _INVALID: "an invalid field name",
    _UNKNOWN: "an unknown pseudo-header field",
}

# "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields" (RFC 9113, 8.2.2).
_OWN_NAMES: Final[dict[bytes, int]] = {
    b":authority": _PSEUDO,
    b":method": _PSEUDO,
    b":path": _PSEUDO,
    b":protocol": _PSEUDO,
    b":scheme": _PSEUDO,
    b":status": _PSEUDO,
    b"te": _TE,
    b"connection": _OF_CONNECTION,
    b"keep-alive": _OF_CONNECTION,
    b"proxy-connection": _OF_CONNECTION,
    b"transfer-encoding": _OF_CONNECTION,
    b"upgrade": _OF_CONNECTION,
}
_MAX_NAMES: Final = 1024
_MAX_NAME_BYTES: Final = 64
_names: Final[dict[bytes, int]] = dict(_OWN_NAMES)

_UPPER_CASE: Final = bytes(range(0x41, 0x5B))
_SCHEME: Final = ALPHANUMERIC + b"+-."
"""Of a scheme, what follows the letter that it begins with (RFC 3986, 3.1)."""

_MAX_PSEUDO: Final = 4096
_MAX_PSEUDO_BYTES: Final = 512
_pseudo: Final[dict[tuple[bytes, bytes], Field]] = {}


def field_from(name: bytes, value: bytes) -> Field:
    """
    The field that HPACK spelt, checked by RFC 9113, 8.2 and 8.3; the shared one if it was seen lately.

    Args:
        name: As sent: "Field names MUST be converted to lowercase when constructing an HTTP/2 message" (8.2).
        value: As sent: it "MUST NOT start or end with an ASCII whitespace character" (8.2.1).

    Returns:
        A field of kind MALFORMED with the fault as note if it may not be in a message, whatever stands beside it. A
        pseudo-header field is of kind PSEUDO, has no line of HTTP/1.1, and notes

        - `:path`: `(path, query | None, is_plain)`, normalised as a target of HTTP/1.1 is; `*` is the path `*`, and
          whether the method is OPTIONS is for the head to ask;
        - `:authority`: `(host, port | None, field)`, where the field is the shared `host` that says the same;
        - `:status`: the number, 100 to 999;
        - `:method`, `:scheme`, `:protocol`: None.
    """
    sort = _names.get(name, _NEW)
    if sort == _NEW:
        sort = _learn_name(name)
    if sort >= 0:
        # HTTP/1.1 strips a value, so that one line could stand for several.
        if value and (_is_white(value[0]) or _is_white(value[-1])):
            return _malformed(name, value, "white space around a field value")
        line = name + b": " + value
        field = None if sort & _NEVER_REMEMBERED else _remembered.get(line)
        if field is None:
            try:
                field = learn_named(name, sort, value, line)
            except GrammarError as error:
                return _malformed(name, value, str(error))
        return field
    if sort == _PSEUDO:
        return _pseudo.get((name, value)) or _learn_pseudo(name, value)
    if sort == _TE:
        # "It MUST NOT contain any value other than `trailers`" (RFC 9113, 8.2.2); in any case, as all its codings.
        if value.lower() == b"trailers":
            return field_of(b"te: " + value)
        return _malformed(name, value, "a te other than trailers")
    return _malformed(name, value, _FAULTS[sort])


def never_indexed(field: Field) -> Field:
    """
    The field with NEVER_INDEXED among its kinds: a copy, for who else sent it may not have minded.

    "When a literal header field representation indicates never indexed, an intermediary MUST use the same
    representation to encode it" (RFC 7541, 6.2.3).
    """
    return Field(field.name, field.value, field.kind | Kind.NEVER_INDEXED, field.wire, field.note)


def _is_white(octet: int) -> bool:
    return octet == 0x20 or octet == 0x09


def _malformed(name: bytes, value: bytes, fault: str) -> Field:
    return Field(name, value, Kind.MALFORMED, b"", fault)


def _learn_name(name: bytes) -> int:
    if not name:
        return _EMPTY
    if name[:1] == b":":
        return _UNKNOWN
    if name.translate(None, TOKEN):
        return _INVALID
    # "A field name MUST NOT contain characters in the ranges 0x00-0x20, 0x41-0x5a, or 0x7f-0xff" (RFC 9113, 8.2.1).
    if len(name.translate(None, _UPPER_CASE)) != len(name):
        return _UPPER
    kind = kind_of(name)
    if len(name) <= _MAX_NAME_BYTES:
        if len(_names) >= _MAX_NAMES:
            _names.clear()
            _names.update(_OWN_NAMES)
        _names[name] = kind
    return kind


def _learn_pseudo(name: bytes, value: bytes) -> Field:
    try:
        field = Field(name, value, Kind.PSEUDO, b"", _PSEUDO_NOTES[name](value))
    except GrammarError as error:
        return Field(name, value, Kind.PSEUDO | Kind.MALFORMED, b"", str(error))
    if len(name) + len(value) <= _MAX_PSEUDO_BYTES:
        if len(_pseudo) >= _MAX_PSEUDO:
            _pseudo.clear()
            _pseudo.update(_static_pseudo)
        _pseudo[name, value] = field
    return field


def _method(value: bytes) -> None:
    if not value or value.translate(None, TOKEN):
        raise GrammarError("an invalid method")


def _protocol(value: bytes) -> None:
    if not value or value.translate(None, TOKEN):
        raise GrammarError("an invalid :protocol")


def _scheme(value: bytes) -> None:
    if not value[:1].isalpha() or value.translate(None, _SCHEME):
        raise GrammarError("an invalid scheme")


def _status(value: bytes) -> int:
    if len(value) != 3 or not value.isdigit() or value[:1] == b"0":
        raise GrammarError("an invalid status code")
    return int(value)


def _path(value: bytes) -> tuple[bytes, bytes | None, bool]:
    if is_plain(value):
        path, query = split_query(value)
        return path, query, True
    # "This pseudo-header field MUST NOT be empty"; it is a path, or `*` of OPTIONS (RFC 9113, 8.3.1): no absolute form.
    if value[:1] != b"/" and value != b"*":
        raise GrammarError("a :path that does not begin with a slash")
    _, path, query = split_target(b"OPTIONS", value)
    return path, query, False


def _authority(value: bytes) -> tuple[bytes, int | None, Field]:
    # ":authority MUST NOT include the deprecated userinfo subcomponent for http or https schemed URIs" (8.3.1).
    if value.find(b"@") >= 0:
        raise GrammarError("user information in :authority")
    field = field_of(b"host: " + value)
    host, port = field.note
    if not host or len(field.value) != len(value):
        raise GrammarError("an empty :authority, or white space around it")
    return host, port, field


_PSEUDO_NOTES: Final[dict[bytes, Callable[[bytes], object]]] = {
    b":authority": _authority,
    b":method": _method,
    b":path": _path,
    b":protocol": _protocol,
    b":scheme": _scheme,
    b":status": _status,
}

STATIC_FIELDS: Final[list[Field]] = [field_from(name, value) for name, value in STATIC_TABLE]
"""The static table, from index 1 on. Some lack a value that they need, and are malformed if used whole."""
# Never forgotten: encoders know them by identity.
_static_pseudo: Final[dict[tuple[bytes, bytes], Field]] = dict(_pseudo)
