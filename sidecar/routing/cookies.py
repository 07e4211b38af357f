"""
Cookies as browsers send them (RFC 6265, 5.4) and as servers read them. *Hot path; pure.*

`Cookie: a=1; b="two"; c=x=y`: pairs are separated by `;`, a name ends at the first `=`, white space around either is
ignored, and one pair of quotes around a value is taken off. Nothing is percent-decoded. A part without `=` has no name
and is ignored. The first of several cookies of one name wins, across all `Cookie` fields in their order: browsers
send the one with the longest path first.
"""

from __future__ import annotations

from typing import Final

from sidecar.message import Field, Kind, RequestHead

MAX_COOKIES: Final = 1000
"""Cookies read of one field; later ones are not seen. Browsers keep at most 180 for a site."""


def cookie(head: RequestHead, name: bytes) -> bytes | None:
    """Value of the first cookie called `name` (case-sensitive), or None."""
    if not head.kinds & Kind.COOKIE:
        return None
    crumb = head.crumb
    if crumb is not None:
        if crumb.note is None and crumb.value.find(name) < 0:
            return None
        return _cookies_of(crumb).get(name)
    for field in head.fields:
        # Most users have no such cookie: a search costs a tenth of a parse.
        if field.kind & Kind.COOKIE and (field.note is not None or field.value.find(name) >= 0):
            value = _cookies_of(field).get(name)
            if value is not None:
                return value
    return None


def parse_cookies(value: bytes) -> dict[bytes, bytes]:
    """The cookies of one field's value; the first of each name."""
    cookies: dict[bytes, bytes] = {}
    for pair in value.split(b";", MAX_COOKIES)[:MAX_COOKIES]:
        name, equals, content = pair.partition(b"=")
        name = name.strip(b" \t")
        if not equals or not name or name in cookies:
            continue
        content = content.strip(b" \t")
        if len(content) >= 2 and content[:1] == b'"' == content[-1:]:
            content = content[1:-1]
        cookies[name] = content
    return cookies


def _cookies_of(field: Field) -> dict[bytes, bytes]:
    # Fields are shared between requests (see `message`), so most cookies are parsed once for a connection.
    if field.note is None:
        field.note = parse_cookies(field.value)
    cookies: dict[bytes, bytes] = field.note
    return cookies
