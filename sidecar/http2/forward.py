"""
Heads become field sections: what an intermediary must change on the way (RFC 9110, 7.6; RFC 9113, 8.2). *Hot path;
pure.*
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from sidecar.http1.date import DATE
from sidecar.http1.forward import VIA_FIELDS, accepts_trailers, needs_date
from sidecar.http1.grammar import field_of, make_field, own_field
from sidecar.http2.fields import field_from
from sidecar.message import Field, Kind, RequestHead, ResponseHead, Version

_DROPPED_FROM_REQUEST: Final = Kind.HOP | Kind.TRACE | Kind.REQUEST_ID | Kind.HOST
_DROPPED_FROM_RESPONSE: Final = Kind.HOP
_CONNECT: Final = field_from(b":method", b"CONNECT")
_WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TE_TRAILERS: Final = field_of(b"te: trailers")
_STATUSES: Final[dict[int, Field]] = {
    status: field_from(b":status", str(status).encode()) for status in range(100, 1000)
}
OK: Final = _STATUSES[200]


def request_fields(
    head: RequestHead, fields: list[Field], path: bytes, host: bytes | None, added: bytes, scheme: Field
) -> list[Field]:
    """
    The request's head as the upstream receives it.

    Args:
        head: The request; decides method and query.
        fields: Its fields, after header edits.
        path: The path to send.
        host: An authority to send instead of the received one, or None.
        added: Lines of telemetry and forwarding and `Via`, each with its CRLF.
        scheme: Of `SCHEMES`.
    """
    target = path if head.query is None else b"%b?%b" % (path, head.query)
    authority = host
    kept: list[Field] = []
    for field in fields:
        if not field.kind & _DROPPED_FROM_REQUEST:
            kept.append(field)
        elif field.kind & Kind.HOST and authority is None:
            authority = field.value
    out = [
        field_from(b":method", head.method),
        scheme,
        field_from(b":path", target),
        field_from(b":authority", authority if authority is not None else head.host),
    ]
    out += kept
    if head.kinds & Kind.TE and accepts_trailers(head):
        out.append(_TE_TRAILERS)
    for line in added.split(b"\r\n"):
        if line:
            out.append(own_field(line))
    return out


def upgrade_fields(fields: list[Field], upgrade: bytes) -> list[Field]:
    """
    A request that asks to switch to another protocol, as an extended CONNECT (RFC 8441, 4 and 5).

    The key goes along, though HTTP/2 needs none: if the server is Envoy, it makes of this an upgrade for a server that
    may know HTTP/1.1 alone.

    Args:
        fields: Of `request_fields`.
        upgrade: What it offers; the first of several is asked for.
    """
    protocol = upgrade.partition(b",")[0].strip(b" \t").lower()
    return [_CONNECT, field_from(b":protocol", protocol), *fields[1:]]


def ordinary_fields(fields: list[Field]) -> list[Field]:
    """
    The same request for a server that knows no such CONNECT, or with content, for which that has no place: "MAY ignore
    a received Upgrade" (RFC 9110, 7.8).
    """
    return [field for field in fields if not field.name.startswith(b"sec-websocket-")]


def switched_head(head: ResponseHead, upgrade: bytes, key: bytes) -> ResponseHead:
    """
    What a server's agreement to an extended CONNECT would be in HTTP/1.1: a 101.

    Args:
        upgrade: As in `upgrade_fields`.
        key: `sec-websocket-key` of the request, or empty: the answer to it is made here, unless the server has brought
            one (RFC 6455, 4.2.2).
    """
    protocol = upgrade.partition(b",")[0].strip(b" \t")
    made = ResponseHead(101, b"Switching Protocols", Version.HTTP11)
    made.fields = [field for field in head.fields if not field.kind & Kind.CONTENT_LENGTH]
    made.fields += [make_field(b"connection", b"upgrade"), make_field(b"upgrade", protocol)]
    if key and not any(field.name == b"sec-websocket-accept" for field in made.fields):
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET, usedforsecurity=False).digest())
        made.fields.append(make_field(b"sec-websocket-accept", accept))
    made.kinds = head.kinds | Kind.HOP | Kind.CONNECTION | Kind.UPGRADE
    return made


SCHEMES: Final = (field_from(b":scheme", b"http"), field_from(b":scheme", b"https"))
"""In clear, and by TLS."""


def response_fields(head: ResponseHead, fields: list[Field]) -> list[Field]:
    """
    The response's head as the client receives it.

    Args:
        head: The response.
        fields: As in `http1.forward.response_bytes`.
    """
    dropped = _DROPPED_FROM_RESPONSE
    if head.kinds & Kind.CONTENT_LENGTH and (head.status < 200 or head.status == 204):
        dropped |= Kind.CONTENT_LENGTH
    out = [_STATUSES[head.status]]
    for field in fields:
        if not field.kind & dropped:
            out.append(field)
    if fields is head.fields:
        out.append(VIA_FIELDS[head.version])
        if needs_date(head):
            out.append(DATE.now())
    return out


def reply_fields(status: int, fields: list[Field], size: int) -> list[Field]:
    """
    The head of a response of the proxy's own.

    Args:
        fields: What it says of itself, `Date` included; `content-length` is added where there may be one.
        size: Of its content, in octets, as far as it is or would be sent.
    """
    out = [_STATUSES[status], *[field for field in fields if not field.kind & _DROPPED_FROM_RESPONSE]]
    if status >= 200 and status not in (204, 304):
        out.append(make_field(b"content-length", b"%d" % size))
    return out


def switch_fields(head: ResponseHead | None, fields: list[Field]) -> list[Field]:
    """
    The head that says that a tunnel stands (RFC 9113, 8.5; RFC 8441, 5), with what a 101 has said besides: also the
    answer to a key, which the client may have from one of its own, as Envoy has.
    """
    if head is None:
        return [OK, DATE.now()]
    dropped = Kind.HOP | Kind.CONTENT_LENGTH
    return [OK, *[field for field in fields if not field.kind & dropped]]
