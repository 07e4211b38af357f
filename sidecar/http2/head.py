"""
Field sections become heads, and the rules that hold between their fields (RFC 9113, 8.2 and 8.3). *Hot path; pure.*

What a field alone may be was decided when it was decoded (`fields`). What HTTP/2 can say and HTTP/1.1 cannot is refused
here, so that a head means the same to whoever reads it next, in either.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Final

from sidecar.http1.grammar import field_of
from sidecar.http2.codes import MalformedError
from sidecar.message import Field, Framing, Kind, RequestHead, ResponseHead, Version

_PSEUDO: Final = Kind.PSEUDO
_MALFORMED: Final = Kind.MALFORMED
_MARKED: Final = Kind.PSEUDO | Kind.MALFORMED
_HOST: Final = Kind.HOST
_COOKIE: Final = Kind.COOKIE
_CONTENT_LENGTH: Final = Kind.CONTENT_LENGTH
_LOOKED_AT: Final = _HOST | _COOKIE | _CONTENT_LENGTH
_KEY_BYTES: Final = 16
_UPGRADE: Final = field_of(b"connection: upgrade")
_KEY: Final = b"sec-websocket-key"
_IS_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch


def request_head(fields: list[Field], is_end: bool) -> RequestHead:
    """
    A request's head.

    An extended CONNECT (RFC 8441) becomes the `Upgrade` of HTTP/1.1 that means the same, if need be with a key of our
    making.

    Args:
        fields: As decoded, pseudo-header fields first; never changed.
        is_end: Nothing follows it.

    Raises:
        MalformedError: 8.1.1 and what stands behind it.
    """
    method = path = authority = scheme = protocol = None
    kinds = 0
    length = -1
    cookies = 0
    host: Field | None = None
    host_at = 0
    crumb: Field | None = None
    begins, size = 0, len(fields)
    while begins < size:
        field = fields[begins]
        if not field.kind & _MARKED:
            break
        if field.kind & _MALFORMED:
            raise MalformedError(str(field.note))
        begins += 1
        name = field.name
        if name == b":method" and method is None:
            method = field
        elif name == b":path" and path is None:
            path = field
        elif name == b":authority" and authority is None:
            authority = field
        elif name == b":scheme" and scheme is None:
            scheme = field
        elif name == b":protocol" and protocol is None:
            protocol = field
        else:
            raise MalformedError(f"the pseudo-header field {name.decode('latin-1')} where it may not be")
    for at in range(begins, size):
        field = fields[at]
        kind = field.kind
        if kind & _MARKED:
            raise MalformedError(_misplaced(field))
        if kind & _LOOKED_AT:
            if kind & _COOKIE:
                cookies += 1
                crumb = field
            elif kind & _CONTENT_LENGTH:
                if length >= 0:
                    raise MalformedError("a repeated content-length")
                length = field.note
            elif host is not None:
                raise MalformedError("a repeated host")
            else:
                host, host_at = field, at
        kinds |= kind
    if method is None:
        raise MalformedError("no :method")
    # In the last pseudo-header field's place stands the host; cut in one piece, for a list that grew has room for more.
    regular = fields[begins - 1 :]
    if host is not None:
        del regular[host_at - begins + 1]
    head = RequestHead(method.value, b"", None, Version.HTTP2)
    if path is not None:
        head.path, head.query, head.is_plain = path.note
    _check_control(head, path, scheme, protocol)
    _name(head, regular, authority, host)
    head.kinds = kinds | _HOST
    head.fields = regular
    if cookies == 1:
        head.crumb = crumb
    elif cookies:
        _join_cookies(head)
    if method.value == b"CONNECT":
        # Also the extended: as an `Upgrade` of HTTP/1.1 it would have that much of the next request for its content.
        if length > 0:
            raise MalformedError("CONNECT with a content-length")
        if protocol is not None:
            _as_upgrade(head, protocol.value)
    elif is_end:
        if length > 0:
            raise MalformedError("a content-length of what has no content")
    else:
        _frame(head, length)
    return head


def _misplaced(field: Field) -> str:
    """Why a field that is malformed, or a pseudo-header field, may not stand behind header fields."""
    return str(field.note) if field.kind & _MALFORMED else "a pseudo-header field behind a header field"


def _check_control(head: RequestHead, path: Field | None, scheme: Field | None, protocol: Field | None) -> None:
    """Which pseudo-header fields there must be, and which there must not (8.3.1, 8.5, RFC 8441, 4)."""
    if head.method == b"CONNECT" and protocol is None:
        if path is not None or scheme is not None:
            raise MalformedError("CONNECT with a :path or :scheme")
    elif path is None or scheme is None:
        raise MalformedError("no :path" if path is None else "no :scheme")
    elif protocol is not None and head.method != b"CONNECT":
        raise MalformedError(":protocol without CONNECT")
    elif head.path == b"*" and head.method != b"OPTIONS":
        raise MalformedError("the path * with a method that is not OPTIONS")


def _name(head: RequestHead, regular: list[Field], authority: Field | None, host: Field | None) -> None:
    """
    Whom it is for: `:authority`, with which a `Host` must agree (8.3.1); it goes on as the `Host` that means the same.
    """
    if authority is not None:
        name, port, named = authority.note
        if host is not None and host.note != (name, port):
            raise MalformedError("a host that is not the :authority")
        host = named
    elif host is not None:
        name, port = host.note
    else:
        raise MalformedError("neither :authority nor host")
    if not name:
        raise MalformedError("an empty :authority")
    if head.method == b"CONNECT" and port is None and not head.path:
        raise MalformedError("CONNECT needs host:port")
    head.host, head.port = name, port
    regular[0] = host


def _join_cookies(head: RequestHead) -> None:
    """
    "If there are multiple Cookie header fields after decompression, these MUST be concatenated into a single octet
    string using the two-octet delimiter of 0x3b, 0x20" (8.2.3) before anybody sees them who does not know HTTP/2.
    """
    crumbs = [field.value for field in head.fields if field.kind & _COOKIE]
    joined = field_of(b"cookie: " + b"; ".join(crumbs))
    fields: list[Field] = []
    for field in head.fields:
        if not field.kind & _COOKIE:
            fields.append(field)
        elif joined is not None and head.crumb is None:
            fields.append(joined)
            head.crumb = joined
    head.fields = fields


def _as_upgrade(head: RequestHead, protocol: bytes) -> None:
    """
    RFC 8441, 5: the same as `GET` with `Upgrade`, but for the key, which HTTP/2 needs none of. Envoy sends its client's
    all the same, and that client wants the answer to it; in all other cases it is one of our making.
    """
    head.method = b"GET"
    keys = [field for field in head.fields if field.name == _KEY]
    head.fields = [field for field in head.fields if field.name != _KEY]
    head.fields += [_UPGRADE, field_of(b"upgrade: " + protocol)]
    if len(keys) == 1 and _IS_KEY(keys[0].value):
        head.fields += keys
    elif protocol == b"websocket":
        head.fields.append(field_of(b"sec-websocket-key: " + base64.b64encode(os.urandom(_KEY_BYTES))))
    head.kinds |= Kind.UPGRADE | Kind.CONNECTION | Kind.HOP


def _frame(head: RequestHead, length: int) -> None:
    """How the end of the content is told; HTTP/1.1 has chunks for what says no length."""
    if head.method == b"TRACE":
        raise MalformedError("TRACE with content")
    if length < 0:
        head.framing = Framing.CHUNKED
    else:
        head.framing = Framing.LENGTH
        head.content_length = length


def response_head(fields: list[Field], request_method: bytes, is_end: bool) -> ResponseHead:
    """
    A response's head.

    Args:
        fields: As decoded; never changed.
        request_method: Method of the request that is answered.
        is_end: Nothing follows it.

    Raises:
        MalformedError: 8.1.1 and what stands behind it.
    """
    status = 0
    kinds = 0
    length = -1
    regular = fields
    if fields and fields[0].name == b":status" and not fields[0].kind & _MALFORMED:
        status = fields[0].note
        regular = fields[1:]
    for field in regular:
        kind = field.kind
        if kind & _MARKED:
            if kind & _MALFORMED:
                raise MalformedError(str(field.note))
            raise MalformedError(f"the pseudo-header field {field.name.decode('latin-1')} where it may not be")
        if kind & _CONTENT_LENGTH:
            if length >= 0:
                raise MalformedError("a repeated content-length")
            length = field.note
        kinds |= kind
    if not status:
        raise MalformedError("no :status")
    if status == 101:
        raise MalformedError("a 101, which HTTP/2 has none of")  # 8.6
    head = ResponseHead(status, b"", Version.HTTP2)
    head.fields = regular
    head.kinds = kinds
    if status < 200:
        if is_end:
            raise MalformedError("an interim response that is the end")  # 8.1
    elif request_method == b"HEAD" or status in (204, 304):
        pass
    elif length < 0:
        head.framing = Framing.CHUNKED
    elif is_end and length:
        raise MalformedError("a content-length of what has no content")
    elif length or not is_end:
        head.framing = Framing.LENGTH
        head.content_length = length
    return head
