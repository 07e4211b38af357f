"""
`Max-Forwards` (RFC 9110, 7.6.2): how many more hops a TRACE or OPTIONS may take. *Hot path of who sends it; pure.*

"Each intermediary that receives a TRACE or OPTIONS request containing a Max-Forwards header field MUST check and update
its value prior to forwarding the request. If the received value is zero (0), the intermediary MUST NOT forward the
request; instead, the intermediary MUST respond as the final recipient." On other methods the field means nothing to us
and goes on as it came.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.http1.grammar import GrammarError, make_field
from sidecar.message import Field, Kind, RequestHead

ALLOWED: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""Value of `Allow` where the proxy answers in its own name. TRACE is answered only to who asks this hop."""

# More hops than any chain has; what is more goes on as this, "the recipient's maximum supported value".
_MAX_DIGITS: Final = 9
_MOST: Final = 10**_MAX_DIGITS - 1
# "A client MUST NOT generate fields in a TRACE request containing sensitive data" and "the final recipient of the
# request SHOULD exclude any request fields that are likely to contain sensitive data" (9.3.8): it may be a proxy before
# us that added them.
_SENSITIVE: Final = re.compile(rb"auth|cookie|token|secret|passw|pwd|credential|session|key|jwt|cert|signature")

# By `Version`. "When a major version of HTTP does not define any minor versions, the minor version "0" is implied" and
# "is used when referring to that protocol within elements that require a minor version identifier" (2.5): here.
_SPOKEN: Final = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0")


def hops_left(head: RequestHead) -> int | None:
    """
    How many more hops the request may take; None if it does not say, or its method is one that cannot.

    Raises:
        GrammarError: `Max-Forwards = 1*DIGIT`, and it is something else or there are two.
    """
    if head.method != b"TRACE" and head.method != b"OPTIONS":
        return None
    values = [field.value for field in head.fields if field.kind & Kind.MAX_FORWARDS]
    if not values:
        return None
    if len(values) > 1 or not values[0].isdigit():
        raise GrammarError("a max-forwards that is not a number")
    return int(values[0]) if len(values[0]) <= _MAX_DIGITS else _MOST


def one_hop_fewer(head: RequestHead, fields: list[Field]) -> list[Field]:
    """The fields to send on, of a request whose `hops_left` is no error and not 0."""
    left = hops_left(head)
    if left is None:
        return fields
    fewer = make_field(b"max-forwards", b"%d" % (left - 1))
    return [fewer if field.kind & Kind.MAX_FORWARDS else field for field in fields]


def answer_here(head: RequestHead) -> tuple[list[Field], bytes]:
    """
    Fields and body of the answer, 200, to a request that may go no further.

    To TRACE it is the request as it came, "as the content of a 200 (OK) response"; to OPTIONS what may be asked.
    """
    if head.method == b"OPTIONS":
        return [make_field(b"allow", ALLOWED)], b""
    target = head.path if head.query is None else b"%b?%b" % (head.path, head.query)
    if head.absolute:
        port = b"" if head.port is None else b":%d" % head.port
        target = b"http://%b%b%b" % (head.host, port, target)
    lines = [b"TRACE %b %b" % (target, _SPOKEN[head.version])]
    lines += [field.wire for field in head.fields if _SENSITIVE.search(field.name) is None]
    return [make_field(b"content-type", b"message/http")], b"\r\n".join(lines) + b"\r\n\r\n"
