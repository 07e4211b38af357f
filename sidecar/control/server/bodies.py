"""Bodies of requests within bounds: as they are, or the files of a mesh. *On the loop; large JSON in a thread.*"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import BodyPartReader, web

from sidecar.control.fleet import FleetError
from sidecar.link.fields import MessageError
from sidecar.mesh.source import MAX_FILES

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
BODY_S: Final = 30.0
"""In which a body must be there; `FILES_S`: one with a mesh's files."""
FILES_S: Final = 60.0
MAX_NAME_CHARS: Final = 500
_FIELDS: Final = ("expected", "now")


@dataclass(frozen=True, slots=True)
class MeshFiles:
    """
    What somebody wants to be the mesh.

    Attributes:
        files: By name relative to the mesh's directory.
        expected: The version that they are an edit of; None: whichever is there.
        is_now: Whether waves are skipped.
    """

    files: Mapping[str, bytes]
    expected: str | None = None
    is_now: bool = False


async def read_body(request: web.Request) -> bytes:
    """
    The body, at most what the app allows; once.

    Not by `request.read`, which keeps it with the request, as aiohttp keeps the request until its connection brings
    another: a thousand reports would be in memory for nothing.

    Raises:
        FleetError: It is too slow.
        HTTPRequestEntityTooLarge: What it says.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > request.client_max_size:
                    raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
            return bytes(body)
    except TimeoutError:
        raise FleetError(408, f"expected the body within {BODY_S:g} s") from None


async def read_files(request: web.Request) -> MeshFiles:
    """
    The body of a push.

    Raises:
        FleetError: It is too large, too slow, or of another type.
        MessageError: It is not of the form that it says.
    """
    try:
        async with asyncio.timeout(FILES_S):
            if request.content_type == "multipart/form-data":
                return await _read_parts(request)
            if request.content_type != "application/json":
                raise FleetError(415, "expected application/json or multipart/form-data")
            body = bytearray()
            async for chunk in request.content.iter_any():
                body += chunk
                _check_size(len(body))
    except TimeoutError:
        raise FleetError(408, f"expected the body within {FILES_S:g} s") from None
    return await asyncio.to_thread(read_json, bytes(body))


def read_json(raw: bytes) -> MeshFiles:
    """`{"files": {NAME: TEXT}, "expected": VERSION or null, "now": true or false}`. Raises MessageError."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        raise MessageError("expected JSON") from None
    files = said.get("files") if isinstance(said, dict) else None
    if not isinstance(files, dict):
        raise MessageError("files: expected an object of texts by name")
    found: dict[str, bytes] = {}
    for name, text in files.items():
        _check_name(name, len(found))
        if not isinstance(text, str):
            raise MessageError(f"files.{name}: expected text")
        try:
            found[name] = text.encode()
        except UnicodeEncodeError:
            raise MessageError(f"files.{name}: expected Unicode, found half of a pair of surrogates") from None
    return _with_options(found, said.get("expected"), said.get("now", False))


async def _read_parts(request: web.Request) -> MeshFiles:
    files: dict[str, bytes] = {}
    fields: dict[str, str] = {}
    size = 0
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise MessageError("expected files, found parts within a part")
            content = bytearray()
            while chunk := await part.read_chunk():
                content += chunk
                size += len(chunk)
                _check_size(size)
            if part.filename is not None:
                _check_name(part.filename, len(files))
                if part.filename in files:
                    raise MessageError(f"{part.filename}: expected each file once, found it twice")
                files[part.filename] = bytes(content)
            elif part.name in _FIELDS:
                fields[part.name] = content.decode("utf-8", "replace")
            else:
                raise MessageError("expected parts with a file name, `expected` and `now`")
    except (ValueError, AssertionError) as error:
        if isinstance(error, MessageError):
            raise
        raise MessageError(f"expected multipart/form-data: {error}") from None
    now = {"": False, "false": False, "true": True}.get(fields.get("now", ""))
    return _with_options(files, fields.get("expected"), now)


def _with_options(files: Mapping[str, bytes], expected: Any, now: Any) -> MeshFiles:
    if not files:
        raise MessageError("files: expected at least one")
    if expected is not None and not isinstance(expected, str):
        raise MessageError("expected: expected a version, as the push before it answered")
    if not isinstance(now, bool):
        raise MessageError("now: expected true or false")
    return MeshFiles(files, expected, now)


def _check_size(octets: int) -> None:
    if octets > MAX_BODY_BYTES:
        raise FleetError(413, f"expected at most {MAX_BODY_BYTES} octets of files")


def _check_name(name: str, before: int) -> None:
    """It becomes part of an engine's key, and of what people see."""
    parts = name.split("/")
    is_plain = name.isprintable() and 0 < len(name) <= MAX_NAME_CHARS and not {"", ".", ".."} & set(parts)
    if not is_plain:
        raise MessageError(f"files: expected names relative to the mesh's directory, found {name[:60]!r}")
    if before >= MAX_FILES:
        raise MessageError(f"files: expected at most {MAX_FILES}")


def as_json(value: Any) -> web.Response:
    """An answer that is not to be kept, nor taken for anything but JSON."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(body=body, headers={"content-type": "application/json", "cache-control": "no-store"})
