"""
The identity of a process that has it from the control plane: joining, what is kept, whom it is given to. *Cold.*

    joiner = MeshIdentity(...)              made with the follower; asks nobody yet
    await joiner.begin(kept)                what the disk or a predecessor had
    joiner.start()                          ask the control plane, and go on asking
    joiner.deliver_to(holder)               the process's own, or a supervisor's workers
    await joiner.stop()                     a successor has it, or the process ends
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.compile.frames import ControlSettings
from sidecar.link.identity.files import JoinFiles
from sidecar.link.identity.held import Held
from sidecar.link.identity.interfaces import JoinSettings
from sidecar.link.identity.join_client import HttpJoinClient
from sidecar.link.identity.joiner import Joiner
from sidecar.link.identity.proving import material_of, prove
from sidecar.link.identity.server_trust import HeldTrust
from sidecar.link.report import IdentityReport
from sidecar.link.transport.tls import ByFile
from sidecar.net.tls.settings import ControlIdentity
from sidecar.process_log import event
from sidecar.runtime.mesh.certificate_report import Ends
from sidecar.runtime.mesh.key_process import KeyProcess
from sidecar.runtime.mesh.offered import Holder

logger = logging.getLogger(__name__)

WAIT_S: Final = 4.0
"""For which a connection to the control plane waits for an identity, less than `LinkSettings.connect_timeout_s`."""


class MeshIdentity:
    """
    Args:
        settings: Where the control plane is and who this is.
        wanted: What the machine's file says.
        keep: Told what is to be kept for the next start.
        on_change: Something of `report` is another.
        instance: Name of this one, when asked.
        joiner: Makes who asks; default: over TLS, with keys of a process of their own. Raises ValueError if no address
            is one to join by.

    Attributes:
        tls: By which the control plane is spoken to.
        has_held: Something was held in this process's life.
        has_done_without: In this process's life there was nothing to join by, so that it has served in clear.
    """

    def __init__(
        self,
        settings: ControlSettings,
        wanted: ControlIdentity,
        *,
        keep: Callable[[Held], None],
        on_change: Callable[[], None],
        instance: Callable[[], str],
        joiner: Callable[[JoinSettings, Callable[[], str]], Joiner] | None = None,
    ) -> None:
        self.has_held = self.has_done_without = False
        self._keep = keep
        self._on_change = on_change
        self._holders: list[Holder] = []
        self._ends = Ends()
        self._tasks: set[asyncio.Task[None]] = set()
        join = JoinSettings(
            settings.addresses, settings.service, settings.token_file, settings.trust, lifetime_s=int(wanted.lifetime_s)
        )
        self._joiner = (joiner or _joiner)(join, instance)
        self._joiner.on_held = self._on_held
        self._joiner.on_change = self._changed
        self.tls = HeldTrust(
            lambda: self.held, self.why_none, WAIT_S, ByFile(settings.trust, WAIT_S), lambda: self.is_elsewhere
        )

    # --- life --------------------------------------------------------------------------------------------------

    async def begin(self, kept: Held | None) -> None:
        """Hold what an earlier process held, if it is of use."""
        await self._joiner.begin(kept)

    def start(self) -> None:
        """Ask the control plane from now on."""
        self._spawn(self._joiner.run())

    async def stop(self) -> None:
        """Ask no more; what is held stays so."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def renew_soon(self, within_s: float) -> None:
        """Ask for another certificate at some time from now to then."""
        self._joiner.renew_soon(within_s)

    def deliver_to(self, holder: Holder) -> None:
        """Give it what is held now and from now on."""
        self._holders.append(holder)
        held = self.held
        if held is not None:
            self._spawn(_offer(holder, held))
        elif self._joiner.report().last_error and not self.is_elsewhere:
            holder.source_failed(self.why_none())

    # --- what others ask ---------------------------------------------------------------------------------------

    @property
    def is_elsewhere(self) -> bool:
        """Whether the control plane is one that signs nothing, as far as can be told."""
        return self._joiner.is_elsewhere

    @property
    def held(self) -> Held | None:
        """What is held, if it has not ended."""
        return self._joiner.held

    def handed_over(self) -> Held | None:
        """For a successor: also what has ended, for its key may still renew it."""
        return self._joiner.last_held

    def why_none(self) -> str:
        """Why nothing is held; empty if something is."""
        return self._joiner.why_none()

    def not_ready(self) -> str | None:
        """
        Why no traffic should come, or None. Once something was held, its end is told, and readiness stays: a whole mesh
        that fails it at the same moment is no help to anybody. Nor is it lost, when there is something to join by, by
        who has served in clear so far.
        """
        is_ready = self.has_held or self.has_done_without or self.is_elsewhere
        return None if is_ready else f"no identity: {self.why_none()}"

    def report(self) -> IdentityReport | None:
        """For the control plane; None if it signs nothing."""
        return None if self.is_elsewhere else self._ends.beside(self._joiner.report(), self._joiner.last_held)

    def shown(self) -> dict[str, object]:
        """As pages show it; no key is in it."""
        return self._joiner.shown()

    # --- the joiner tells --------------------------------------------------------------------------------------

    def _on_held(self, held: Held) -> None:
        self.has_held = True
        self.tls.changed()
        self._keep(held)
        for holder in self._holders:
            self._spawn(_offer(holder, held))

    def _changed(self) -> None:
        self.tls.wake()
        self.has_done_without = self.has_done_without or self.is_elsewhere
        report = self.report()
        if report is not None and report.last_error:
            for holder in self._holders:
                holder.source_failed(report.last_error)
        self._on_change()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _offer(holder: Holder, held: Held) -> None:
    try:
        await holder.offer(material_of(held.certificate, held.key, held.trust, held.renew_after_s))
    except Exception:  # what one makes of it is no matter of the others
        logger.exception(event("identity_not_delivered"))


def _joiner(settings: JoinSettings, instance: Callable[[], str]) -> Joiner:
    files = JoinFiles(settings.token_file, settings.trust_file)
    return Joiner(settings, client=HttpJoinClient(), maker=KeyProcess(), files=files, prove=prove, instance=instance)
