"""
The admin listener's page for browsers, and which requests pages may make. *Cold; pure but for the files of the page.*

A web page of anybody can make the browser of somebody at this machine send requests to the loopback address. So what
changes something is closed to pages, ours included; what only answers, but by POST, is open to ours alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

PREFIX = "/page/"
"""Where what the page is made of has its addresses."""

PageReply = tuple[int, list[tuple[bytes, bytes]], bytes]


def read_page(path: str, if_none_match: str) -> PageReply | None:
    """
    A file of the page; waits for a disk, so it is for a thread.

    Args:
        path: `/` or one below `PREFIX`, without a query.
        if_none_match: The field of that name, or empty.

    Returns:
        Status, fields, content; None if the page has no such file.
    """
    # Not with the module: few sidecars are ever looked at by a browser.
    from sidecar.page.files import Page, page_file

    found = page_file(Page.SIDECAR, path, if_none_match)
    if found is None:
        return None
    status, fields, body = found
    return status, [(name.encode(), value.encode()) for name, value in fields.items()], body


def is_from_page(fields: Mapping[bytes, str]) -> bool:
    """
    Whether a browser says that a page made it ask, in one of two ways (RFC 6454, 7.3; Fetch Metadata, 2.4).

    curl, orchestrators and health checks send neither field; an address that a person typed is of `none`.
    """
    return b"origin" in fields or fields.get(b"sec-fetch-site", "none").lower() != "none"


def is_from_own_page(fields: Mapping[bytes, str]) -> bool:
    """
    Whether that page is one that this listener gave: of the same origin.

    A browser lets no page choose either field. `Sec-Fetch-Site` is sent to trustworthy addresses only, of which
    loopback is one; elsewhere `Origin` has to name the authority that was asked. A page that has rebound a name of its
    own is of the same origin to the browser: such names are refused before (`hosts.AllowedHosts`).

    Args:
        fields: By lower-case name, of one request.
    """
    site, origin = fields.get(b"sec-fetch-site"), fields.get(b"origin")
    if site is None and origin is None:
        return False
    if site is not None and site.lower() != "same-origin":
        return False
    return origin is None or _is_same(origin, fields.get(b"host", ""))


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin (`http://127.0.0.1:9901`; `null` for one that is nobody's) is of this authority."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    # `https` where somebody has put TLS before this listener.
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.strip().lower()
