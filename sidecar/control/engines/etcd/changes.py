"""
All keys of a prefix, then every change of them, whatever happens to etcd. *A shell around `Track`, which is pure.*

    list      every key at one revision                                           -> Snapshot
    watch     from the revision after it; each message                            -> Events
    ended     (leader lost, member gone, cut)  watch again from where it ended; nothing is missed, a deletion stays one
    compacted, or another store (restored)     list again                         -> Snapshot

A watch that is well and one whose member lost the cluster look the same: nothing comes. So the watch asks for a leader
(`client`), and every `CHECK_S` a linearizable read, which only a member with quorum answers, says what the newest
revision and the number of keys are. Where the watch has not brought that a second later, it is dropped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import EtcdError, KeyValue
from sidecar.control.engines.interface import Trouble

CHECK_S: Final = 10.0
SECOND_LOOK_S: Final = 1.0
PAGE: Final = 500
LEAST_PAUSE_S: Final = 0.1
MOST_PAUSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys at one revision."""

    found: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Events:
    """
    Changes since what was told before; of each key only the last one.

    Attributes:
        put: As they are now.
        deleted: As they were before.
        at_once: Keys of those that were deleted by one operation with others of them: no control plane does that.
    """

    put: tuple[KeyValue, ...]
    deleted: tuple[KeyValue, ...]
    at_once: frozenset[bytes] = frozenset()


class ListAgain(Exception):  # noqa: N818 - no error: the order to do so
    """What lies between is not to be had: compacted, or of another store."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read said of the store: its identity and revision, the newest revision of our keys, and their number."""

    cluster: int
    store: int
    newest: int
    count: int


