"""
Secrets in a folder, a file each, for the owner alone; or in memory. *Cold.*

Commands change them beside a control plane that runs: who swaps one holds the folder's own lock, and a value's version
is its hash, so that nobody need be told of a change.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.control.engines.disk import read_whole, write_whole
from sidecar.control.engines.interface import Conflict, Unavailable, Versioned


class DiskSecrets:
    """
    `Secrets`.

    Args:
        folder: Made when something is written first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, name: str) -> Versioned | None:
        """As the file has it: it is replaced whole."""
        try:
            return _versioned(await asyncio.to_thread(read_whole, self._folder / name))
        except OSError as error:
            raise _unavailable(self._folder / name, error) from None

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        """Under the lock of the folder."""
        return await asyncio.to_thread(self._swap, name, value, expected)

    def _swap(self, name: str, value: bytes, expected: str) -> str:
        path = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._folder / ".lock"):
                _expect(_versioned(read_whole(path)), expected)
                write_whole(path, value)
        except OSError as error:
            raise _unavailable(path, error) from None
        return _version(value)


class MemorySecrets:
    """`Secrets` that end with the process."""

    def __init__(self) -> None:
        self._known: dict[str, Versioned] = {}

    async def read(self, name: str) -> Versioned | None:
        """As it was written last."""
        return self._known.get(name)

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        """Nobody else writes."""
        _expect(self._known.get(name), expected)
        self._known[name] = Versioned(value, _version(value))
        return self._known[name].version


def _version(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _versioned(value: bytes | None) -> Versioned | None:
    return Versioned(value, _version(value)) if value is not None else None


def _expect(found: Versioned | None, expected: str) -> None:
    if (found.version if found is not None else "") != expected:
        raise Conflict("expected none, found one" if not expected else "expected another version than was found")


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path}: {(error.strerror or str(error)).lower()}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Others hold it for one write, a few milliseconds.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
