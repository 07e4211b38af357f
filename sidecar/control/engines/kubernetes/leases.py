"""
Leases: who moves rollouts, and which replicas there are. *A shell: calls and time.*

A Lease of Kubernetes does not end: it says who holds it, for how long, and when he said so last, by a clock that
nobody shares. So times in it are for people only. Who waits for a Lease counts from when he saw it change last, by his
own clock; who holds it counts from before he asked to renew it, and takes off a margin for clocks that run differently,
so that he stops believing before another may take it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from sidecar.control.engines.exchange import suspend_clock_s
from sidecar.control.engines.interface import Replica
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import PAGE
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import LEASES, ApiError, Object
from sidecar.process_log import event

logger = logging.getLogger(__name__)

MOVER_TTL_S: Final = 10
REPLICA_TTL_S: Final = 20.0
FORGOTTEN_S: Final = 600.0
"""After which the announcement of a replica that is gone is deleted."""
MARGIN: Final = 0.2
"""Of a lease's time, by which we stop believing before it ends."""

CAMPAIGN_PERIOD_S: Final = 1.0
FAREWELL_S: Final = 2.0
LABEL: Final = "sidecar.mesh/replicas"
_NAME: Final = "sidecar.mesh/replica"
_ADDRESS: Final = "sidecar.mesh/address"
_RELEASE: Final = "sidecar.mesh/release"


def micro_time(now_s: float) -> str:
    """A time as Leases have it (`MicroTime`)."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class KubernetesMover:
    """
    A `Mover`.

    Args:
        client: Asks.
        name: Of this replica.
        clock: Seconds, monotonic, also while the machine sleeps.
        now_s: Since the Unix epoch; for people.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        clock: Callable[[], float] = suspend_clock_s,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._lease = client.named("mover")
        self._name = name
        # Two processes of one name are two.
        self._identity = f"{name}_{secrets.token_hex(4)}"
        self._clock = clock
        self._now_s = now_s
        self._is_holder = False
        self._trusted_until_s = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)
        self._said = ""

    @property
    def is_ours(self) -> bool:
        """Whether the Lease is ours, and nobody can have taken it."""
        return self._is_holder and self._clock() < self._trusted_until_s

    async def campaign(self) -> None:
        """Try once a second; once it is ours, renew it as often as that fits four times into its time."""
        try:
            while True:
                try:
                    await self._step()
                    self._said = ""
                except ApiError as error:
                    if self._is_holder and not self.is_ours:
                        self._lose(str(error))
                    elif not self._is_holder and error.text != self._said:
                        # Without a mover no rollout goes on, which nobody would know the reason of.
                        self._said = error.text
                        logger.warning(event("mover_failed", replica=self._name, error=error))
                period_s = MOVER_TTL_S / 4 if self.is_ours else CAMPAIGN_PERIOD_S
                await asyncio.sleep(period_s * (0.75 + random.random() / 4))
        finally:
            was_holder, self._is_holder = self._is_holder, False
            if was_holder:
                with suppress(ApiError, TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._release()

    async def _step(self) -> None:
        before_s = self._clock()
        lease = await self._client.get(LEASES, self._lease)
        if lease is None:
            if self._is_holder:
                self._lose("its Lease was deleted")
            await self._take({}, before_s, is_new=True)
            return
        spec = wire.part(lease, "spec")
        holder = wire.text(spec, "holderIdentity")
        if holder == self._identity:
            await self._take(lease, before_s)
            return
        if self._is_holder:
            self._lose(f"{holder or 'nobody'} holds its Lease")
        version = wire.version_of(lease)
        if version != self._seen[0]:
            self._seen = version, self._clock()
        said_s = spec.get("leaseDurationSeconds")
        ttl_s = max(said_s if isinstance(said_s, int) else 0, MOVER_TTL_S)
        if not holder or self._clock() - self._seen[1] >= ttl_s:
            await self._take(lease, before_s)

    async def _take(self, lease: Object, before_s: float, *, is_new: bool = False) -> None:
        """Say that it is ours for a while from now; a conflict says that somebody else was faster."""
        old = wire.part(lease, "spec")
        is_ours_already = wire.text(old, "holderIdentity") == self._identity
        now = micro_time(self._now_s())
        transitions = old.get("leaseTransitions")
        changes = (transitions if isinstance(transitions, int) else 0) + (not is_ours_already and not is_new)
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": MOVER_TTL_S,
            "acquireTime": old.get("acquireTime") if is_ours_already else now,
            "renewTime": now,
            "leaseTransitions": changes,
        }
        try:
            if is_new:
                labels = {"app.kubernetes.io/managed-by": "sidecar"}
                await self._client.create(LEASES, {"metadata": {"name": self._lease, "labels": labels}, "spec": spec})
            else:
                await self._client.replace(LEASES, dict(lease) | {"spec": spec})
        except ApiError as error:
            if error.is_conflict or error.is_absent:
                return
            raise
        self._trusted_until_s = before_s + MOVER_TTL_S * (1 - MARGIN)
        if not self._is_holder:
            self._is_holder = True
            logger.info(event("mover_won", replica=self._name))

    async def _release(self) -> None:
        lease = await self._client.get(LEASES, self._lease)
        if lease is not None and wire.text(wire.part(lease, "spec"), "holderIdentity") == self._identity:
            spec = dict(wire.part(lease, "spec")) | {"holderIdentity": "", "renewTime": micro_time(self._now_s())}
            await self._client.replace(LEASES, dict(lease) | {"spec": spec})

    def _lose(self, why: str) -> None:
        self._is_holder = False
        logger.warning(event("mover_lost", replica=self._name, reason=why))


