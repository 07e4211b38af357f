"""
Questions to one sidecar, which are sent on its stream and answered by a POST. *On the loop.*
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

from sidecar.control.push.hub import Hub
from sidecar.link.messages import Ask

TIMEOUT_S: Final = 10.0
PATIENCE_S: Final[Mapping[str, float]] = {"preview": 30.0}
"""For kinds of questions over which a sidecar takes longer: two files are compiled."""

MAX_OPEN: Final = 256


class AskError(Exception):
    """There is no answer; the text says why."""


class NotHereError(AskError):
    """No such instance is connected."""

    STATUS: Final = 404


class Asks:
    """All that wait for an answer."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._open: dict[str, tuple[str, asyncio.Future[Mapping[str, Any]]]] = {}

    async def ask(self, instance: str, kind: str, body: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        """
        What a sidecar answers.

        Raises:
            NotHereError: It has no stream here.
            AskError: It does not know such questions, cannot answer, or does not in time.
        """
        stream = self._hub.get(instance)
        if stream is None:
            raise NotHereError("no such instance is connected to this control plane")
        # Not to be guessed: who knows it may answer in the sidecar's name.
        id_ = secrets.token_urlsafe(12)
        if len(self._open) >= MAX_OPEN or not stream.say(Ask(id_, kind, body)):
            raise AskError("too many questions wait for an answer; try again")
        if timeout_s is None:
            timeout_s = PATIENCE_S.get(kind, TIMEOUT_S)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[id_] = instance, answer
        try:
            async with asyncio.timeout(timeout_s):
                said = await answer
        except TimeoutError:
            raise AskError(f"no answer within {timeout_s:g} s") from None
        finally:
            del self._open[id_]
        if "error" in said:
            raise AskError(str(said["error"])[:1000])
        return said.get("answer")

    def answered(self, id_: str, said: Mapping[str, Any]) -> bool:
        """Whether somebody waited for this."""
        found = self._open.get(id_)
        if found is None or found[1].done():
            return False
        found[1].set_result(said)
        return True
