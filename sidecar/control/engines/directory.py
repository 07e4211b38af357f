"""
The mesh's files in a directory, or one file, that is followed. *Cold.*

As the sidecar follows its own file (`loader.file_watch`): nothing relies on file events, so a rewrite, a rename over it
and the swap of links by which Kubernetes updates a ConfigMap are all seen, on any file system. A change counts when two
looks in a row, `PERIOD_S` apart, find the same content in all files together. What `stat` says is all that is asked
between changes. Looking blocks, and may hang with its mount, so that it is done in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from sidecar.config.source import SourceError
from sidecar.control.engines.interface import Content, Trouble, Unsupported
from sidecar.files import Fingerprint, fingerprint, is_settled, look

PERIOD_S: Final = 0.25

Read = Callable[[str], Mapping[str, bytes]]
"""All files below a path by name; raises `SourceError`."""


def content_version(files: Mapping[str, bytes]) -> str:
    """Of these files with these names."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)}:{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


class _Look:
    """What one look found."""

    __slots__ = ("error", "files", "seen", "version")

    def __init__(self, seen: tuple[Fingerprint, ...], files: Mapping[str, bytes] | None, error: str) -> None:
        self.seen = seen
        self.files = files
        self.version = content_version(files) if files is not None else ""
        self.error = error


class Directory:
    """
    A `MeshSource`.

    Args:
        path: Of a directory or a file.
        read: Reads it.
        now_ns: Time since the Unix epoch, as files have it.
    """

    def __init__(self, path: str, read: Read, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._read = read
        self._now_ns = now_ns

    async def follow(self) -> AsyncIterator[Content | Trouble]:
        """The content of now, then each that two looks in a row have found."""
        known = previous = error = ""
        trusted: tuple[Fingerprint, ...] | None = None
        is_first = True
        while True:
            found = await asyncio.to_thread(self._look, trusted)
            if found is None:
                previous = known
                if error:
                    error = ""
                    yield Trouble("")
            elif found.error:
                # What is being replaced is away for a moment: told when a second look finds the same.
                if found.error == previous and found.error != error:
                    error = found.error
                    yield Trouble(error)
                previous, trusted = found.error, None
            else:
                if error:
                    error = ""
                    yield Trouble("")
                assert found.files is not None
                is_new = found.version != known and (is_first or found.version == previous)
                if is_new:
                    known, is_first = found.version, False
                    yield Content(found.files, found.version)
                previous = found.version
                # A write within the granularity of time stamps would not be seen by the next look: read it again.
                can_trust = known == found.version and all(is_settled(one, self._now_ns()) for one in found.seen)
                trusted = found.seen if can_trust else None
            await asyncio.sleep(PERIOD_S)

    async def is_wanted(self, version: str) -> bool:
        """There is no other replica that could have been faster; what has changed since is told next."""
        return True

    async def push(self, files: Mapping[str, bytes], expected: str) -> str:
        """Not here."""
        raise Unsupported(f"the mesh is the directory {self._path}: edit it there, a change of it is the push")

    def _look(self, trusted: tuple[Fingerprint, ...] | None) -> _Look | None:
        """None if nothing changed since what is trusted."""
        try:
            before = _fingerprints(self._path)
            if before == trusted:
                return None
            files = self._read(self._path)
            if _fingerprints(self._path) != before:
                return _Look((), None, "it is being written")
        except SourceError as error:
            return _Look((), None, str(error))
        except (OSError, ValueError) as error:
            return _Look((), None, f"{self._path}: {(getattr(error, 'strerror', None) or str(error)).lower()}")
        return _Look(before, files, "")


def _fingerprints(path: str) -> tuple[Fingerprint, ...]:
    """Of everything below the path that is not hidden; which of it is the mesh's the reader knows."""
    if not os.path.isdir(path):
        return (look(path)[0],)
    # Links are resolved once for the folder, and for an entry only where it is one: this is done four times a second.
    found: list[Fingerprint] = []
    waiting = [os.path.realpath(path)]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            here = sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
        for entry in here:
            if entry.is_dir():
                if not entry.is_symlink():
                    waiting.append(entry.path)
            elif entry.is_symlink():
                found.append(look(entry.path)[0])
            else:
                found.append(fingerprint(entry.path, entry.stat()))
    return tuple(found)
