"""
Files that are followed: the configuration, and the secrets that it names. *Cold.*

What `stat` says is all that is asked between changes (`files`). Looking blocks, and may hang with its mount, so that it
is done by aiofiles, on threads.

A file that is being written is seen half-written. So a change counts when two looks in a row, `POLL_PERIOD_S` apart,
find the same content: of all files together, which may belong together.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiofiles
from aiofiles.os import wrap

from sidecar.config.source import MAX_FILE_BYTES
from sidecar.files import Fingerprint, is_settled, look
from sidecar.process_log import event

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 64 * 1024
"""At a time; hashing so much takes some 0.1 ms of the loop."""

Contents = Mapping[str, str]
"""SHA-256 of files, by path, in hexadecimal; empty where a file could not be read."""


class FileWatch:
    """
    Args:
        path: Of the configuration.
        now_ns: Time since the Unix epoch, as files have it.

    Attributes:
        known: What the last load read.
    """

    def __init__(self, path: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.known: dict[str, str] = {path: ""}
        self._path = path
        self._now_ns = now_ns
        self._trusted: dict[str, tuple[Fingerprint, str]] = {}
        self._previous: dict[str, str] | None = None
        self._is_irregular = False

    def accept(self, contents: Contents) -> None:
        """A load has read these, for whatever reason: they are what is followed, and a change is another content."""
        self.known = dict(contents)
        self._trusted = {path: seen for path, seen in self._trusted.items() if path in self.known}
        self._previous = None

    async def changed(self) -> dict[str, str] | None:
        """
        What there is now, if it is not what was read, and two looks in a row have found it; else None.

        A file that is absent or cannot be read is no change: it is half-way through being replaced, or a mistake that
        the next load will tell. One that could not be read before and now can is.
        """
        found: dict[str, str] = {}
        for path, before in tuple(self.known.items()):
            content = await self._content(path)
            found[path] = before if content is None else content
        is_settled, self._previous = found == self._previous, found
        return found if is_settled and found != self.known else None

    async def _content(self, path: str) -> str | None:
        """The digest; None if there is none now."""
        try:
            before, is_regular = await _look(path)
            if not is_regular:
                self._tell_irregular(path)
                return None
            trusted = self._trusted.get(path)
            if trusted is not None and trusted[0] == before:
                return trusted[1]
            digest_hex = await _digest(path)
            after, _ = await _look(path)
        except (OSError, ValueError):
            self._trusted.pop(path, None)
            return None
        # A write within the granularity of time stamps after this look would not be seen by the next: read it again.
        if after == before and is_settled(after, self._now_ns()):
            self._trusted[path] = after, digest_hex
        else:
            self._trusted.pop(path, None)
        return digest_hex

    def _tell_irregular(self, path: str) -> None:
        if path == self._path and not self._is_irregular:
            self._is_irregular = True
            logger.warning(event("config_not_followed", file=path, reason="it is no regular file"))


_look = wrap(look)


async def _digest(path: str) -> str:
    digest = hashlib.sha256()
    left = MAX_FILE_BYTES + 1
    async with aiofiles.open(path, "rb", opener=_open) as file:
        while left and (piece := await file.read(min(left, _READ_BYTES))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO that has come since is not waited for
