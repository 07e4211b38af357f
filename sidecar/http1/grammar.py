"""
The octets and fields of HTTP/1.1, checked against the RFC's grammar. *Hot path: `field_of`; pure.*

Every set below is quoted from its rule and tested over all 256 octets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from sidecar.grpc import is_grpc, parse_timeout, status_of
from sidecar.message import Field, Kind


class GrammarError(ValueError):
    """Octets that no rule of the grammar produces; the caller knows whose fault that is."""


def _octets(*ranges: tuple[int, int], also: bytes = b"") -> bytes:
    return bytes(sorted({octet for low, high in ranges for octet in range(low, high + 1)} | set(also)))


ALPHANUMERIC: Final = _octets((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A))
TOKEN: Final = ALPHANUMERIC + b"!#$%&'*+-.^_`|~"
"""tchar (RFC 9110, 5.6.2)."""
VALUE: Final = _octets((0x20, 0x7E), (0x80, 0xFF), also=b"\t")
"""field-vchar, SP and HTAB (RFC 9110, 5.5): neither CR, LF, NUL nor another control octet."""
# Leaves an octet that a value may hold as it is, and no other. To delete the allowed ones, as the other sets are asked,
# takes 0.2 us longer; a value is asked for each field that is new.
_OTHER_IF_NO_VALUE: Final = bytes([octet if octet in VALUE else octet ^ 0x20 for octet in range(256)])
TARGET: Final = bytes(set(_octets((0x21, 0x7E))) - set(b"#"))
"""Visible ASCII without `#`: wider than RFC 3986, for browsers send `|` and `"` in queries; a fragment never comes."""
REG_NAME: Final = ALPHANUMERIC + b"-._~!$&'()*+,;=%"
"""reg-name (RFC 3986, 3.2.2)."""

_KINDS: Final[dict[bytes, int]] = {
    b"host": Kind.HOST,
    b"content-length": Kind.CONTENT_LENGTH,
    b"transfer-encoding": Kind.TRANSFER_ENCODING | Kind.HOP,
    b"connection": Kind.CONNECTION | Kind.HOP,
    b"upgrade": Kind.UPGRADE | Kind.HOP,
    b"te": Kind.TE | Kind.HOP,
    b"keep-alive": Kind.KEEP_ALIVE | Kind.HOP,
    b"proxy-connection": Kind.HOP,
    b"proxy-authenticate": Kind.HOP,
    # Credentials meant for a forward proxy; the sidecar asks for none and the next hop must not see them.
    b"proxy-authorization": Kind.HOP,
    b"http2-settings": Kind.HOP,
    # Look-alikes: who reads `_` as `-`, as CGI, WSGI and PHP do, would find two lengths or codings. They stay here.
    b"content_length": Kind.HOP,
    b"transfer_encoding": Kind.HOP,
    b"expect": Kind.EXPECT,
    b"cookie": Kind.COOKIE,
    b"traceparent": Kind.TRACE,
    b"tracestate": Kind.TRACE,
    b"b3": Kind.TRACE,
    b"x-b3-traceid": Kind.TRACE,
    b"x-b3-spanid": Kind.TRACE,
    b"x-b3-parentspanid": Kind.TRACE,
    b"x-b3-sampled": Kind.TRACE,
    b"x-b3-flags": Kind.TRACE,
    b"x-amzn-trace-id": Kind.TRACE,
    b"x-request-id": Kind.REQUEST_ID,
    b"x-forwarded-for": Kind.FORWARDED_FOR,
    b"x-forwarded-proto": Kind.FORWARDED_PROTO,
    b"x-forwarded-client-cert": Kind.CLIENT_CERT,
    b"x_forwarded_client_cert": Kind.CLIENT_CERT,  # to who reads `_` as `-`
    b"via": Kind.VIA,
    b"user-agent": Kind.USER_AGENT,
    b"date": Kind.DATE,
    b"max-forwards": Kind.MAX_FORWARDS,
    b"x-sidecar-explain": Kind.EXPLAIN,
    b"content-type": Kind.GRPC,  # by its value, too
    b"grpc-status": Kind.GRPC_STATUS,
    b"grpc-timeout": Kind.GRPC_TIMEOUT,
}

_FRAMES_A_BODY: Final = Kind.CONTENT_LENGTH | Kind.TRANSFER_ENCODING
# The kinds of the names in `_NOTES`, and of the content type, which is gRPC's by its value only.
_NOTED: Final = (
    _FRAMES_A_BODY | Kind.HOST | Kind.CONNECTION | Kind.KEEP_ALIVE | Kind.GRPC | Kind.GRPC_STATUS | Kind.GRPC_TIMEOUT
)

# Fields whose value is new with every request would only push the others out.
_NEW_AND_PLAIN: Final = Kind.TRACE | Kind.REQUEST_ID
_NEVER_REMEMBERED: Final = _NEW_AND_PLAIN | Kind.GRPC_TIMEOUT
_MAX_REMEMBERED: Final = 4096
_MAX_REMEMBERED_BYTES: Final = 512
_remembered: Final[dict[bytes, Field]] = {}
_MAX_NAMES: Final = 1024
_MAX_NAME_BYTES: Final = 64
_names: Final[dict[bytes, tuple[bytes, int]]] = {}


def field_of(line: bytes) -> Field:
    """
    The field that a line without its CRLF spells (RFC 9112, 5).

    Lines are remembered, since most requests repeat the lines of earlier ones: a dictionary lookup instead of a
    parse. The memory is bounded by count and by line length, at about 2 MiB.

    Raises:
        GrammarError: Not `field-name ":" OWS field-value OWS`; this includes folded lines, white space before the
            colon, and any CR, LF, NUL or control octet.
    """
    field = _remembered.get(line)
    return field if field is not None else learn(line)


def own_field(line: bytes) -> Field:
    """As `field_of`, of a line of our own making, `name: value` with the name in lower case: good, and not checked."""
    field = _remembered.get(line)
    if field is not None:
        return field
    name, _, value = line.partition(b": ")
    kind = _KINDS.get(name, 0)
    return Field(name, value, kind, line) if kind & _NEW_AND_PLAIN else learn(line)


def learn(line: bytes) -> Field:
    """Parse a line that is not remembered, and remember it; otherwise as `field_of`."""
    written, colon, value = line.partition(b":")
    if not colon:
        raise GrammarError("a header line without a colon")
    name, kind = _names.get(written) or _learn_name(written)
    return learn_named(name, kind, value.strip(b" \t"), line)


def learn_named(name: bytes, kind: int, value: bytes, line: bytes) -> Field:
    """As `learn`, of a line whose parts are known; the name and its kind are good, the value may be anything."""
    if value.translate(_OTHER_IF_NO_VALUE) != value:
        raise GrammarError("a control octet in a header value")
    # Most have nothing to be noted and are spared a call.
    field = _classified(name, kind, value, line) if kind & _NOTED else Field(name, value, kind, line)
    if not field.kind & _NEVER_REMEMBERED and len(line) <= _MAX_REMEMBERED_BYTES:
        if len(_remembered) >= _MAX_REMEMBERED:
            _remembered.clear()
        _remembered[line] = field
    return field


def _learn_name(written: bytes) -> tuple[bytes, int]:
    """The name in lower case, and the kind of its fields; values are new all the time, names are not."""
    if not written or written.translate(None, TOKEN):
        raise GrammarError("an invalid header name")
    name = written.lower()
    known = name, kind_of(name)
    if len(written) <= _MAX_NAME_BYTES:
        if len(_names) >= _MAX_NAMES:
            _names.clear()
        _names[written] = known
    return known


def kind_of(name: bytes) -> int:
    """The kind of fields with this name, in lower case."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    return Kind.UNDERSCORE if name.find(b"_") >= 0 else 0