class Track:
    """
    What is known of the keys, and whether that can be all. *Pure.*

    Attributes:
        revision: Up to which everything is known; 0: nothing is.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._cluster = 0
        self._known: dict[bytes, KeyValue] = {}
        self._doubt: tuple[Seen, int] | None = None
        self._deaf = 0

    def listed(self, found: list[KeyValue], revision: int, cluster: int) -> Snapshot:
        """Begin with this."""
        self._known = {one.key: one for one in found}
        self.revision, self._cluster, self._doubt = revision, cluster, None
        return Snapshot(tuple(found))

    def forget(self) -> None:
        """The next thing is to list."""
        self.revision, self._doubt = 0, None

    def opened(self) -> None:
        """A watch begins: what the one before it did not bring says nothing of it."""
        self._doubt = None

    def heard(self, message: Mapping[str, Any]) -> Events | None:
        """
        A message of the watch.

        Raises:
            ListAgain: It cannot be continued from here.
            EtcdError: It was cancelled.
        """
        compacted = wire.number(message, "compact_revision")
        if compacted:
            raise ListAgain(f"compacted at {compacted}")
        cluster = wire.number(wire.part(message, "header"), "cluster_id")
        if cluster and cluster != self._cluster:
            raise ListAgain("another store")
        if message.get("canceled"):
            raise EtcdError(str(message.get("cancel_reason") or "the watch was cancelled"), wire.UNKNOWN)
        put: dict[bytes, KeyValue] = {}
        deleted: dict[bytes, KeyValue] = {}
        deleted_at: dict[bytes, int] = {}
        for one in wire.parts(message, "events"):
            pair = wire.read_key_value(wire.part(one, "kv"))
            # What a watch brings twice, after it was opened again, is old.
            if pair.mod_revision < self.revision:
                continue
            self.revision = max(self.revision, pair.mod_revision)
            if one.get("type") == "DELETE":
                put.pop(pair.key, None)
                before = self._known.pop(pair.key, None)
                if before is not None:
                    deleted[pair.key], deleted_at[pair.key] = before, pair.mod_revision
            else:
                deleted.pop(pair.key, None)
                put[pair.key] = self._known[pair.key] = pair
        if not (put or deleted):
            return None
        operations = Counter(deleted_at.values())
        at_once = frozenset(key for key in deleted if operations[deleted_at[key]] > 1)
        return Events(tuple(put.values()), tuple(deleted.values()), at_once)

    def checked(self, seen: Seen) -> bool:
        """
        What a linearizable read found; whether nothing speaks against the watch.

        Raises:
            ListAgain: It is another store, or an older one: what was known does not count.
            EtcdError: The watch has not brought what was there at the check before.
        """
        if seen.cluster != self._cluster or seen.store < self.revision:
            raise ListAgain("another store")
        doubt, self._doubt = self._doubt, None
        if seen.newest <= self.revision and seen.count == len(self._known):
            self._deaf = 0
            return True
        if doubt is not None:
            before, revision = doubt
            # Of two looks at a watch that brings changes all the time, each may be ahead of it.
            if before.newest > self.revision or (self.revision == revision and before.count != len(self._known)):
                self._deaf += 1
                if self._deaf > 1:
                    self._deaf = 0
                    raise ListAgain("the watch does not bring what is there")
                raise EtcdError("the watch is silent")
        self._doubt = seen, self.revision
        return False


class Changes:
    """
    Args:
        client: Asks.
        key: The key, or the beginning of all keys.
        is_prefix: Which of both.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, client: Client, key: bytes, *, is_prefix: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._key = key
        self._end = wire.prefix_end(key) if is_prefix else b""
        self._clock = clock

    async def follow(self) -> AsyncGenerator[Snapshot | Events | Trouble, None]:
        """A snapshot, then what comes; never ends, and raises nothing."""
        track = Track()
        troubles: set[str] = set()
        failures = 0
        while True:
            try:
                if not track.revision:
                    yield await self._list(track)
                async with aclosing(self._watch(track)) as watch:
                    async for change in watch:
                        if change is not None:
                            yield change
                            continue
                        # A member with quorum has answered.
                        failures = 0
                        if troubles:
                            troubles.clear()
                            yield Trouble("")
            except ListAgain:
                track.forget()
            except EtcdError as error:
                # Members say it differently, one after the other and again: each of it once.
                if error.text not in troubles:
                    troubles.add(error.text)
                    yield Trouble(str(error))
            pause_s = min(MOST_PAUSE_S, LEAST_PAUSE_S * 2.0 ** min(failures, 8))
            failures += 1
            await asyncio.sleep(pause_s * (0.5 + random.random() / 2))

    async def _list(self, track: Track) -> Snapshot:
        found: list[KeyValue] = []
        at: dict[str, object] = {}
        key = self._key
        while True:
            body = wire.range_of(key, self._end, limit=str(PAGE), **at)
            try:
                answer = await self._client.call("/v3/kv/range", body)
            except EtcdError as error:
                if error.is_compacted:
                    raise ListAgain("compacted") from None
                raise
            found += wire.key_values(answer)
            if not at:
                # All pages at the revision of the first.
                header = wire.part(answer, "header")
                revision, cluster = wire.number(header, "revision"), wire.number(header, "cluster_id")
                at = {"revision": str(revision)}
            if not answer.get("more"):
                return track.listed(found, revision, cluster)
            key = found[-1].key + b"\0"

    async def _watch(self, track: Track) -> AsyncGenerator[Events | None, None]:
        """Changes, and None for each check that found all well. Raises ListAgain, EtcdError."""
        body = wire.range_of(self._key, self._end, start_revision=str(track.revision + 1))
        stream = await self._client.open_watch({"create_request": body})
        track.opened()
        try:
            next_check_s = self._clock()
            while True:
                if self._clock() >= next_check_s:
                    try:
                        is_well = track.checked(await self._look())
                    except EtcdError as error:
                        raise stream.refuse(error) from None
                    next_check_s = self._clock() + (CHECK_S if is_well else SECOND_LOOK_S)
                    if is_well:
                        yield None
                for message in await stream.read(next_check_s - self._clock()):
                    try:
                        events = track.heard(message)
                    except EtcdError as error:
                        raise stream.refuse(error) from None
                    if events is not None:
                        yield events
        finally:
            stream.close()

    async def _look(self) -> Seen:
        body = wire.range_of(self._key, self._end, limit="1", keys_only=True, sort_target="MOD", sort_order="DESCEND")
        answer = await self._client.call("/v3/kv/range", body)
        header = wire.part(answer, "header")
        newest = max((one.mod_revision for one in wire.key_values(answer)), default=0)
        return Seen(
            wire.number(header, "cluster_id"), wire.number(header, "revision"), newest, wire.number(answer, "count")
        )
