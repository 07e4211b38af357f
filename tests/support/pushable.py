"""A mesh's source that takes pushes, in memory: as an engine that stores has it, without its store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from sidecar.control.engines.interface import Conflict, Content, EngineError, Trouble


class Pushable:
    """
    A `MeshSource`.

    Attributes:
        number: Of pushes; the version is its text, as etcd's is that of a revision.
        fails: What the next push ends with instead.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.number = 1
        self.fails: EngineError | None = None
        self.is_quiet = False
        self._has_changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[Content | Trouble]:
        """What there is, then each push, unless it is quiet."""
        told = 0
        while True:
            self._has_changed.clear()
            if told != self.number and not self.is_quiet:
                told = self.number
                yield Content(self.files, str(told))
                continue
            await self._has_changed.wait()

    async def is_wanted(self, version: str) -> bool:
        """Whether it is the last."""
        return version == str(self.number)

    async def push(self, files: Mapping[str, bytes], expected: str) -> str:
        """By compare-and-swap."""
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        if expected != str(self.number):
            raise Conflict(f"expected version {expected or 'none'}, found {self.number}")
        self.files, self.number = dict(files), self.number + 1
        self._has_changed.set()
        return str(self.number)

    def speak(self) -> None:
        """Tell what was not told."""
        self.is_quiet = False
        self._has_changed.set()
