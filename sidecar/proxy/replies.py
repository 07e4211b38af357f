"""
Answers that the proxy makes itself: what failed, where, and what to look at. *Pure.*

Every such answer carries a `Proxy-Status` field (RFC 9209) and one line of JSON, both from the table of reasons. A peer
never sees the text of an exception or what another client sent.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.http1.forward import VIA, status_line
from sidecar.proxy.policies import retry_after

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}


def phrase(status: int) -> bytes:
    """The registered reason phrase, or nothing."""
    return _PHRASES.get(status, b"")


def local_reply(status: int, fields: list[bytes], body: bytes, *, is_head: bool, connection: bytes) -> bytes:
    """
    A complete response.

    Args:
        fields: Lines without line ends; `Content-Length` is added.
        is_head: Answers HEAD: the length is stated and the body left out.
        connection: Value of `Connection`, empty for none.
    """
    lines = [*fields, VIA]
    bodyless = status < 200 or status in (204, 304)
    if not bodyless:
        lines.append(b"content-length: %d" % len(body))
    if connection:
        lines.append(b"connection: " + connection)
    head = status_line(status, phrase(status)) + b"\r\n".join(lines) + b"\r\n\r\n"
    return head if is_head or bodyless else head + body


def explain(reason: Reason, exchange: Exchange) -> tuple[list[bytes], bytes]:
    """
    Fields and body of the answer to an exchange that ended for this reason.

    The body is one line of JSON; names of routes and upstreams come from the configuration, and the request id, which
    the client may have chosen, is escaped.
    """
    scope, endpoint = exchange.scope, exchange.endpoint
    said: dict[str, object] = {
        "error": reason.name,
        "status": exchange.status or reason.status,
        "flag": reason.flag,
        "message": reason.text,
        "source": reason.source.value,
        "phase": reason.phase.value,
    }
    if scope is not None and scope.route:
        said["route"] = scope.route
    if scope is not None and scope.upstream:
        said["upstream"] = scope.upstream
    if endpoint is not None:
        said["endpoint"] = endpoint.label
    if exchange.attempts:
        said["attempt"] = exchange.attempts
    said["look_at"] = reason.hint
    if exchange.request_id:
        said["request_id"] = exchange.request_id.decode("latin-1")
    fields = [
        b"content-type: application/json",
        b'proxy-status: sidecar; error=%b; details="%b"' % (reason.proxy_error.encode(), reason.name.encode()),
    ]
    if exchange.retry_after_s:
        fields.append(b"retry-after: " + retry_after(exchange.retry_after_s))
    if reason.status == 405:
        fields.append(b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    return fields, json.dumps(said, ensure_ascii=True).encode() + b"\n"
