"""
Responses of the proxy's own, as HTTP/1.1 writes them. *Pure.*
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from sidecar.http1.forward import status_line
from sidecar.message import Field

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}


def phrase(status: int) -> bytes:
    """The registered reason phrase, or nothing."""
    return _PHRASES.get(status, b"")


def reply_bytes(status: int, fields: list[Field], body: bytes, *, is_head: bool, connection: bytes) -> bytes:
    """
    A complete response.

    Args:
        fields: What it says of itself, `Date` included; `Content-Length` is added, and no `Via`: it is not forwarded.
        is_head: Answers HEAD: the length is stated and the body left out.
        connection: Value of `Connection`, empty for none.
    """
    lines = [field.wire for field in fields]
    bodyless = status < 200 or status in (204, 304)
    if not bodyless:
        lines.append(b"content-length: %d" % len(body))
    if connection:
        lines.append(b"connection: " + connection)
    head = status_line(status, phrase(status)) + b"\r\n".join(lines) + b"\r\n\r\n"
    return head if is_head or bodyless else head + body
