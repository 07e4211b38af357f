"""What is looked after while the webhook serves: its certificate, and that the API believes it. *On the loop.*"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sidecar.control.engines.interface import EngineError
from sidecar.process_log import event
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.webhook.certificate import Certificate
from sidecar.webhook.registration import Registration

logger = logging.getLogger(__name__)

LOOK_PERIOD_S: Final = 10.0
RETRY_S: Final = 1.0
"""Between looks, while it is not ready."""


class Upkeep:
    """
    Args:
        certificate: That is shown.
        registration: Our entry with the API; None: somebody else sees to it.

    Attributes:
        is_believed: Whether the API was told whom to believe, and nothing is known to the contrary; None: nobody looks.
    """

    def __init__(self, certificate: Certificate, registration: Registration | None) -> None:
        self.is_believed: bool | None = False if registration is not None else None
        self._certificate = certificate
        self._registration = registration
        self._told: dict[str, str] = {}
        self._bundle = ""

    def why_not_ready(self) -> str:
        """Why the API cannot be served; empty if it can."""
        if self._certificate.context() is None:
            return f"no certificate to show: {self._told.get('certificate', 'none yet')}"
        if self.is_believed is False:
            return f"the API is not told whom to believe: {self._told.get('registration', 'not yet')}"
        return ""

    async def run(self) -> None:
        """Look, now and then; never ends."""
        while True:
            await self.look()
            await asyncio.sleep(RETRY_S if self.why_not_ready() else LOOK_PERIOD_S)

    async def look(self) -> None:
        """Once. What fails is told when it begins, and when it is over."""
        try:
            await self._certificate.refresh()
            self._tell("certificate", "")
        except (TroubleError, OSError, EngineError, ValueError) as error:
            # Others may have written a newer bundle than the one that we know.
            self._tell("certificate", str(error))
            return
        bundle = self._certificate.bundle
        if self._registration is None or not bundle:
            return
        try:
            await self._registration.put(bundle)
            self.is_believed, self._bundle = True, bundle
            self._tell("registration", "")
        except EngineError as error:
            # What it was told holds while it does not answer; that it has another entry is known when it does.
            self.is_believed = bool(self.is_believed) and self._bundle == bundle and not _is_answer(error)
            self._tell("registration", str(error))

    def _tell(self, what: str, why: str) -> None:
        if self._told.get(what, "") == why:
            return
        self._told[what] = why
        if why:
            logger.error(event(f"webhook_{what}_failed", why=why))
        else:
            logger.info(event(f"webhook_{what}_good_again"))


def _is_answer(error: EngineError) -> bool:
    """Whether it says what the API has, and not that it does not answer."""
    return getattr(error, "status", 404) not in (0, 401, 403, 429) and getattr(error, "status", 404) < 500
