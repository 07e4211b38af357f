"""
Heads become bytes again: what an intermediary must change on the way (RFC 9110, 7.6). *Hot path; pure.*

Lines that pass go on as they were received, byte for byte; hop-by-hop fields stay here, as those that `Connection`
names did when the head was read; what telemetry and the connection itself need is added.
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.date import DATE
from sidecar.http1.grammar import make_field
from sidecar.message import Field, Framing, Kind, RequestHead, ResponseHead

VIA: Final[tuple[bytes, ...]] = (b"via: 1.0 sidecar\r\n", b"via: 1.1 sidecar\r\n", b"via: 2 sidecar\r\n")
"""
RFC 9110, 7.6.3: the received protocol, by its `Version`, and a pseudonym; one for all sidecars, as hops are told
apart by traces. In what is forwarded, and not in answers of our own.

Of any length to the compiler, which would box a tuple of three anew wherever an index is asked of it.
"""
NO_VIA: Final[tuple[bytes, ...]] = (b"", b"", b"")
"""Where the configuration wants none."""
VIA_FIELDS: Final[tuple[Field, ...]] = (
    make_field(b"via", b"1.0 sidecar"), make_field(b"via", b"1.1 sidecar"), make_field(b"via", b"2 sidecar")
)  # fmt: skip

_OWN_OPTIONS: Final = Kind.UPGRADE | Kind.TE
_DROPPED_FROM_REQUEST: Final = Kind.HOP | Kind.TRACE | Kind.REQUEST_ID


def request_bytes(
    head: RequestHead,
    fields: list[Field],
    path: bytes,
    host: bytes | None,
    added: bytes,
    *,
    upgrade: bytes = b"",
) -> bytes:
    """
    The request head as the upstream receives it.

    Args:
        head: The request; decides method, query, framing.
        fields: Its fields, after header edits.
        path: The path to send.
        host: A `Host` value to send instead of the received one, or None.
        added: Lines of telemetry and forwarding and `Via`, each with its CRLF.
        upgrade: Value of `Upgrade` if the request asks for one that is passed on.
    """
    kinds = head.kinds
    dropped = _DROPPED_FROM_REQUEST
    if host is not None:
        dropped |= Kind.HOST
        added = b"host: %b\r\n%b" % (host, added)
    if kinds & _OWN_OPTIONS:
        added = _own_options(head, upgrade) + added
    if head.framing == Framing.CHUNKED:
        added += b"transfer-encoding: chunked\r\n"
    target = path if head.query is None else b"%b?%b" % (path, head.query)
    lines = b"\r\n".join([field.wire for field in fields if not field.kind & dropped])
    if lines:
        return b"%b %b HTTP/1.1\r\n%b\r\n%b\r\n" % (head.method, target, lines, added)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, target, added)


def _own_options(head: RequestHead, upgrade: bytes) -> bytes:
    """Our own `Connection` and what it names, as lines."""
    lines = b""
    kept: list[bytes] = []
    if upgrade:
        lines = b"upgrade: %b\r\n" % upgrade
        kept.append(b"upgrade")
    if head.kinds & Kind.TE and accepts_trailers(head):
        # Trailers pass through us, so the wish for them does (RFC 9110, 10.1.4); TE must be named by Connection.
        lines = b"te: trailers\r\n" + lines
        kept.append(b"te")
    return b"connection: %b\r\n%b" % (b", ".join(kept), lines) if kept else b""


def accepts_trailers(head: RequestHead) -> bool:
    for field in head.fields:
        if field.kind & Kind.TE:
            if field.value == b"trailers":  # as gRPC says it
                return True
            for member in field.value.lower().split(b","):
                if member.partition(b";")[0].strip(b" \t") == b"trailers":
                    return True
    return False


_status_lines: Final[dict[tuple[int, bytes], bytes]] = {}


def status_line(status: int, reason: bytes) -> bytes:
    """`HTTP/1.1 SP status SP reason CRLF`; our own version, whatever the upstream's (RFC 9110, 6.2)."""
    key = (status, reason)
    line = _status_lines.get(key)
    if line is None:
        line = b"HTTP/1.1 %d %b\r\n" % key
        if len(_status_lines) < 1024:
            _status_lines[key] = line
    return line


def response_bytes(head: ResponseHead, fields: list[Field], framing: int, connection: bytes) -> bytes:
    """
    The response head as the client receives it.

    Args:
        head: The response.
        fields: `head.fields` itself, to which `Via` is added, and `Date` if there is none; or another list, to which
            nothing is added: a route has edited it, and its edits have the last word over these, too.
        framing: How the body will be framed towards the client; CHUNKED adds the field, NONE keeps the length that
            a HEAD or 304 response states.
        connection: Value of the `Connection` field, empty for none.
    """
    is_own = fields is head.fields
    is_plain = is_own and framing == head.framing and not connection
    if is_plain:
        if head.wire:
            return head.wire
        if head.undated_wire:
            return b"%b%b\r\n\r\n" % (head.undated_wire, DATE.now().wire)
    kinds = head.kinds
    dropped = Kind.HOP
    if kinds & Kind.CONTENT_LENGTH and (head.status < 200 or head.status == 204):
        # "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx
        # (Informational) or 204 (No Content)" (RFC 9110, 8.6).
        dropped |= Kind.CONTENT_LENGTH
    lines = [field.wire for field in fields if not field.kind & dropped]
    if is_own:
        lines.append(VIA_FIELDS[head.version].wire)
    if head.status == 426 and kinds & Kind.UPGRADE:
        # "A server that sends a 426 response MUST send an Upgrade header field" (RFC 9110, 15.5.22).
        lines += [field.wire for field in head.fields if field.kind & Kind.UPGRADE]
        connection = connection + b", upgrade" if connection else b"upgrade"
    if framing == Framing.CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    if connection:
        lines.append(b"connection: " + connection)
    lines.append(b"")
    data = status_line(head.status, head.reason) + b"\r\n".join(lines)
    if is_own and needs_date(head):
        if is_plain:
            head.undated_wire = data
        return b"%b%b\r\n\r\n" % (data, DATE.now().wire)
    data += b"\r\n"
    if is_plain:
        head.wire = data
    return data


def needs_date(head: ResponseHead) -> bool:
    """
    Whether a response lacks `Date`.

    "A recipient with a clock that receives a response message without a Date header field MUST record the time it was
    received and append a corresponding Date header field to the message's header section if it is cached or forwarded
    downstream" (RFC 9110, 6.6.1). In an interim response nobody looks for it.
    """
    return not head.kinds & Kind.DATE and head.status >= 200
