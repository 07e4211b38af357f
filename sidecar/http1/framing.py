"""
How the end of a body is recognised, whether the connection lives on (RFC 9112, 6.3 and 9.3), and which fields are for
this connection alone (RFC 9110, 7.6.1). *Hot path; pure.*

A message with both Transfer-Encoding and Content-Length is refused, which the RFC permits and a proxy should do: the
next hop may choose the other. The parser has already refused repeated and malformed values.

Fields that `Connection` names leave the head while it is read, before anybody decides by them or edits them: a peer can
so take away only what it sent itself, never what a route or telemetry writes, and what is matched is what is sent.
"""

from __future__ import annotations

from typing import Final

from sidecar import errors
from sidecar.errors import ProtocolError
from sidecar.message import Field, Framing, Kind, RequestHead, ResponseHead, Version

NOTHING_NOMINATED: Final[frozenset[bytes]] = frozenset()
MEANS_SOMETHING: Final = ~Kind.UNDERSCORE
"""All kinds but the one that only says how a name is spelled."""
_BODY: Final = Kind.CONTENT_LENGTH | Kind.TRANSFER_ENCODING
_HARMLESS_OPTIONS: Final = frozenset(
    (b"close", b"keep-alive", b"upgrade", b"te", b"proxy-connection", b"http2-settings")
)
# "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of the
# content" (RFC 9110, 7.6.1): these cannot be made to vanish by naming them, which is how filters are bypassed. Fields
# that mean something to the proxy cannot either.
_NEVER_NOMINATED: Final = frozenset(
    (b"authorization", b"cache-control", b"content-type", b"content-encoding", b"origin", b"x-forwarded-host")
)


def connection_options(fields: list[Field]) -> frozenset[bytes]:
    """All options of all `Connection` fields, in lower case."""
    options: frozenset[bytes] | None = None
    for field in fields:
        if field.kind & Kind.CONNECTION:
            options = field.note if options is None else options | field.note
    return options if options is not None else frozenset()


def nominated(fields: list[Field]) -> frozenset[bytes]:
    """Names that the `Connection` fields take out of the head, and out of the trailers, which come when it is gone."""
    return _that_go(connection_options(fields))


def unwanted_trailers(head: RequestHead | ResponseHead) -> frozenset[bytes]:
    """As `nominated`, of a head; most name nothing, and are not looked through."""
    return nominated(head.fields) if head.kinds & Kind.CONNECTION else NOTHING_NOMINATED


def without_underscored(fields: list[Field]) -> list[Field]:
    """The fields but for those that have `_` in their name, which CGI, WSGI and PHP read as `-`."""
    return [field for field in fields if not field.kind & Kind.UNDERSCORE]


def _that_go(options: frozenset[bytes]) -> frozenset[bytes]:
    return NOTHING_NOMINATED if options <= _HARMLESS_OPTIONS else options - _HARMLESS_OPTIONS - _NEVER_NOMINATED


def _without(fields: list[Field], options: frozenset[bytes]) -> list[Field]:
    """The fields but for those that the options name and that may be hop-by-hop at all."""
    names = _that_go(options)
    if not names:
        return fields
    return [field for field in fields if field.kind & MEANS_SOMETHING or field.name not in names]


def frame_request(head: RequestHead, noted: list[Field]) -> None:
    """
    Set `framing`, `content_length` and `keep_alive` of a request, and take out what `Connection` names.

    Args:
        noted: Those of its fields that decide about it: kinds CONNECTION, CONTENT_LENGTH and TRANSFER_ENCODING.

    Raises:
        ProtocolError: `BAD_REQUEST` or `UNSUPPORTED_CODING`.
    """
    kinds = head.kinds
    if kinds & Kind.CONNECTION:
        options = connection_options(noted)
        head.fields = _without(head.fields, options)
        head.keep_alive = b"close" not in options and (head.version == Version.HTTP11 or b"keep-alive" in options)
    elif not head.version:
        head.keep_alive = False
    if not kinds & _BODY:
        return
    if kinds & _BODY == _BODY:
        raise ProtocolError(errors.BAD_REQUEST, "both content-length and transfer-encoding")
    if kinds & Kind.TRANSFER_ENCODING:
        if not head.version:
            raise ProtocolError(errors.BAD_REQUEST, "transfer-encoding on HTTP/1.0")
        coding: bytes = _only(noted, Kind.TRANSFER_ENCODING).note
        if coding != b"chunked":
            *_, last = coding.split(b",")
            known = last.strip(b" \t") == b"chunked" and coding.count(b"chunked") == 1
            # "A server that receives a request message with a transfer coding it does not understand SHOULD respond
            # with 501" (RFC 9112, 6.1); one whose end cannot be found is a 400.
            reason = errors.UNSUPPORTED_CODING if known else errors.BAD_REQUEST
            raise ProtocolError(reason, f"transfer-encoding {coding!r}")
        head.framing = Framing.CHUNKED
    else:
        head.content_length = _only(noted, Kind.CONTENT_LENGTH).note
        head.framing = Framing.LENGTH if head.content_length else Framing.NONE
    if head.framing != Framing.NONE and head.method in (b"CONNECT", b"TRACE"):
        raise ProtocolError(errors.BAD_REQUEST, f"{head.method.decode()} with a body")


