"""
All objects of a kind with a label or a name, then every change of them. *A shell around `Track`, which is pure.*

    list      all at one moment, page by page                                              -> Snapshot
    watch     from the list's `resourceVersion`; each event                                -> Events
    ended     (limit of time, server gone, cut)  watch again from the last version: nothing is missed, nothing listed
    410       the version is forgotten, told as an answer or as an event: list again       -> Snapshot

A bookmark says how far the watch is, so that one of a quiet kind need not be listed again; its object is empty
otherwise. Nothing tells a watch that is quiet from one that is dead: the connection is probed (`client`), and a watch
that has not ended `GRACE_S` after the limit of time that it asked for is dropped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from sidecar.control.engines.interface import Trouble
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import ApiError, Kind, Object

PAGE: Final = 500
WATCH_S: Final = 120
"""Of a watch at least; a quarter more at most, so that a replica's watches do not end together."""
GRACE_S: Final = 10.0
QUIET_S: Final = 1.0
"""A watch that was taken and says nothing wrong for so long is well: what is forgotten is told at once."""
LEAST_PAUSE_S: Final = 0.1
MOST_PAUSE_S: Final = 3.0
MOST_OBEYED_S: Final = 60.0
_EVENTS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects at one moment."""

    found: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Events:
    """
    Changes since what was told before; of each object only the last one.

    Attributes:
        put: As they are now.
        deleted: As they were before: deleted, or without the label now.
    """

    put: tuple[Object, ...]
    deleted: tuple[Object, ...]


class ListAgain(Exception):  # noqa: N818 - no error: the order to do so
    """What lies between is not to be had."""


class Track:
    """
    What is known of the objects. *Pure.*

    Attributes:
        version: Up to which everything is known, opaque; empty: nothing is.
    """

    def __init__(self) -> None:
        self.version = ""
        self._known: dict[str, Object] = {}

    def listed(self, found: Iterable[Object], version: str) -> Snapshot:
        """Begin with this. Raises ApiError."""
        if not version:
            raise wire.unintelligible("a list without a resourceVersion")
        self._known = {wire.name_of(one): one for one in found}
        self.version = version
        return Snapshot(tuple(self._known.values()))

    def heard(self, events: Iterable[tuple[str, Object]]) -> Events | None:
        """
        Events of the watch, in order; None if they change nothing.

        Raises:
            ApiError: One of them is no event. None of them counts then, and all come again.
        """
        read = [(kind, wire.name_of(one), wire.version_of(one), one) for kind, one in events]
        for kind, _, version, _ in read:
            if kind not in _EVENTS:
                raise wire.unintelligible(f"an event {kind[:40]!r}")
            if not version:
                raise wire.unintelligible(f"an event {kind} without a resourceVersion")
        put: dict[str, Object] = {}
        deleted: dict[str, Object] = {}
        for kind, name, version, one in read:
            if kind == "DELETED":
                put.pop(name, None)
                before = self._known.pop(name, None)
                if before is not None:
                    deleted[name] = before
            elif kind != "BOOKMARK":
                deleted.pop(name, None)
                put[name] = self._known[name] = one
            self.version = version
        return Events(tuple(put.values()), tuple(deleted.values())) if put or deleted else None

    def forget(self) -> None:
        """The next thing is to list."""
        self.version = ""


class Changes:
    """
    Args:
        client: Asks.
        kind: Of the objects.
        namespace: In which they are; empty for ours.
        labels: Selector of labels; empty for none.
        name: Of the only one; empty for all.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace or client.namespace
        self._labels = labels
        self._fields = f"metadata.name={name}" if name else ""
        self._clock = clock

    async def follow(self) -> AsyncGenerator[Snapshot | Events | Trouble, None]:
        """A snapshot, then what comes; never ends, and raises nothing."""
        track = Track()
        troubles: set[str] = set()
        failures = 0
        while True:
            asked_s = 0.0
            try:
                if not track.version:
                    found, version = await self._client.list(
                        self._kind, namespace=self._namespace, labels=self._labels, fields=self._fields, page=PAGE
                    )
                    yield track.listed(found, version)
                async with aclosing(self._watch(track)) as watch:
                    async for events in watch:
                        failures = 0
                        if troubles:
                            troubles.clear()
                            yield Trouble("")
                        if events is not None:
                            yield events
            except ListAgain:
                track.forget()
            except ApiError as error:
                asked_s = min(error.retry_after_s, MOST_OBEYED_S)
                # Servers behind one address say it differently, one after the other and again: each of it once.
                if error.text not in troubles:
                    troubles.add(error.text)
                    yield Trouble(f"{self._what()}: {error}")
            pause_s = min(MOST_PAUSE_S, LEAST_PAUSE_S * 2.0 ** min(failures, 8))
            failures += 1
            await asyncio.sleep(asked_s + pause_s * (0.5 + random.random() / 2))

    async def _watch(self, track: Track) -> AsyncGenerator[Events | None, None]:
        """Changes, and None when it is well, until it ends. Raises ListAgain, ApiError."""
        limit_s = WATCH_S + random.randrange(max(1, WATCH_S // 4))
        query: Mapping[str, str] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": track.version,
            "timeoutSeconds": str(limit_s),
        }
        query = dict(query) | ({"labelSelector": self._labels} if self._labels else {})
        query |= {"fieldSelector": self._fields} if self._fields else {}
        try:
            stream = await self._client.open_watch(self._kind.path(self._namespace), query)
        except ApiError as error:
            raise _over(error) from None
        dead_s = self._clock() + limit_s + GRACE_S
        wait_s = QUIET_S
        try:
            while True:
                try:
                    events = await stream.read(wait_s)
                    if events is None:
                        return
                    change = track.heard(events)
                except ApiError as error:
                    raise _over(error) from None
                if change is not None or wait_s == QUIET_S:
                    yield change
                wait_s = dead_s - self._clock()
                if wait_s <= 0:
                    raise ApiError("a watch did not end in time, and says nothing")
        finally:
            stream.close()

    def _what(self) -> str:
        chosen = " ".join(filter(None, (self._labels, self._fields)))
        return f"{self._kind.plural} of {self._namespace} ({chosen})"


def _over(error: ApiError) -> ApiError | ListAgain:
    return ListAgain(error.text) if error.is_too_old else error
