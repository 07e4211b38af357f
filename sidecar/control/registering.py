"""
From reports to registrations, and on to the engine, which may be slow or away. *On the loop.*
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sidecar.control.addresses import usable_ports
from sidecar.control.discovery.registry import Registry
from sidecar.control.engines.interface import EngineError, Registration, RegistrationChange, Registrations
from sidecar.control.fleet import Member
from sidecar.control.storing import NotStored, Storing
from sidecar.link.report import Report
from sidecar.process_log import event

logger = logging.getLogger(__name__)

RETRY_S: Final = 1.0


class Registering:
    """
    Args:
        registry: What is known, here and now.
        store: The engine's; what it has not taken yet waits, the newest of each instance.
        replica: Name of this one.
        storing: Told what the engine does not take.
        now_s: Since the Unix epoch.
    """

    def __init__(
        self, registry: Registry, store: Registrations, storing: Storing, replica: str, now_s: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._store = store
        self._storing = storing
        self._replica = replica
        self._now_s = now_s
        self._waiting: dict[str, Registration | None] = {}
        self._under_way = ""
        self._writing: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Instances of which the engine has not written the newest yet."""
        unwritten = self._store.unwritten
        return len(self._waiting) + (unwritten.count if unwritten is not None else 0)

    @property
    def not_stored(self) -> NotStored | None:
        """Why some wait; None while they are written as they come."""
        unwritten, failed = self._store.unwritten, self._storing.get("registrations")
        if unwritten is not None:
            return NotStored("registrations", unwritten.error, unwritten.since_s, self.waiting)
        return replace(failed, waiting=self.waiting) if failed is not None else None

    def is_written(self, instance: str) -> bool:
        """Whether the engine has taken what was said last of it."""
        return instance not in self._waiting and instance != self._under_way

    def reported(self, member: Member, report: Report, peer_is_local: bool) -> None:
        """An instance says how it is; its goodbye is `left`."""
        known = self._registry.get(member.id)
        ports, member.problems = usable_ports(report, peer_is_local)
        if known is None and report.health != "healthy":
            return
        if not ports and report.ports:
            if known is None:
                problems = "; ".join(member.problems)
                logger.warning(event("registration_refused", instance=member.id, peer=member.peer, problems=problems))
            return
        self._put(
            Registration(
                report.service, report.instance, report.version, report.zone, report.weight, ports, report.health,
                self._replica,
            )
        )  # fmt: skip

    def left(self, instance: str) -> Registration | None:
        """It said goodbye, or doubt has ended; what it was."""
        known = self._registry.remove(instance)
        if known is not None:
            self._write(instance, None)
        return known

    def lost(self, instance: str) -> None:
        """Nothing is heard of it, here."""
        known = self._registry.get(instance)
        if known is None or known.holder not in ("", self._replica):
            return
        self._registry.lost(instance)
        if known.lost_s is None:
            self._put(_lost(known, self._now_s()))

    def restore(self, change: RegistrationChange, is_here: Callable[[str], bool]) -> None:
        """What the engine does not have any more, though we hold it and it `is_here`, is written again."""
        missing = set(change.vanished)
        if change.is_snapshot:
            missing |= {one.instance for one in self._registry} - {one.instance for one in change.put}
        for known in filter(None, map(self._registry.get, missing)):
            if known.holder == self._replica and is_here(known.instance):
                self._write(known.instance, known)

    async def run(self) -> None:
        """Write what waits; ends only by being cancelled, but for the write under way, which `finish` waits for."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self._waiting:
                self._writing = asyncio.create_task(self._write_next())
                try:
                    await asyncio.shield(self._writing)
                except EngineError as error:
                    self._storing.failed("registrations", error)
                    logger.error(event("registration_not_stored", waiting=len(self._waiting), error=error))
                    await asyncio.sleep(RETRY_S)
                else:
                    self._storing.written("registrations")

    async def finish(self) -> None:
        """
        Write what waits, as far as the engine lets it; what is under way first, lest it arrives behind what is newer.
        """
        try:
            if self._writing is not None and not self._writing.done():
                await self._writing
            while self._waiting:
                await self._write_next()
        except EngineError as error:
            logger.error(event("registration_not_stored", waiting=len(self._waiting), error=error))

    async def _write_next(self) -> None:
        instance = next(iter(self._waiting))
        registration = self._waiting.pop(instance)
        self._under_way = instance
        try:
            if registration is None:
                await self._store.remove(instance)
            else:
                await self._store.put(registration)
        except EngineError:
            # It waits again, unless there is something newer of it.
            self._waiting.setdefault(instance, registration)
            raise
        finally:
            self._under_way = ""

    def _put(self, registration: Registration) -> None:
        if self._registry.put(registration):
            self._write(registration.instance, registration)

    def _write(self, instance: str, registration: Registration | None) -> None:
        self._waiting[instance] = registration
        self._has_work.set()


def _lost(known: Registration, now_s: float) -> Registration:
    return Registration(
        known.service, known.instance, known.version, known.zone, known.weight, known.ports, known.health,
        known.holder, now_s,
    )  # fmt: skip