def frame_response(head: ResponseHead, noted: list[Field], request_method: bytes) -> None:
    """
    Set `framing`, `content_length` and `keep_alive` of a response, in the order of RFC 9112, 6.3, and take out what
    `Connection` names.

    Args:
        noted: As for `frame_request`.

    Raises:
        ProtocolError: `BAD_RESPONSE`; the connection must be closed, not reused.
    """
    kinds, status = head.kinds, head.status
    if kinds & Kind.CONNECTION:
        options = connection_options(noted)
        head.fields = _without(head.fields, options)
        head.keep_alive = b"close" not in options and (head.version == Version.HTTP11 or b"keep-alive" in options)
    elif not head.version:
        head.keep_alive = False
    if kinds & _BODY == _BODY:
        raise ProtocolError(errors.BAD_RESPONSE, "both content-length and transfer-encoding")
    if kinds & Kind.TRANSFER_ENCODING and not head.version:
        raise ProtocolError(errors.BAD_RESPONSE, "transfer-encoding on HTTP/1.0")
    # 1. "Any response to a HEAD request and any response with a 1xx, 204, or 304 status code is always terminated by
    #    the first empty line after the header fields".
    if request_method == b"HEAD" or status == 304:
        return
    if status < 200 or status == 204:
        if kinds & Kind.TRANSFER_ENCODING or (kinds & Kind.CONTENT_LENGTH and _only(noted, Kind.CONTENT_LENGTH).note):
            # It announces a body that it cannot have; what follows on this connection is anybody's guess.
            head.keep_alive = False
        return
    # 4. chunked is the final coding.
    if kinds & Kind.TRANSFER_ENCODING:
        coding: bytes = _only(noted, Kind.TRANSFER_ENCODING).note
        if coding != b"chunked":
            raise ProtocolError(errors.BAD_RESPONSE, f"transfer-encoding {coding!r}")
        head.framing = Framing.CHUNKED
    # 6. a valid Content-Length.
    elif kinds & Kind.CONTENT_LENGTH:
        head.content_length = _only(noted, Kind.CONTENT_LENGTH).note
        head.framing = Framing.LENGTH if head.content_length else Framing.NONE
    # 8. until the connection closes.
    else:
        head.framing = Framing.CLOSE
        head.keep_alive = False


# How much before the end of the upstream's patience a connection is given up, so that no request crosses its close:
# Node's and undici's margin. Of a patience of less than two seconds it is half.
_KEEP_ALIVE_MARGIN_S: Final = 1.0


def heed_keep_alive(head: ResponseHead) -> None:
    """
    Set `idle_hint_s` of a response with a field `Keep-Alive`; the shortest `timeout` counts, and 0 is a close.

    Servers mean the time after which they close: what is sent just then is lost, and a POST cannot be sent again.
    """
    for field in head.fields:
        if field.kind & Kind.KEEP_ALIVE and field.note is not None:
            patience_s: float = field.note
            if patience_s <= 0.0:
                head.keep_alive = False
            head.idle_hint_s = min(head.idle_hint_s, patience_s - min(_KEEP_ALIVE_MARGIN_S, patience_s / 2))


def _only(fields: list[Field], kind: int) -> Field:
    for field in fields:
        if field.kind & kind:
            return field
    raise AssertionError("a head whose kinds do not tell its fields")
