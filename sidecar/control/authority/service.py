"""
The authority as a running control plane has it: its parts, and what they do as time passes. *On the loop.*
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from sidecar.control.authority import certificates as pki
from sidecar.control.authority.authority import Authority
from sidecar.control.authority.certificates import DAY_S
from sidecar.control.authority.issued import IssuedRecord
from sidecar.control.authority.joining import Joining
from sidecar.control.authority.names import BadName
from sidecar.control.authority.own import OwnCertificate
from sidecar.control.authority.record import AuthorityError
from sidecar.control.authority.tokens import JoinTokens
from sidecar.control.engines.interface import Engine, EngineError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
WARNED_EVERY_S: Final = DAY_S
ROOT_WARNED_S: Final = 365 * DAY_S
INTERMEDIATE_WARNED_S: Final = 30 * DAY_S
"""What ends sooner is logged once a day. Of an intermediate that is renewed by itself this never happens."""


@dataclass(frozen=True, slots=True)
class Ending:
    """
    A certificate that everything hangs on.

    Attributes:
        which: `root`, `issuer` or `leaf`, the control plane's own.
        name: Of its subject.
        not_after_s: Since the Unix epoch.
    """

    which: str
    name: str
    not_after_s: float


class AuthorityService:
    """
    Args:
        engine: Keeps what must be kept.
        replica: Name of this one.
        mesh_name: What the mesh's files say; empty while that is not known.
        services_of: Services whose file names an identity.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.
        lifetime_s: For which is signed where a sidecar does not say; 0: a week.
        creates: Whether an authority is made if there is none, as soon as the mesh's name is known.
    """

    def __init__(
        self,
        engine: Engine,
        replica: str,
        mesh_name: Callable[[], str],
        services_of: Callable[[str], Collection[str]],
        clock: Callable[[], float],
        now_s: Callable[[], float],
        lifetime_s: Callable[[], float] = float,
        *,
        creates: bool = False,
    ) -> None:
        self.authority = Authority(engine.secrets, now_s, mesh_name)
        self.tokens = JoinTokens(engine.secrets, now_s)
        self.issued = IssuedRecord(engine.secrets, now_s)
        self.joining = Joining(
            self.authority, self.tokens, self.issued, engine.accounts, services_of, clock, now_s, lifetime_s
        )  # fmt: skip
        self.own = OwnCertificate(self.authority, replica, now_s)
        self._mesh_name = mesh_name
        self._now_s = now_s
        self._creates = creates
        self._create_error = ""
        self._warned_s = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> bool:
        """Read what there is; whether there is an authority, will be one, or may be one that could not be read."""
        await self.authority.refresh()
        await self._look()
        return self.authority.record is not None or self._creates or bool(self.authority.trouble)

    def trust_domain(self) -> str:
        """Of the authority; empty while there is none."""
        return self.authority.record.trust_domain if self.authority.record is not None else ""

    def trust(self) -> str:
        """The roots that everyone believes, in PEM; empty while there is no authority."""
        return self.authority.record.trust if self.authority.record is not None else ""

    def changed_s(self) -> float:
        """Since the Unix epoch, when trust changed last; 0: never."""
        return self.authority.record.changed_s if self.authority.record is not None else 0.0

    def start(self) -> None:
        """Begin to follow."""
        works = (self.authority.follow(), self.issued.run(), self._look_forever())
        self._tasks = [asyncio.create_task(one) for one in works]

    async def close(self) -> None:
        """End; what is not written yet is written as far as it can be. To be called while the engine is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(EngineError):
            await self.issued.flush()
        self.joining.close()

    def shown(self) -> dict[str, Any] | None:
        """For `/v1/mesh`; None where there is no authority."""
        record = self.authority.record
        if record is None:
            return None
        return {
            "trust_domain": record.trust_domain,
            "why_not": self.authority.why_not() or None,
            "certificates": [
                {"which": one.which, "subject": one.name, "ends": one.not_after_s} for one in self.endings()
            ],
        }

    def endings(self) -> Iterator[Ending]:
        """When what ends."""
        record, own = self.authority.record, self.own.issued
        if record is None:
            return
        for root in record.roots:
            yield Ending("root", _name(root.own), pki.ends(root.own))
        yield Ending("issuer", _name(record.intermediate.own), pki.ends(record.intermediate.own))
        if own is not None:
            yield Ending("leaf", own.identity, own.not_after_s)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        if self._creates and self.authority.record is None and self._mesh_name():
            await self._create()
        await self.own.refresh()
        self._warn()

    async def _create(self) -> None:
        try:
            await self.authority.create(self._mesh_name())
        except (EngineError, AuthorityError, BadName) as error:
            if str(error) != self._create_error:
                self._create_error = str(error)
                logger.error(event("authority_not_made", error=error))

    def _warn(self) -> None:
        now_s = self._now_s()
        if now_s - self._warned_s < WARNED_EVERY_S:
            return
        self._warned_s = now_s
        for one in self.endings():
            left_s = one.not_after_s - now_s
            if left_s < {"root": ROOT_WARNED_S, "issuer": INTERMEDIATE_WARNED_S}.get(one.which, 0.0):
                logger.warning(
                    event("certificate_ends_soon", which=one.which, subject=one.name, days=int(left_s // DAY_S),
                          hint="docs/mesh-identity.md says how it is replaced")
                )  # fmt: skip


def _name(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()
