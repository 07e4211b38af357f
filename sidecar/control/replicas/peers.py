"""The other replicas, asked every two seconds. *On the loop; what they answer is read in a thread.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from sidecar.control.engines.interface import Replica
from sidecar.control.replicas.summary import Summary, read_summary
from sidecar.link.fields import MessageError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

PERIOD_S: Final = 2.0
TIMEOUT_S: Final = 1.5
FRESH_S: Final = 7.0
"""For which a summary stands: one that is late by a period or two is no loss."""
MAX_BYTES: Final = 64 * 1024 * 1024
_NO_ADDRESS: Final = "it says no address: --advertise"


@dataclass(frozen=True, slots=True)
class _Heard:
    summary: Summary
    at_s: float


class Peers:
    """
    Args:
        name: Of this replica.
        token: Gives the bearer token that the others know, which is one of this replica's; empty: none.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch, on this replica's clock.
    """

    def __init__(
        self, name: str, token: Callable[[], str], clock: Callable[[], float], now_s: Callable[[], float]
    ) -> None:
        self._name = name
        self._token = token
        self._clock = clock
        self._now_s = now_s
        self._others: tuple[Replica, ...] | None = None
        self._heard: dict[str, _Heard] = {}
        self._errors: dict[str, str] = {}

    def use(self, replicas: Iterable[Replica]) -> None:
        """All that there are, this one included; those that are not among them any more are forgotten."""
        self._others = tuple(one for one in replicas if one.name != self._name)
        names = {one.name for one in self._others}
        self._heard = {name: heard for name, heard in self._heard.items() if name in names}
        self._errors = {name: error for name, error in self._errors.items() if name in names}

    @property
    def summaries(self) -> list[Summary]:
        """Of those that are seen, by name."""
        return [heard.summary for _, heard in sorted(self._heard.items()) if self._is_fresh(heard)]

    @property
    def unseen(self) -> tuple[str, ...]:
        """Who is not seen, and of whom that is so for those that are."""
        if self._others is None:
            return ("the other replicas",)
        found = [one.name for one in self._others if not self.is_seen(one.name)]
        for name, heard in self._heard.items():
            if self._is_fresh(heard):
                found += (f"{name}: {why}" for why in heard.summary.unseen)
        return tuple(found)

    def is_seen(self, name: str) -> bool:
        """Whether it answered lately, or is this one."""
        heard = self._heard.get(name)
        return name == self._name or (heard is not None and self._is_fresh(heard))

    def error(self, name: str) -> str:
        """Why a replica did not answer when it was asked last; empty if it did."""
        return self._errors.get(name, "")

    async def run(self, on_heard: Callable[[], None]) -> None:
        """Ask, again and again; ends only by being cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=True) as session:
            while True:
                others = self._others or ()
                if others:
                    await asyncio.gather(*(self._ask(session, one) for one in others))
                    on_heard()
                await asyncio.sleep(PERIOD_S)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        try:
            if not replica.address:
                raise MessageError(_NO_ADDRESS)
            raw = await self._fetch(session, replica.address)
            summary = await asyncio.to_thread(read_summary, raw, self._now_s())
        except TimeoutError:
            self._failed(replica.name, f"no answer within {TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._failed(replica.name, str(error) or type(error).__name__)
        else:
            self._heard[replica.name] = _Heard(summary, self._clock())
            if self._errors.pop(replica.name, ""):
                logger.info(event("replica_seen", replica=replica.name))

    async def _fetch(self, session: aiohttp.ClientSession, address: str) -> bytes:
        token = self._token()
        headers: Mapping[str, str] = {"authorization": f"Bearer {token}"} if token else {}
        url = address.rstrip("/") + "/v1/summary"
        # No redirect: the token is for this replica.
        async with session.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise MessageError(f"{url} answered {answer.status}")
            raw = bytearray()
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise MessageError(f"{url} answered more than {MAX_BYTES} octets")
            return bytes(raw)

    def _failed(self, name: str, error: str) -> None:
        if self._errors.get(name) != error:
            self._errors[name] = error
            logger.warning(event("replica_not_asked", replica=name, error=error))

    def _is_fresh(self, heard: _Heard) -> bool:
        return self._clock() - heard.at_s < FRESH_S
