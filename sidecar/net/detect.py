"""
What a client speaks, told by its first octets: HTTP/1, HTTP/2, TLS, or something else. *Once a connection; pure.*

Nothing is consumed, and nothing is waited for that the octets have already decided: one octet is enough for most that
is not HTTP. HTTP is taken in the widest sense, so that what any server might take for a request is judged by the rules
for requests, or refused by the parser, and never goes by as something that they do not see:

    HTTP/2  the preface, whole (RFC 9113, 3.4)
    TLS     a record of a handshake, as far as its header has come (`net.tls.hello`)
    HTTP/1  a first line of a method, a space, anything, a space and `HTTP/`, whatever version and case; empty lines
            before it, and bare line feeds, too (RFC 9112, 2.2 and 3)
    other   all else, as soon as none of these is possible
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.net.tls.hello import RECORD_HEADER, begins_tls

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (RFC 9113, 3.4)."""

MAX_BYTES: Final = 8192
"""Of a first line that has no end, before it is told by its beginning."""

MAX_METHOD: Final = 64
"""A longer word is no method of anybody's: `M-SEARCH` and `UPDATEREDIRECTREF` are long ones."""

SERVER_FIRST_PORTS: Final = (25, 587, 3306, 4444, 5432, 6379, 9300, 11211)
"""
Ports of protocols in which the server speaks first, or which no sidecar reads: SMTP, MySQL, Galera, PostgreSQL, Redis,
Elasticsearch's transport, memcached. Nobody waits for a client's first octets there (Linkerd's list of opaque ports).
"""

_EMPTY_LINES: Final = re.compile(rb"[\r\n]*")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")  # RFC 9110, 5.6.2


class Protocol:
    """What a connection was found to carry; plain numbers, which compiled code compares fastest."""

    UNKNOWN: Final = 0
    """More octets are needed."""
    HTTP1: Final = 1
    HTTP2: Final = 2
    TLS: Final = 3
    OTHER: Final = 4
    NAMES: Final = ("unknown", "http1", "http2", "tls", "tcp")


def detect(data: bytes) -> int:
    """
    What a connection that begins so carries.

    However it was split on its way, the answer for all that has come is the same; once it is not `UNKNOWN`, more
    octets do not change it. The line is scanned anew each time: whoever calls bounds its length.

    Args:
        data: All that has come so far.
    """
    if not data:
        return Protocol.UNKNOWN
    if begins_tls(data):
        return Protocol.TLS if len(data) >= RECORD_HEADER else Protocol.UNKNOWN
    if PREFACE.startswith(data[: len(PREFACE)]):
        return Protocol.HTTP2 if len(data) >= len(PREFACE) else Protocol.UNKNOWN
    begin = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]  # it always matches
    end = _METHOD.match(data, begin).end()  # type: ignore[union-attr]
    if end - begin > MAX_METHOD:
        return Protocol.OTHER
    if end == len(data):
        return Protocol.UNKNOWN
    if end == begin or data[end] != 0x20:
        return Protocol.OTHER
    stop = data.find(b"\n", end)
    if stop < 0:
        return Protocol.UNKNOWN
    words = data[end:stop].split()
    return Protocol.HTTP1 if words and words[-1][:5].upper() == b"HTTP/" else Protocol.OTHER


def looks_like_http(data: bytes) -> bool:
    """
    Whether what has come of an undecided beginning is more likely HTTP than anything else, for who waits no longer: a
    method and a space.
    """
    begin = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]
    end = _METHOD.match(data, begin).end()  # type: ignore[union-attr]
    return begin < end < len(data)


def goes_to_proxy(data: bytes) -> bool:
    """
    Whether a request that begins so is for a proxy: CONNECT, or a target in absolute form (RFC 9112, 3.2.2 and 3.2.3).
    """
    words = data.lstrip(b"\r\n").partition(b"\n")[0].split(None, 2)
    return len(words) > 1 and (words[0] == b"CONNECT" or not words[1].startswith((b"/", b"*")))
