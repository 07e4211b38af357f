"""
The engine `files`: the mesh is a directory; all else is in memory, with a copy on disk if there is a folder for it.

    STATE/lock                  held while it runs
    STATE/record.json           the rollout record
    STATE/files/HASH            compiled files that the record names
    STATE/registrations.json    who is registered, written at most once a second
    STATE/secrets/NAME          what the authority keeps, for the owner alone

One replica: what others would say is what it said itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from sidecar.control.engines.directory import Directory, Read
from sidecar.control.engines.disk import lock, read_whole, set_aside, write_whole
from sidecar.control.engines.interface import (
    Conflict,
    Discoverer,
    Gone,
    Registration,
    RegistrationChange,
    Replica,
    Secrets,
    Trouble,
    Unavailable,
    Unwritten,
    Versioned,
)
from sidecar.control.engines.registration_text import read_registration, registration_values
from sidecar.control.engines.secrets.disk import DiskSecrets, MemorySecrets
from sidecar.link.fields import MessageError, decode
from sidecar.process_log import event

logger = logging.getLogger(__name__)

WRITE_PERIOD_S: Final = 1.0
LOOK_PERIOD_S: Final = 5.0
"""How often the record is looked for on the disk."""
_MAX_REGISTRATIONS: Final = 100_000


class FilesEngine:
    """
    Args:
        mesh: Path of the mesh's directory or file.
        read: Reads it.
        state: Folder for what outlives this process; None keeps it in memory only.
        name: Of this replica.
    """

    name = "files"

    def __init__(self, mesh: str, read: Read, state: str | None) -> None:
        folder = Path(state) if state is not None else None
        self.mesh = Directory(mesh, read)
        self.files = _Files(folder / "files" if folder is not None else None)
        self.registrations = _Registrations(folder / "registrations.json" if folder is not None else None)
        self.record = _Record(folder / "record.json" if folder is not None else None)
        self.secrets: Secrets = DiskSecrets(folder / "secrets") if folder is not None else MemorySecrets()
        self.accounts = None
        self.mover = _OnlyMover()
        self.replicas = _OnlyReplica()
        self.discoverers: Mapping[str, Discoverer] = {}
        self._folder = folder
        self._lock: int | None = None

    async def open(self) -> None:
        """Take the folder and read what is in it."""
        if self._folder is None:
            return
        self._lock = await asyncio.to_thread(lock, self._folder)
        await self.files.open()
        await self.registrations.open()
        await self.record.open()

    async def close(self) -> None:
        """Write what is not written yet."""
        await self.registrations.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def _write(path: Path, content: bytes) -> None:
    try:
        await asyncio.to_thread(write_whole, path, content)
    except OSError as error:
        raise Unavailable(f"{path}: {(error.strerror or str(error)).lower()}") from None


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


class _Files:
    """Compiled files by hash: on disk if there is a folder, for they are many and seldom needed; else in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}

    async def open(self) -> None:
        assert self._folder is not None
        await asyncio.to_thread(self._folder.mkdir, exist_ok=True)

    async def keep(self, files: Mapping[str, bytes]) -> None:
        """Store each, unless it is there."""
        if self._folder is None:
            self._memory |= {key: files[key] for key in files.keys() - self._memory.keys()}
            return
        there = await asyncio.to_thread(self._names)
        for key in files:
            if _plain(key) not in there:
                await _write(self._folder / _plain(key), files[key])

    async def fetch(self, key: str) -> bytes | None:
        """One of them."""
        if self._folder is None:
            return self._memory.get(key)
        try:
            return await asyncio.to_thread(read_whole, self._folder / _plain(key))
        except OSError as error:
            raise Unavailable(f"{self._folder / key}: {(error.strerror or str(error)).lower()}") from None

    async def retain(self, keys: Collection[str]) -> None:
        """Forget all others."""
        wanted = {_plain(key) for key in keys}
        if self._folder is None:
            self._memory = {key: content for key, content in self._memory.items() if key in wanted}
            return
        try:
            await asyncio.to_thread(self._remove_others, wanted)
        except OSError as error:
            raise Unavailable(f"{self._folder}: {(error.strerror or str(error)).lower()}") from None

    def _names(self) -> set[str]:
        assert self._folder is not None
        try:
            return {path.name for path in self._folder.iterdir()}
        except OSError:
            return set()  # writing says what is wrong

    def _remove_others(self, wanted: Collection[str]) -> None:
        assert self._folder is not None
        for path in self._folder.iterdir():
            if path.name not in wanted:
                with suppress(OSError):
                    path.unlink()


def _plain(key: str) -> str:
    """A hash as the name of a file; what is none is hashed, for it came from outside."""
    return key if key.isalnum() and key.isascii() and len(key) <= 64 else hashlib.sha256(key.encode()).hexdigest()