def make_field(name: bytes, value: bytes) -> Field:
    """
    A field of our own making, for header edits and replies.

    Raises:
        ValueError: The name is no token or the value holds octets that no field may.
    """
    if not name or name.translate(None, TOKEN) or value.translate(None, VALUE) or value != value.strip(b" \t"):
        raise GrammarError(f"not a header field: {name!r}: {value!r}")
    key = name.lower()
    return _classified(key, kind_of(key), value, b"%b: %b" % (name, value))


def _classified(name: bytes, kind: int, value: bytes, wire: bytes) -> Field:
    note_of = _NOTES.get(name) if kind else None
    if note_of is None:
        if kind == Kind.GRPC and not is_grpc(value):
            kind = 0
        return Field(name, value, kind, wire)
    if kind & _FRAMES_A_BODY and not wire.endswith((b":" + value, b": " + value)):
        # Optional white space, but of no use here: a hop that does not strip it, or not all of it, frames differently.
        raise GrammarError("white space around a content-length or transfer-encoding")
    return Field(name, value, kind, wire, note_of(value))


def content_length(value: bytes) -> int:
    """
    `Content-Length = 1*DIGIT` (RFC 9110, 8.6), at most 18 digits so that no peer's integer overflows.

    Raises:
        GrammarError: A sign, a list, white space, a leading zero (which some read as octal) or anything else.
    """
    # bytes.isdigit is true for ASCII digits only.
    if not value.isdigit() or len(value) > 18 or (value[:1] == b"0" and len(value) > 1):
        raise GrammarError("a content-length that is not a number")
    return int(value)


