"""
What lives only as long as who wrote it: the mover's key and the replicas' announcements. *A shell: calls and time.*

A lease's time is counted by etcd from when it hears of us, which is after we spoke. So who counts from before speaking,
and takes off a margin for clocks that run differently, stops believing before etcd may have given the key to another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import NOT_FOUND, EtcdError
from sidecar.control.engines.exchange import suspend_clock_s
from sidecar.control.engines.interface import Replica
from sidecar.link.fields import MessageError, decode, encode
from sidecar.process_log import event

logger = logging.getLogger(__name__)

MOVER_TTL_S: Final = 10
REPLICA_TTL_S: Final = 20
MARGIN: Final = 0.2
"""Of a lease's time, by which we stop believing before it ends."""

CAMPAIGN_PERIOD_S: Final = 1.0
FAREWELL_S: Final = 2.0


class Lease:
    """
    Args:
        client: Asks.
        ttl_s: Time to live.
        clock: Seconds, monotonic, also while the machine sleeps.

    Attributes:
        id: As etcd names it; empty for none.
    """

    def __init__(self, client: Client, ttl_s: int, clock: Callable[[], float]) -> None:
        self.id = ""
        self._client = client
        self._ttl_s = ttl_s
        self._clock = clock
        self._trusted_until_s = float("-inf")

    @property
    def is_alive(self) -> bool:
        """False as soon as etcd might have ended it."""
        return bool(self.id) and self._clock() < self._trusted_until_s

    async def grant(self) -> None:
        """Get a new one. Raises EtcdError."""
        self.id = ""
        before_s = self._clock()
        # One that was granted and not heard of ends by itself.
        answer = await self._client.call("/v3/lease/grant", {"TTL": str(self._ttl_s)})
        self.id = str(wire.number(answer, "ID"))
        self._extend(before_s, wire.number(answer, "TTL"))

    async def keep(self) -> bool:
        """Keep it alive; False: there is none any more. Raises EtcdError."""
        if not self.id:
            return False
        before_s = self._clock()
        answer = await self._client.call("/v3/lease/keepalive", {"ID": self.id})
        # A stream of one message, says the gateway; and a lease that is not there has no TTL.
        ttl_s = wire.number(wire.part(answer, "result"), "TTL")
        if ttl_s <= 0:
            self.id = ""
            return False
        self._extend(before_s, ttl_s)
        return True

    async def revoke(self) -> None:
        """End it, and the keys with it. Raises EtcdError."""
        lease, self.id = self.id, ""
        if lease:
            try:
                await self._client.call("/v3/lease/revoke", {"ID": lease})
            except EtcdError as error:
                if error.code != NOT_FOUND:
                    raise

    def _extend(self, before_s: float, ttl_s: int) -> None:
        self._trusted_until_s = before_s + ttl_s * (1 - MARGIN)


class EtcdMover:
    """
    A `Mover`: a key that is written only if it is not there.

    Args:
        client: Asks.
        name: Of this replica.
        clock: As for `Lease`.
    """

    def __init__(self, client: Client, name: str, clock: Callable[[], float] = suspend_clock_s) -> None:
        self._client = client
        self._name = name
        self._key = client.prefix + b"mover"
        self._lease = Lease(client, MOVER_TTL_S, clock)
        self._has_key = False

    @property
    def is_ours(self) -> bool:
        """Whether the key is ours, and cannot have ended."""
        return self._has_key and self._lease.is_alive

    async def campaign(self) -> None:
        """Try once a second; once it is ours, keep it alive as often as that fits three times into its time."""
        try:
            while True:
                try:
                    await self._step()
                except EtcdError as error:
                    if self._has_key and not self._lease.is_alive:
                        self._lose(str(error))
                period_s = MOVER_TTL_S / 4 if self.is_ours else CAMPAIGN_PERIOD_S
                await asyncio.sleep(period_s * (0.75 + random.random() / 4))
        finally:
            self._has_key = False
            with suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._lease.revoke()

    async def _step(self) -> None:
        if self._has_key:
            if not await self._lease.keep():
                self._lose("its lease has ended")
            elif not await self._is_held():
                self._lose("its key was taken away")
            return
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._key)))
        if found:
            # Given up because etcd did not answer in time, it may still be ours, and then nobody else can have it.
            is_ours = bool(self._lease.id) and found[0].lease == self._lease.id
            if is_ours and await self._lease.keep() and await self._is_held():
                self._won()
            return
        if not self._lease.is_alive:
            await self._lease.grant()
        body = wire.transaction(
            [wire.is_at(self._key, 0)], puts=[wire.put(self._key, self._name.encode(), self._lease.id)]
        )
        try:
            has_won = wire.has_succeeded(await self._client.call("/v3/kv/txn", body))
        except EtcdError as error:
            if error.code == NOT_FOUND:
                self._lease.id = ""
            raise
        # A repeated try finds the key of the first one.
        if has_won or await self._is_held():
            self._won()

    async def _is_held(self) -> bool:
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._key)))
        return bool(found) and found[0].lease == self._lease.id

    def _won(self) -> None:
        self._has_key = True
        logger.info(event("mover_won", replica=self._name))

    def _lose(self, why: str) -> None:
        self._has_key = False
        logger.warning(event("mover_lost", replica=self._name, reason=why))


class EtcdReplicas:
    """
    A `Replicas`: a key for each, which ends with its lease.

    Args:
        client: Asks.
        clock: As for `Lease`.
        now_s: Since the Unix epoch.
    """

    def __init__(
        self, client: Client, clock: Callable[[], float] = suspend_clock_s, now_s: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._prefix = client.prefix + b"replicas/"
        self._lease = Lease(client, REPLICA_TTL_S, clock)
        self._now_s = now_s
        self._seen: dict[bytes, tuple[int, float]] = {}

    async def announce(self, replica: Replica) -> None:
        """Write the key again: that its revision moves is what others see."""
        value = encode({"address": replica.address, "release": replica.release})
        for is_last in (False, True):
            if not await self._lease.keep():
                await self._lease.grant()
            try:
                await self._client.call("/v3/kv/put", wire.put(self._key(replica.name), value, self._lease.id))
                return
            except EtcdError as error:
                # It ended between both calls.
                if is_last or error.code != NOT_FOUND:
                    raise
                self._lease.id = ""

    async def list(self) -> tuple[Replica, ...]:
        """In the order in which they came. When each announced itself is told by our clock, by when we saw it move."""
        body = wire.range_of(self._prefix, wire.prefix_end(self._prefix))
        found = wire.key_values(await self._client.call("/v3/kv/range", body))
        now_s = self._now_s()
        self._seen = {
            one.key: seen
            if (seen := self._seen.get(one.key)) is not None and seen[0] == one.mod_revision
            else (one.mod_revision, now_s)
            for one in found
        }
        replicas: list[Replica] = []
        for one in sorted(found, key=lambda pair: (pair.create_revision, pair.key)):
            name = one.key.removeprefix(self._prefix).decode("utf-8", "replace")
            try:
                values = decode(one.value)
                replicas.append(
                    Replica(name, values.text("address", ""), values.text("release", ""), self._seen[one.key][1])
                )
            except MessageError as error:
                logger.error(event("replica_damaged", replica=name, error=error))
        return tuple(replicas)

    async def leave(self, name: str) -> None:
        """Delete it, and the lease."""
        await self._client.call("/v3/kv/deleterange", wire.range_of(self._key(name)))
        await self._lease.revoke()

    def _key(self, name: str) -> bytes:
        return self._prefix + name.encode()
