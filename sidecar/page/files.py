"""The files of a page by the path that a browser asks for, each read when it is first asked for. *Cold.*"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sidecar import errors

# `require-trusted-types-for` makes the browser itself refuse text as markup: a slip in our modules runs nothing either.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
    }
)
"""Of every answer of a page."""

PREFIX = "/page/"
"""Where what a page is made of has its addresses."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
_FOLDER = Path(__file__).parent
_SHARED = "parts"
_REASONS = "reasons.json"

PageFile = tuple[int, Mapping[str, str], bytes]


class Page(enum.Enum):
    """A page; its value is the folder of what is its own."""

    MESH = "mesh"
    SIDECAR = "sidecar"


def page_file(page: Page, path: str, if_none_match: str = "") -> PageFile | None:
    """
    What a GET of this path is answered with.

    `/` is the page, `/page/NAME` what it is made of, `/page/reasons.json` what the flags of failed requests mean. A
    browser asks each time whether its copy is the newest (`no-cache` with an entity tag): modules of two releases never
    run together.

    Args:
        page: Whose files are given.
        path: The request's path as it came, without a query; nothing in it is decoded, none leads out of the folder.
        if_none_match: The field of that name, or "".

    Returns:
        Status (200, or 304 without a body), header fields, body; None if the path is not the page's.
    """
    place = _places(page).get(path)
    if place is None:
        return None
    content_type, tag, body = _content(place)
    headers = {**HEADERS, "etag": tag}
    # RFC 9110, 13.1.2: a list of tags, compared weakly, or `*`.
    tags = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    if tags & {tag, "*"}:
        return 304, headers, b""
    return 200, {**headers, "content-type": content_type}, body


def reasons() -> dict[str, list[dict[str, str]]]:
    """What each flag can mean and what to look at, from the one table: `{"UH": [{"text": ..., "hint": ...}]}`."""
    table: dict[str, list[dict[str, str]]] = {}
    # Of a flag that several share the page shows few: those of TLS are the rarer ones, and the log has which it was.
    for reason in sorted(errors.REASONS, key=lambda one: one.phase is errors.Phase.TLS):
        table.setdefault(reason.flag, []).append({"text": reason.text, "hint": reason.hint})
    return table


@functools.cache
def _places(page: Page) -> Mapping[str, Path]:
    """By path, which file: the names of a folder, and nothing that a request says, decide what can be read."""
    found = {PREFIX + _REASONS: _FOLDER / _REASONS}
    for folder in (_SHARED, page.value):
        for entry in (_FOLDER / folder).iterdir():
            if entry.suffix in _TYPES and entry.is_file():
                found["/" if entry.name == "index.html" else PREFIX + entry.name] = entry
    return MappingProxyType(found)


@functools.cache
def _content(place: Path) -> tuple[str, str, bytes]:
    """Content type, entity tag, content. Kept: an installed file does not change under a process that runs."""
    body = json.dumps(reasons(), sort_keys=True).encode() if place.name == _REASONS else place.read_bytes()
    return _TYPES[place.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"', body