def tokens(value: bytes) -> frozenset[bytes]:
    """
    The members of a comma-separated list of tokens, in lower case; empty members are ignored (RFC 9110, 5.6.1).

    Raises:
        GrammarError: A member is no token.
    """
    members = frozenset(member.strip(b" \t") for member in value.lower().split(b",")) - {b""}
    for member in members:
        if member.translate(None, TOKEN):
            raise GrammarError("an invalid token in a list")
    return members


def authority(value: bytes) -> tuple[bytes, int | None]:
    """
    `uri-host [ ":" port ]` (RFC 9110, 7.2) as a lower-case host without a trailing dot, and the port.

    An empty value is allowed: a target without authority has an empty `Host`. IPv6 keeps its brackets.

    Raises:
        GrammarError: User information, an invalid host, or a port that is not 1 to 65535.
    """
    if value[:1] == b"[":
        end = value.find(b"]")
        host, rest = value[: end + 1].lower(), value[end + 1 :]
        try:
            socket.inet_pton(socket.AF_INET6, host[1:-1].decode("ascii"))
        except (OSError, ValueError):
            raise GrammarError("an invalid IPv6 address as host") from None
        port = rest[1:]
        if rest and rest[:1] != b":":
            raise GrammarError("an invalid host")
    else:
        host, _, port = value.lower().partition(b":")
        if host.translate(None, REG_NAME) or (b"%" in host and not _is_percent_encoded(host)):
            raise GrammarError("an invalid host")
        if host[-1:] == b".":
            host = host[:-1]
        if port and not host:
            raise GrammarError("a port without a host")
    if not port:
        return host, None
    if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise GrammarError("an invalid port")
    return host, int(port)


def _is_percent_encoded(text: bytes) -> bool:
    hexadecimal = b"0123456789abcdefABCDEF"
    return all(len(part) >= 2 and not part[:2].translate(None, hexadecimal) for part in text.split(b"%")[1:])


def keep_alive_timeout(value: bytes) -> float | None:
    """
    Seconds of the parameter `timeout` of `Keep-Alive` (RFC 2068, 19.7.1.1), or None: it is a hint, and never an error.
    """
    for parameter in value.lower().split(b","):
        name, _, number = parameter.partition(b"=")
        number = number.strip(b' \t"')
        if name.strip(b" \t") == b"timeout" and number.isdigit() and len(number) <= 9:
            return float(int(number))
    return None


_NOTES: Final[dict[bytes, Callable[[bytes], object]]] = {
    b"host": authority,
    b"content-length": content_length,
    b"transfer-encoding": bytes.lower,
    b"connection": tokens,
    b"keep-alive": keep_alive_timeout,
    b"grpc-status": status_of,
    b"grpc-timeout": parse_timeout,
}
