"""
Registrations in etcd, one key each, without a lease: what is gone is deleted by who knows it, never by time. A deletion
that a watch brings is a goodbye, for a control plane deletes one key at a time; what goes together with others, and
what is missing after the keys had to be listed again, is not.

That somebody has ever registered is a key of its own, the bare prefix, by which a mesh without registrations is told
apart from an etcd that is new, or was emptied. One that lost everything while we followed it says nothing
of anybody: what was there has vanished, and each replica writes what it holds again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Changes, Snapshot
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import KeyValue
from sidecar.control.engines.interface import Registration, RegistrationChange, Trouble
from sidecar.control.engines.registration_text import read_registration, registration_values
from sidecar.link.fields import MessageError, decode, encode
from sidecar.process_log import event

logger = logging.getLogger(__name__)


class EtcdRegistrations:
    """
    A `Registrations`.

    Args:
        client: Asks.
    """

    unwritten = None
    """What was taken is written."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.prefix + b"registrations/"
        self._has_begun = False
        self._there: set[str] = set()

    async def put(self, registration: Registration) -> None:
        """Write it; the first time with the key that says that somebody has."""
        write = wire.put(self._key(registration.instance), encode(registration_values(registration)))
        if self._has_begun:
            await self._client.call("/v3/kv/put", write)
        else:
            puts = [wire.put(self._prefix, b""), write]
            await self._client.call("/v3/kv/txn", wire.transaction([], puts=puts))
            self._has_begun = True
        self._there.add(registration.instance)

    async def remove(self, instance: str) -> None:
        """Delete it."""
        await self._client.call("/v3/kv/deleterange", wire.range_of(self._key(instance)))
        self._there.discard(instance)

    async def watch(self) -> AsyncGenerator[RegistrationChange | Trouble, None]:
        """All, then changes; ours come back, too."""
        async with aclosing(Changes(self._client, self._prefix).follow()) as changes:
            async for change in changes:
                if isinstance(change, Trouble):
                    yield change
                elif isinstance(change, Snapshot):
                    # An etcd that is new, or was emptied: the next registration says so anew.
                    self._has_begun = any(one.key == self._prefix for one in change.found)
                    were_there, self._there = self._there, set(map(self._instance, change.found)) - {""}
                    if change.found:
                        yield RegistrationChange(self._read(change.found), is_snapshot=True)
                    elif were_there:
                        logger.error(event("registrations_vanished", instances=len(were_there)))
                        yield RegistrationChange(vanished=tuple(sorted(were_there)))
                else:
                    if any(one.key == self._prefix for one in change.deleted):
                        self._has_begun = False
                    self._there.update(map(self._instance, change.put))
                    self._there.difference_update(map(self._instance, change.deleted))
                    put = self._read(change.put)
                    gone = [one for one in change.deleted if one.key != self._prefix]
                    left = tuple(self._instance(one) for one in gone if one.key not in change.at_once)
                    vanished = tuple(self._instance(one) for one in gone if one.key in change.at_once)
                    if vanished:
                        logger.error(event("registrations_deleted_at_once", instances=len(vanished)))
                    if put or gone:
                        yield RegistrationChange(put, left, vanished)

    def _key(self, instance: str) -> bytes:
        return self._prefix + instance.encode()

    def _instance(self, pair: KeyValue) -> str:
        return pair.key.removeprefix(self._prefix).decode("utf-8", "replace")

    def _read(self, pairs: Iterable[KeyValue]) -> tuple[Registration, ...]:
        found: list[Registration] = []
        for pair in pairs:
            if pair.key == self._prefix:
                continue
            try:
                one = read_registration(decode(pair.value))
                if one.instance != self._instance(pair):
                    raise MessageError(f"instance: expected {self._instance(pair)!r}, found {one.instance!r}")
            except MessageError as error:
                # One that nobody can read leaves the others alone; what was known of it holds.
                logger.error(event("registration_damaged", key=pair.key.decode("utf-8", "replace"), error=error))
                continue
            found.append(one)
        return tuple(found)