class _Registrations:
    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._has_copy = False
        self._known: dict[str, Registration] = {}
        self._writing: asyncio.Task[None] | None = None
        self._changed: set[str] = set()
        self._in_hand: set[str] = set()
        self._failed: tuple[str, float] | None = None
        self._closing = asyncio.Event()

    @property
    def unwritten(self) -> Unwritten | None:
        """What the copy on disk lacks since it could not be written."""
        if self._failed is None:
            return None
        return Unwritten(len(self._changed | self._in_hand), *self._failed)

    async def open(self) -> None:
        assert self._path is not None
        try:
            raw = await asyncio.to_thread(read_whole, self._path)
        except OSError as error:
            raise Unavailable(f"{self._path}: {(error.strerror or str(error)).lower()}") from None
        if raw is None:
            return
        try:
            found = [read_registration(one) for one in decode(raw).objects("registrations", _MAX_REGISTRATIONS)]
        except MessageError as error:
            aside = await asyncio.to_thread(set_aside, self._path)
            logger.error(event("registrations_damaged", file=self._path, error=error, set_aside=aside))
            return
        self._known = {one.instance: one for one in found}
        self._has_copy = True

    async def put(self, registration: Registration) -> None:
        """Remember it; the copy on disk follows within a second."""
        if self._known.get(registration.instance) != registration:
            self._known[registration.instance] = registration
            self._change(registration.instance)

    async def remove(self, instance: str) -> None:
        """Forget it."""
        if self._known.pop(instance, None) is not None:
            self._change(instance)

    async def watch(self) -> AsyncIterator[RegistrationChange | Trouble]:
        """What was on disk at the start, if anything was: after that nobody else changes anything."""
        if self._has_copy:
            yield RegistrationChange(tuple(self._known.values()), is_snapshot=True)
        await _forever()

    async def close(self) -> None:
        """Write the last of it, after what is being written: a thread is not cancelled with who waits for it."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        if self._changed:
            await self._write()

    def _change(self, instance: str) -> None:
        self._changed.add(instance)
        if self._path is not None and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        while self._changed and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_PERIOD_S):
                    await self._closing.wait()
            await self._write()

    async def _write(self) -> None:
        if self._path is None:
            return
        self._in_hand, self._changed = self._changed, set()
        known = list(self._known.values())
        try:
            await asyncio.to_thread(_write_registrations, self._path, known)
        except OSError as error:
            # The copy is for a restart: what runs goes on, and it is tried again until there is room.
            self._changed |= self._in_hand
            why = f"{self._path}: {(error.strerror or str(error)).lower()}"
            if self._failed is None or self._failed[0] != why:
                logger.error(event("registrations_not_written", waiting=len(self._changed), error=why))
            self._failed = (why, self._failed[1] if self._failed is not None else time.time())
            return
        finally:
            self._in_hand = set()
        if self._failed is not None:
            self._failed = None
            logger.info(event("registrations_written", file=self._path))


def _write_registrations(path: Path, known: Collection[Registration]) -> None:
    # A line each, for people; by lines, for an indented document is written by Python and takes ten times as long.
    lines = ",\n".join(json.dumps(registration_values(one)) for one in known)
    write_whole(path, f'{{"written": {time.time()}, "registrations": [\n{lines}\n]}}\n'.encode())


class _Record:
    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: Versioned | None = None
        self._number = 0
        self._one_at_a_time = asyncio.Lock()
        self._has_changed = asyncio.Event()

    async def open(self) -> None:
        assert self._path is not None
        try:
            raw = await asyncio.to_thread(read_whole, self._path)
        except OSError as error:
            raise Unavailable(f"{self._path}: {(error.strerror or str(error)).lower()}") from None
        if raw is not None:
            self._known = Versioned(raw, "0")

    async def read(self) -> Versioned | None:
        """As it was written last."""
        return self._known

    async def swap(self, value: bytes, expected: str) -> str:
        """On disk first."""
        async with self._one_at_a_time:
            found = self._known.version if self._known is not None else ""
            if found != expected:
                raise Conflict(f"expected version {expected or 'none'}, found {found or 'none'}")
            if self._path is not None:
                await _write(self._path, value)
            self._number += 1
            self._known = Versioned(value, str(self._number))
            self._has_changed.set()
            return self._known.version

    async def watch(self) -> AsyncIterator[Versioned | Gone | Trouble]:
        """Every version that is not overtaken by the next before it could be told; that somebody deleted the file."""
        told = None
        while True:
            self._has_changed.clear()
            if self._known is not None and self._known is not told:
                told = self._known
                yield told
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_PERIOD_S if self._path is not None else None):
                    await self._has_changed.wait()
            if await self._is_gone():
                told = None
                yield Gone()

    async def _is_gone(self) -> bool:
        async with self._one_at_a_time:
            if self._path is None or self._known is None or await asyncio.to_thread(self._path.exists):
                return False
            self._known = None
            return True


class _OnlyMover:
    is_ours = True

    async def campaign(self) -> None:
        """There is nobody else."""
        await _forever()


class _OnlyReplica:
    def __init__(self) -> None:
        self._self: tuple[Replica, ...] = ()

    async def announce(self, replica: Replica) -> None:
        """To itself."""
        self._self = (replica,)

    async def list(self) -> tuple[Replica, ...]:
        """Itself."""
        return self._self

    async def leave(self, name: str) -> None:
        """It was alone."""
        self._self = ()
