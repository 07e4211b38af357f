"""
What is known of every source of endpoints, and who wants to know. *Cold.*

Silence changes nothing: what a source said last holds until it says something else. A source that was never heard of
has no endpoints, which is told apart from having said that there are none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from aiofiles.os import wrap

from sidecar.files import Fingerprint, is_settled, look
from sidecar.upstream.discovery.endpoint_file import EndpointFileError, parse_endpoints, read_endpoints
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source

logger = logging.getLogger("sidecar.upstream")

PERIOD_S: Final = 1.0
"""Between two looks at a file."""

_look = wrap(look)
_read = wrap(read_endpoints)
_parse = wrap(parse_endpoints)


class Follower(Protocol):
    """Who wants to know of a source."""

    def on_endpoints(self, found: EndpointSet) -> None:
        """These are its endpoints from now on; the same again if it had failed meanwhile."""

    def on_failure(self, error: str) -> None:
        """It could not say; what it said before holds."""


class _Known:
    """One source."""

    __slots__ = ("endpoints", "first", "followers", "is_failing", "task")

    def __init__(self) -> None:
        self.endpoints: EndpointSet | None = None
        self.first = asyncio.Event()
        self.followers: list[Follower] = []
        self.is_failing = False
        self.task: asyncio.Task[None] | None = None


class Discovery:
    """
    All sources of one event loop. Those of names are told by `tell`; files are read while somebody follows them.

    Args:
        now_ns: Time since the Unix epoch, as files have it.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._sources: dict[Source, _Known] = {}
        self._told: dict[Source, EndpointSet] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Discovery [Followed: {len(self._sources)} | Told: {len(self._told)}]>"

    def follow(self, source: Source, follower: Follower) -> None:
        """Tell `follower` of every change from now on; what is known already is what `known` says."""
        self._of(source).followers.append(follower)

    def drop(self, source: Source, follower: Follower) -> None:
        """End what `follow` began; of a file that nobody follows nothing is kept."""
        known = self._sources[source]
        known.followers.remove(follower)
        self._let_go(source, known)

    def known(self, source: Source) -> EndpointSet | None:
        """What it said last; None if it was never heard of."""
        known = self._sources.get(source)
        return known.endpoints if known is not None else self._told.get(source)

    async def first(self, source: Source, timeout_s: float) -> EndpointSet | None:
        """What it says, waiting if it was never heard of; None if it says nothing within so many seconds."""
        known = self._of(source)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await known.first.wait()
            return known.endpoints
        finally:
            if self._sources.get(source) is known:
                self._let_go(source, known)

    def tell(self, source: Source, found: EndpointSet) -> None:
        """It has said so; heard of before anybody follows it, it is remembered."""
        if source.kind == "name":
            self._told[source] = found
        known = self._sources.get(source)
        if known is None or (known.endpoints == found and not known.is_failing):
            return
        known.endpoints, known.is_failing = found, False
        known.first.set()
        for follower in tuple(known.followers):
            follower.on_endpoints(found)

    def fail(self, source: Source, error: str) -> None:
        """It could not say."""
        known = self._sources.get(source)
        if known is not None:
            known.is_failing = True
            for follower in tuple(known.followers):
                follower.on_failure(error)

    def close(self) -> None:
        """Follow nothing any more."""
        for source, known in tuple(self._sources.items()):
            known.followers.clear()
            self._let_go(source, known)

    async def wait_closed(self) -> None:
        """Wait until nothing is under way."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _of(self, source: Source) -> _Known:
        known = self._sources.get(source)
        if known is None:
            known = self._sources[source] = _Known()
            known.endpoints = self._told.get(source)
            if known.endpoints is not None:
                known.first.set()
            if source.kind == "file":
                known.task = asyncio.create_task(self._follow_file(source), name=f"endpoints {source.name}")
        return known

    def _let_go(self, source: Source, known: _Known) -> None:
        # A preparation asks before it follows: what it has read stays for a moment, for who follows next.
        if known.followers:
            return
        if known.task is not None:
            known.task.cancel()
            self._ending.add(known.task)
            known.task.add_done_callback(self._ending.discard)
        del self._sources[source]

    async def _follow_file(self, source: Source) -> None:
        file = _File(source.name, self._now_ns)
        has_failed = False
        while True:
            try:
                found = await file.changed()
            except Exception as error:  # whatever it is, the next look may be better
                file.forget()
                # A file that is being written is seen half-written, and one that is being replaced not at all.
                if has_failed or self.known(source) is None:
                    self.fail(source, _said(error))
                has_failed = True
            else:
                has_failed = False
                if found is not None:
                    self.tell(source, found)
            await asyncio.sleep(PERIOD_S)


class _File:
    """A file between two looks."""

    __slots__ = ("_digest", "_now_ns", "_path", "_seen")

    def __init__(self, path: str, now_ns: Callable[[], int]) -> None:
        self._path = path
        self._now_ns = now_ns
        self._seen: Fingerprint | None = None
        self._digest = b""

    async def changed(self) -> EndpointSet | None:
        """
        Its endpoints, if it is another than at the last look; else None.

        Raises:
            OSError, ValueError: It cannot be read.
            EndpointFileError: It cannot be understood.
        """
        before, is_regular = await _look(self._path)
        if not is_regular:
            raise EndpointFileError("it is no regular file")
        if before == self._seen:
            return None
        raw = await _read(self._path)
        after, _ = await _look(self._path)
        self._seen = after if after == before and is_settled(after, self._now_ns()) else None
        digest = hashlib.sha256(raw).digest()
        if digest == self._digest:
            return None
        found: EndpointSet = await _parse(raw)
        self._digest = digest
        return found

    def forget(self) -> None:
        """Read it again at the next look, whatever it is."""
        self._seen, self._digest = None, b""


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
