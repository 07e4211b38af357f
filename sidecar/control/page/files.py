"""The page's files by the path that a browser asks for. Pure but for reading the files, once."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
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
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
PREFIX = "/page/"

PageFile = tuple[int, Mapping[str, str], bytes]


def page_file(path: str, if_none_match: str = "") -> PageFile | None:
    """
    What a GET of this path is answered with.

    `/` is the page, `/page/NAME` what it is made of, `/page/reasons.json` what the flags of failed requests mean. A
    browser asks each time whether its copy is the newest (`no-cache` with an entity tag): modules of two releases never
    run together.

    Args:
        path: The request's path as it came, without a query; nothing in it is decoded, none leads out of the folder.
        if_none_match: The field of that name, or "".

    Returns:
        Status (200, or 304 without a body), header fields, body; None if the path is not the page's.
    """
    found = _files().get(path)
    if found is None:
        return None
    content_type, tag, body = found
    headers = {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
        "etag": tag,
    }
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
def _files() -> Mapping[str, tuple[str, str, bytes]]:
    """By path: content type, entity tag, content."""
    found = {}
    for entry in resources.files(__package__).iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES and entry.is_file():
            path = "/" if entry.name == "index.html" else PREFIX + entry.name
            found[path] = (_TYPES[suffix], entry.read_bytes())
    found[PREFIX + "reasons.json"] = (_TYPES[".json"], json.dumps(reasons(), sort_keys=True).encode())
    return MappingProxyType(
        {
            path: (content_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"', body)
            for path, (content_type, body) in found.items()
        }
    )
