"""
Query parameters, decoded as HTML forms encode them (application/x-www-form-urlencoded). *Hot path; pure.*

`?a=1&b=x+y&c=%C3%A9`: parameters are separated by `&`, a name ends at the first `=`, `+` is a space, and `%` with two
hexadecimal digits is an octet; a `%` without them stays. A parameter without `=` has an empty value. The first of
several parameters of one name wins.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.message import RequestHead

MAX_PARAMS: Final = 1000
"""Parameters read of one query; later ones are not seen. As many as PHP and Django read."""


def param(head: RequestHead, name: bytes) -> bytes | None:
    """Value of the first parameter called `name` (decoded, case-sensitive), or None."""
    params = head.params
    if params is None:
        if not head.query:
            return None
        params = head.params = parse_query(head.query)
    return params.get(name)


def parse_query(query: bytes) -> dict[bytes, bytes]:
    """The parameters of what follows `?`; the first of each name."""
    params: dict[bytes, bytes] = {}
    is_encoded = query.find(b"%") >= 0 or query.find(b"+") >= 0
    for pair in query.split(b"&", MAX_PARAMS)[:MAX_PARAMS]:
        if not pair:
            continue
        name, _, value = pair.partition(b"=")
        if is_encoded:
            name, value = _decode(name), _decode(value)
        if name not in params:
            params[name] = value
    return params


def _decode(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text
