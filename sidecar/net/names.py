"""
Names that are connected to: known ones at once, unknown ones without harm to the others. *Cold.*

    kept      the configuration's, in `endpoints`: asked for again every few seconds, as those of `dns` are, and the
              last answer holds as long as they are kept, whatever becomes of the name servers
    seen      all others, which clients name: asked for when one is needed and the last answer is not fresh
    unknown   those of either that never had an answer

A lookup holds a thread for as long as the resolver wants, and which names never get an answer may be the client's
choice. So unknown names have threads of their own; a name holds one at most, however many wait for it; and there is a
number of names above which another is refused at once. Names that have had an answer use other threads, wait for a new
one only for a moment, and go on with the last.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from random import random as system_random
from typing import Final, TypeVar

from sidecar.net.address import MAX_HOST_BYTES
from sidecar.net.resolve import ResolveError, Resolver, SystemLookup, Watcher, refresh_forever

T = TypeVar("T")

FRESH_S: Final = 5.0
"""Seconds for which the answer for a name that is not kept is used without asking: as `REFRESH_PERIOD_S`."""

UNKNOWN_THREADS: Final = 32
"""Unknown names whose lookups may hang at once before further unknown ones have to wait."""

MAX_UNKNOWN: Final = 256
"""Unknown names that are looked up or wait for it at once; another is refused."""

MAX_SEEN: Final = 1024
"""Names that are remembered without being kept: as many as `upstream.passthrough` has endpoints."""


class _Name:
    """What is known of one name."""

    __slots__ = ("answered_at", "hosts", "lookup", "refreshing", "watchers")

    def __init__(self) -> None:
        self.hosts: tuple[str, ...] = ()
        self.answered_at = 0.0
        self.lookup: asyncio.Task[tuple[str, ...]] | None = None
        self.watchers: list[Watcher] = []
        self.refreshing: asyncio.Task[None] | None = None

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """Remember it and pass it on."""
        self.hosts = hosts
        self.answered_at = asyncio.get_running_loop().time()
        for watcher in self.watchers:
            watcher.on_answer(hosts)

    def on_failure(self, error: str) -> None:
        """What was known still holds."""
        for watcher in self.watchers:
            watcher.on_failure(error)


class Names:
    """
    The names of one event loop.

    Args:
        known: Answers for names that are kept or have had an answer; default: the system's resolver.
        unknown: Answers for all others; default: the same, on other threads and with a limit.
        chance: From 0 to 1, for the jitter of refreshes.
    """

    def __init__(
        self,
        known: Resolver | None = None,
        unknown: Resolver | None = None,
        chance: Callable[[], float] = system_random,
    ) -> None:
        # Every address is tried, so that those which this host cannot reach cost nothing and may be all there is.
        self._known = known or Resolver(SystemLookup(flags=0), keeps_order=True)
        self._unknown = unknown or Resolver(
            SystemLookup(UNKNOWN_THREADS, max_names=MAX_UNKNOWN, flags=0), keeps_order=True
        )
        self._chance = chance
        self._kept: dict[str, _Name] = {}
        self._seen: OrderedDict[str, _Name] = OrderedDict()
        self._tasks: set[asyncio.Task[object]] = set()

    def __repr__(self) -> str:
        return f"<Names [Kept: {len(self._kept)} | Seen: {len(self._seen)} of {MAX_SEEN}]>"

    async def addresses(self, name: str, patience_s: float) -> tuple[str, ...]:
        """
        The addresses of a name, in the order in which they should be tried.

        The caller sets the deadline; a lookup goes on without it, for the next who asks.

        Args:
            patience_s: Seconds that a new answer is waited for if there is an older one.

        Raises:
            ResolveError: There is no answer and never was one.
        """
        if len(name) > MAX_HOST_BYTES:
            raise ResolveError(f"a name of {len(name)} characters")
        entry = self._kept.get(name)
        if entry is None:
            entry = self._look_at(name)
            is_fresh = asyncio.get_running_loop().time() - entry.answered_at < FRESH_S
        else:
            is_fresh = True
        if entry.hosts and is_fresh:
            return entry.hosts
        lookup = entry.lookup
        if lookup is None:
            is_known = bool(entry.hosts or entry.watchers)
            lookup = entry.lookup = self._spawn(self._look_up(entry, name, self._known if is_known else self._unknown))
        if entry.hosts:
            await asyncio.wait((lookup,), timeout=patience_s)
            return entry.hosts
        return await asyncio.shield(lookup)

    def keep(self, name: str, watcher: Watcher) -> None:
        """Ask for a name from now on, every few seconds, and tell of each result."""
        entry = self._kept.get(name)
        if entry is None:
            entry = self._kept[name] = self._seen.pop(name) if name in self._seen else _Name()
        entry.watchers.append(watcher)
        if entry.refreshing is None:
            entry.refreshing = self._spawn(self._refresh(entry, name))

    def drop(self, name: str, watcher: Watcher) -> None:
        """End what `keep` began; the name is asked for as long as others keep it."""
        entry = self._kept[name]
        entry.watchers.remove(watcher)
        if not entry.watchers:
            del self._kept[name]
            if entry.refreshing is not None:
                entry.refreshing.cancel()
                entry.refreshing = None

    def close(self) -> None:
        """End everything; lookups that hang do not hold up the process."""
        for task in self._tasks:
            task.cancel()
        self._known.close()
        self._unknown.close()

    async def wait_closed(self) -> None:
        """After `close`: until every task is over; waits for no lookup."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look_at(self, name: str) -> _Name:
        """The entry of a name that is not kept, as the one used last."""
        entry = self._seen.get(name)
        if entry is None:
            entry = self._seen[name] = _Name()
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(name)
        return entry

    async def _look_up(self, entry: _Name, name: str, resolver: Resolver) -> tuple[str, ...]:
        try:
            hosts = await resolver.resolve(name)
        except ResolveError as error:
            entry.on_failure(str(error))
            raise
        finally:
            entry.lookup = None
        entry.on_answer(hosts)
        return hosts

    async def _refresh(self, entry: _Name, name: str) -> None:
        if not entry.hosts:
            try:
                entry.on_answer(await self._known.resolve(name))
            except ResolveError as error:
                entry.on_failure(str(error))
        await refresh_forever(self._known, name, entry, has_answer=bool(entry.hosts), chance=self._chance)

    def _spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever waited was told; where nobody did, nobody needs to be.
