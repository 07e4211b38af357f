"""
The other replicas: what their sidecars do, asked every two seconds, and further questions when somebody has one. *On
the loop; what they answer is read in a thread.*

Each is asked by itself: one that hangs makes nobody wait for the others. Whatever is asked of a replica is what it
knows at first hand (`/v1/here/...`), which it answers without asking anybody: there are no loops.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from sidecar.control.engines.interface import Replica
from sidecar.control.replicas.differences import Heard, hear
from sidecar.control.replicas.summary import Summary
from sidecar.link.fields import MessageError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

PERIOD_S: Final = 2.0
TIMEOUT_S: Final = 4.0
"""Of one question for the summary; with a period, less than `FRESH_S`: one that is slow all the time is seen."""
FRESH_S: Final = 7.0
"""For which a summary stands: one that is late by a period or two is no loss."""
MAX_BYTES: Final = 64 * 1024 * 1024
_NO_ADDRESS: Final = "it says no address: --advertise"


class PeerError(Exception):
    """
    A replica did not answer as it should; the text says why.

    Attributes:
        status: What it answered; 0: nothing.
        is_late: Whether it was waited for in vain.
    """

    def __init__(self, text: str, status: int = 0, *, is_late: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.is_late = is_late


@dataclass(frozen=True, slots=True)
class _Known:
    heard: Heard
    at_s: float


class Peers:
    """
    Args:
        name: Of this replica.
        token: Gives the bearer token that the others know, which is one of this replica's; empty: none.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch, on this replica's clock.

    Attributes:
        context: What to say TLS with to `https://`; None: as to any site.
    """

    def __init__(
        self, name: str, token: Callable[[], str], clock: Callable[[], float], now_s: Callable[[], float]
    ) -> None:
        self._name = name
        self.context: Callable[[], ssl.SSLContext | None] = lambda: None
        self._token = token
        self._clock = clock
        self._now_s = now_s
        self._session: aiohttp.ClientSession | None = None
        self._others: tuple[Replica, ...] | None = None
        self._known: dict[str, _Known] = {}
        self._errors: dict[str, str] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def use(self, replicas: Iterable[Replica]) -> None:
        """All that there are, this one included; those that are not among them any more are forgotten."""
        self._others = tuple(one for one in replicas if one.name != self._name)
        names = {one.name for one in self._others}
        self._known = {name: known for name, known in self._known.items() if name in names}
        self._errors = {name: error for name, error in self._errors.items() if name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the others, seen or not."""
        return tuple(one.name for one in self._others or ())

    @property
    def summaries(self) -> list[Summary]:
        """Of those that are seen, by name."""
        return list(self.by_name.values())

    @property
    def by_name(self) -> dict[str, Summary]:
        """The summaries of those that are seen."""
        return {name: known.heard.summary for name, known in sorted(self._known.items()) if self._is_fresh(known)}

    @property
    def unseen(self) -> tuple[str, ...]:
        """Who is not seen, and of whom that is so for those that are."""
        if self._others is None:
            return ("the other replicas",)
        found = [one.name for one in self._others if not self.is_seen(one.name)]
        for name, known in self._known.items():
            if self._is_fresh(known):
                found += (f"{name}: {why}" for why in known.heard.summary.unseen)
        return tuple(found)

    def is_seen(self, name: str) -> bool:
        """Whether it answered lately, or is this one."""
        known = self._known.get(name)
        return name == self._name or (known is not None and self._is_fresh(known))

    def error(self, name: str) -> str:
        """Why a replica did not answer when it was asked last; empty if it did."""
        return self._errors.get(name, "")

    def unseen_why(self, name: str) -> str:
        """For people, of one that is not seen."""
        return f"not seen: {self.error(name) or 'it has not answered yet'}"

    def ahead_s(self, name: str) -> float:
        """By how much its clock is ahead of this one's."""
        known = self._known.get(name)
        return known.heard.ahead_s if known is not None else 0.0

    async def run(self, on_heard: Callable[[], None]) -> None:
        """Ask for summaries, again and again; ends only by being cancelled."""
        async with aiohttp.ClientSession(auto_decompress=True) as session:
            self._session = session
            try:
                while True:
                    for one in self._others or ():
                        if one.name not in self._asking:
                            task = asyncio.create_task(self._ask(one, on_heard))
                            self._asking[one.name] = task
                            task.add_done_callback(lambda _, name=one.name: self._asking.pop(name))  # type: ignore[misc]
                    await asyncio.sleep(PERIOD_S)
            finally:
                self._session = None
                asking = tuple(self._asking.values())
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

    async def ask(self, name: str, path: str, timeout_s: float, body: Mapping[str, Any] | None = None) -> bytes:
        """
        What one of the others answers with 200.

        Args:
            path: From `/v1/here/` on.
            body: Of a POST, as JSON; None: a GET.

        Raises:
            PeerError: It is not seen, or did not answer so, or not in time.
        """
        replica = next((one for one in self._others or () if one.name == name), None)
        if replica is None or not self.is_seen(name):
            raise PeerError(self.unseen_why(name))
        return await self._fetch(replica, f"/v1/here/{path}", timeout_s, body)

    async def _ask(self, replica: Replica, on_heard: Callable[[], None]) -> None:
        name = replica.name
        known = self._known.get(name)
        before = known.heard if known is not None else Heard()
        try:
            raw = await self._fetch(replica, f"/v1/here/summary?since={before.at}", TIMEOUT_S)
            heard = await asyncio.to_thread(hear, before, raw, self._now_s())
        except (PeerError, MessageError) as error:
            self._failed(name, str(error))
            if isinstance(error, MessageError) and known is not None and self._known.get(name) is known:
                # What it was is known for as long as it stands; the next time it is asked for all of it.
                self._known[name] = _Known(Heard("", before.summary, before.ahead_s), known.at_s)
            return
        if name in self.names:
            self._known[name] = _Known(heard, self._clock())
            on_heard()
        if self._errors.pop(name, ""):
            logger.info(event("replica_seen", replica=name))

    async def _fetch(
        self, replica: Replica, path: str, timeout_s: float, body: Mapping[str, Any] | None = None
    ) -> bytes:
        """Raises PeerError."""
        if not replica.address:
            raise PeerError(_NO_ADDRESS)
        if self._session is None:
            raise PeerError("nobody is asked yet")
        token = self._token()
        headers: Mapping[str, str] = {"authorization": f"Bearer {token}"} if token else {}
        url = replica.address.rstrip("/") + path
        try:
            async with (
                asyncio.timeout(timeout_s),
                # No redirect: the token is for this replica.
                self._session.request(
                    "GET" if body is None else "POST",
                    url,
                    json=body,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self.context() or True,
                ) as answer,
            ):
                raw = bytearray()
                async for chunk in answer.content.iter_any():
                    raw += chunk
                    if len(raw) > MAX_BYTES:
                        raise PeerError(f"{url} answered more than {MAX_BYTES} octets")
                if answer.status != 200:
                    raise PeerError(f"{url} answered {answer.status}", answer.status)
                return bytes(raw)
        except TimeoutError:
            raise PeerError(f"no answer within {timeout_s:g} s", is_late=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PeerError(str(error) or type(error).__name__) from None

    def _failed(self, name: str, error: str) -> None:
        if name in self.names and self._errors.get(name) != error:
            self._errors[name] = error
            logger.warning(event("replica_not_asked", replica=name, error=error))

    def _is_fresh(self, known: _Known) -> bool:
        return self._clock() - known.at_s < FRESH_S