class KubernetesReplicas:
    """
    A `Replicas`: a Lease for each, renewed with each announcement.

    Args:
        client: Asks.
        clock: As for the mover.
        now_s: Since the Unix epoch.
    """

    def __init__(
        self, client: Client, clock: Callable[[], float] = suspend_clock_s, now_s: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._clock = clock
        self._now_s = now_s
        self._is_there = False
        self._seen: dict[str, tuple[str, float, float]] = {}

    async def announce(self, replica: Replica) -> None:
        """Renew it: that its version moves is what others see."""
        values = {
            "metadata": {
                "name": self._client.named("replica", replica.name),
                "labels": {LABEL: self._client.mesh, "app.kubernetes.io/managed-by": "sidecar"},
                "annotations": {_NAME: replica.name, _ADDRESS: replica.address, _RELEASE: replica.release},
            },
            "spec": {
                "holderIdentity": replica.name,
                "leaseDurationSeconds": int(REPLICA_TTL_S),
                "renewTime": micro_time(self._now_s()),
            },
        }
        await self._client.put(LEASES, values, is_there=self._is_there)
        self._is_there = True

    async def list(self) -> tuple[Replica, ...]:
        """By name. When each announced itself is told by our clock, by when we saw its Lease move."""
        found, _ = await self._client.list(LEASES, labels=f"{LABEL}={self._client.mesh}", page=PAGE)
        at_s, now_s = self._clock(), self._now_s()
        before, self._seen = self._seen, {}
        replicas: list[Replica] = []
        for one in found:
            name, version = wire.name_of(one), wire.version_of(one)
            known = before.get(name)
            seen = known if known is not None and known[0] == version else (version, at_s, now_s)
            self._seen[name] = seen
            silent_s = at_s - seen[1]
            if silent_s >= FORGOTTEN_S:
                await self._client.delete(LEASES, name, version)
            elif silent_s < REPLICA_TTL_S:
                said = wire.part(wire.part(one, "metadata"), "annotations")
                replicas.append(
                    Replica(wire.text(said, _NAME), wire.text(said, _ADDRESS), wire.text(said, _RELEASE), seen[2])
                )
        return tuple(sorted(replicas, key=lambda one: one.name))

    async def leave(self, name: str) -> None:
        """Delete it."""
        await self._client.delete(LEASES, self._client.named("replica", name))
        self._is_there = False
