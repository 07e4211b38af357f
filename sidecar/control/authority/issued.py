"""
What was issued to whom until when, and whose renewals are refused. *On the loop; the clock is given.*

Of each line of certificates, which begins with a join and goes on by renewals, the newest: whoever renewed does not use
the one before any more. It answers whether a root can be dropped, and shows people who has what. What is new is written
within `WRITE_S`, together: a thousand sidecars that join are a few writes.

Bounded: of lines beyond `MAX_LINES` only is kept, by root, when the last of them ends.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sidecar.control.authority.authority import MAX_LEAF_AGE_S, Issued
from sidecar.control.engines.interface import Conflict, EngineError, Secrets, Unavailable
from sidecar.link.fields import Fields, MessageError, decode, encode
from sidecar.process_log import event

logger = logging.getLogger(__name__)

NAME: Final = "issued"
REVOKED: Final = "revoked"
WRITE_S: Final = 5.0
MAX_LINES: Final = 10_000
_TRIES: Final = 8
_MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """
    The newest certificate of a line.

    Attributes:
        name: Of the line (`names.line_of`).
        root: SHA-256 of the root that it chains to.
    """

    name: str
    identity: str
    serial: str
    root: str
    issued_s: float
    not_after_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    lines: Mapping[str, Line]
    beyond: Mapping[str, float]

    def with_lines(self, more: Mapping[str, Line], now_s: float) -> _Known:
        lines = {name: one for name, one in self.lines.items() if one.not_after_s > now_s}
        for name, one in more.items():
            if name not in lines or lines[name].issued_s <= one.issued_s:
                lines[name] = one
        beyond = {root: until_s for root, until_s in self.beyond.items() if until_s > now_s}
        if len(lines) > MAX_LINES:
            last = sorted(lines.values(), key=lambda one: one.not_after_s)
            for one in last[: len(lines) - MAX_LINES]:
                beyond[one.root] = max(beyond.get(one.root, 0.0), one.not_after_s)
                del lines[one.name]
        return _Known(lines, beyond)


async def read(secrets: Secrets, now_s: float) -> tuple[tuple[Line, ...], Counter[str]]:
    """
    Lines whose certificate has not ended, and by root how many certificates that live chain to it.

    Raises:
        Unavailable: It cannot be known now.
    """
    known, _ = await _read(secrets)
    living = known.with_lines({}, now_s)
    live = Counter(one.root for one in living.lines.values())
    live.update(living.beyond.keys())
    return tuple(living.lines.values()), live


class IssuedRecord:
    """
    Args:
        secrets: Where it is kept.
        now_s: Since the Unix epoch.
    """

    def __init__(self, secrets: Secrets, now_s: Callable[[], float]) -> None:
        self._secrets = secrets
        self._now_s = now_s
        self._new: dict[str, Line] = {}
        self._has_new = asyncio.Event()
        self._revoked: Mapping[str, float] = {}

    def note(self, line: str, issued: Issued) -> None:
        """A certificate is being given out."""
        self._new[line] = Line(
            line, issued.identity, issued.serial, issued.root, self._now_s(), issued.not_after_s
        )  # fmt: skip
        self._has_new.set()

    async def run(self) -> None:
        """Write what is new; ends only by being cancelled."""
        while True:
            await self._has_new.wait()
            await asyncio.sleep(WRITE_S)
            with suppress(EngineError):
                await self.flush()

    async def flush(self) -> None:
        """Write what is new now. Raises Unavailable, and keeps it."""
        new, self._new = self._new, {}
        self._has_new.clear()
        if not new:
            return
        try:
            for _ in range(_TRIES):
                known, version = await _read(self._secrets)
                value = await asyncio.to_thread(_written, known.with_lines(new, self._now_s()))
                try:
                    await self._secrets.swap(NAME, value, version)
                    return
                except Conflict:
                    continue
            raise Unavailable(f"others changed what was issued {_TRIES} times while this was tried")
        except BaseException as error:
            self._new = new | self._new
            self._has_new.set()
            if isinstance(error, EngineError):
                logger.error(event("issued_not_written", waiting=len(self._new), error=error))
            raise

    async def is_revoked(self, line: str, begins_s: float) -> bool:
        """Whether what began then in this line may not be renewed; as known, while the engine is away."""
        with suppress(EngineError):
            self._revoked = await read_revoked(self._secrets)
        return begins_s <= self._revoked.get(line, -1.0)


async def read_revoked(secrets: Secrets) -> dict[str, float]:
    """Lines whose certificates are not renewed, if they began before then. Raises Unavailable."""
    found = await secrets.read(REVOKED)
    if found is None:
        return {}
    try:
        return decode(found.value).table("lines", 2 * MAX_LINES, Fields.number)
    except MessageError as error:
        raise Unavailable(f"the stored revocations cannot be read: {error}") from None


async def revoke(secrets: Secrets, line: str, now_s: float) -> None:
    """
    Certificates of this line that were issued until now are not renewed. Who has such a one keeps it until it ends.

    Raises:
        Unavailable: As the engine says.
    """
    for _ in range(_TRIES):
        found = await secrets.read(REVOKED)
        # What no certificate can be renewed for any more need not be remembered.
        known = {name: at_s for name, at_s in (await read_revoked(secrets)).items() if at_s + MAX_LEAF_AGE_S > now_s}
        if len(known) >= MAX_LINES:
            raise Unavailable(f"{len(known)} are revoked already: replace the authority, `sidecar mesh ca rotate`")
        try:
            value = encode({"lines": known | {line: now_s}})
            await secrets.swap(REVOKED, value, found.version if found is not None else "")
            return
        except Conflict:
            continue
    raise Unavailable(f"others changed the revocations {_TRIES} times while this was tried")


async def _read(secrets: Secrets) -> tuple[_Known, str]:
    found = await secrets.read(NAME)
    if found is None:
        return _Known({}, {}), ""
    try:
        return await asyncio.to_thread(_unpacked, found.value), found.version
    except (MessageError, zlib.error) as error:
        raise Unavailable(f"what was issued cannot be read: {error}") from None


def _unpacked(value: bytes) -> _Known:
    said = decode(zlib.decompressobj().decompress(value, _MAX_UNPACKED_BYTES))
    found = [
        Line(one.text("name"), one.text("identity", limit=4096), one.text("serial"), one.text("root"),
             one.number("issued"), one.number("ends"))
        for one in said.objects("lines", 2 * MAX_LINES)
    ]  # fmt: skip
    return _Known({one.name: one for one in found}, said.table("beyond", 1000, Fields.number))


def _written(known: _Known) -> bytes:
    lines = [
        {"name": one.name, "identity": one.identity, "serial": one.serial, "root": one.root, "issued": one.issued_s,
         "ends": one.not_after_s}
        for one in known.lines.values()
    ]  # fmt: skip
    return zlib.compress(encode({"lines": lines, "beyond": known.beyond}))
