"""
The link to a control plane: one stream after the other, for as long as the process lives. *Cold.*

It never ends, whatever is wrong, and it never undoes anything: a control plane that is away, that says nothing or
nonsense, leaves the data path as it was. What is tried when is `transport.rota`, a conversation `session`, what a
line does `hearing`, what goes up `reports`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from math import inf
from random import random as system_random
from typing import Final

from sidecar import __version__
from sidecar.link.complaints import Complaints
from sidecar.link.fields import MessageError
from sidecar.link.hearing import Hearing
from sidecar.link.interfaces import LinkSettings, LinkState, Receiver, Subject
from sidecar.link.known_endpoints import KnownEndpoints
from sidecar.link.messages import PING_PERIOD_S, EndpointEntry
from sidecar.link.own_address import OwnAddress, fetch_metadata, find_own_address
from sidecar.link.reports.answers import Answers
from sidecar.link.reports.reporter import Reporter
from sidecar.link.session import End, poll, stream
from sidecar.link.transport.http_client import HttpClient, Transport, TransportError
from sidecar.link.transport.rota import Rota
from sidecar.link.transport.server import Server, parse_server
from sidecar.link.transport.tls import Tls
from sidecar.process_log import event

logger = logging.getLogger("sidecar.link")

LIVED_S: Final = PING_PERIOD_S
"""A conversation of such length is no failure, however it ends."""
WITHHELD_IN_A_ROW: Final = 2
"""Streams of which nothing came through, until polls are tried."""
STREAM_AGAIN_S: Final = 1800.0
"""After which a stream is tried again: the proxy may be gone, and a poll costs both sides more."""
RESEND_S: Final = 1.0
"""Between goodbyes while nobody has taken one."""


class Link:
    """
    See `interfaces`, which says what others need to know. Made on the event loop that it is to run on.

    Args:
        known: Endpoints by upstream that are in force already, such as those from the disk.
        transport: Default: HTTP/1.1 by `settings`.
        tls: How its servers are verified, and what is shown to them; default: by name and the settings' `trust_file`.
        environment: Where the pod's address is looked for.
        chance: From 0 to below 1.
        now_s: Time since the Unix epoch.

    Raises:
        ValueError: An address is none.
    """

    def __init__(
        self,
        settings: LinkSettings,
        subject: Subject,
        receiver: Receiver,
        *,
        known: Mapping[str, Iterable[EndpointEntry]] | None = None,
        transport: Transport | None = None,
        tls: Tls | None = None,
        environment: Mapping[str, str] = os.environ,
        chance: Callable[[], float] = system_random,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._now = asyncio.get_running_loop().time
        self._rota = Rota([parse_server(address) for address in settings.addresses], chance)
        self._transport = transport or HttpClient(
            user_agent=f"sidecar/{__version__}", token_file=settings.token_file, trust_file=settings.trust_file,
            connect_timeout_s=settings.connect_timeout_s, tls=tls,
        )  # fmt: skip
        self._complaints = Complaints(self._now)
        self._known = KnownEndpoints(known or {})
        self._reporter = Reporter(
            subject, self._transport, self._complaints, self._known.versions, lambda: self.state.own_address,
            lambda: self._hearing.left.set(),
            # A process that comes after this one has the clock on its side; nobody sends a thousand reports a second.
            first_seq=int(now_s() * 1000), timeout_s=settings.head_timeout_s, chance=chance,
        )  # fmt: skip
        self._answers = Answers(self._transport, self._complaints, settings.head_timeout_s)
        self._hearing = Hearing(
            subject, receiver, self._known, self._reporter, self._answers, self._rota, self._find_address, now_s
        )
        self._withheld = 0
        self._polls_until = inf if settings.form == "poll" else -inf
        self._work: asyncio.Task[None] | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        state = self.state
        return f"<Link {state.address!r} [{'CONNECTED' if state.is_connected else 'NOT CONNECTED'}]>"

    @property
    def state(self) -> LinkState:
        """How it stands."""
        return self._hearing.state

    # --- life --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep in touch until cancelled, or until `close`."""
        if self._is_closed:
            return
        self._work = asyncio.get_running_loop().create_task(self._keep_in_touch(), name="link")
        try:
            await asyncio.wait([self._work])
        finally:
            await self._stop()

    async def close(self) -> None:
        """End without a goodbye."""
        self._is_closed = True
        await self._stop()

    async def _stop(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])
        await self._answers.stop()
        await self._transport.close()

    def changed(self) -> None:
        """Report soon."""
        self._reporter.changed()

    def endpoints(self) -> dict[str, tuple[EndpointEntry, ...]]:
        """All that is known of endpoints, by upstream; `known` of the next link."""
        return self._known.entries()

    def keep_endpoints(self, upstreams: Collection[str]) -> None:
        """Forget what is known of all other upstreams."""
        self._known.keep(upstreams)

    async def goodbye(self, timeout_s: float) -> bool:
        """
        Tell that this instance leaves, and wait until all concerned have applied it.

        From now on every report says so, to whichever server is connected; without one, all are asked in turn.

        Returns:
            Whether they have, in time.
        """
        hearing = self._hearing
        self._reporter.is_leaving = True
        try:
            async with asyncio.timeout(timeout_s):
                while not hearing.left.is_set():
                    is_sent = await self._say_goodbye()
                    # `left` comes by the stream; without one it may only come as an answer, to the next goodbye.
                    waits_s = None if is_sent and hearing.connected_at is not None else RESEND_S
                    try:
                        async with asyncio.timeout(waits_s):
                            await hearing.left.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            logger.info(event("goodbye_unanswered", after_s=timeout_s))
        return hearing.left.is_set()

    async def _say_goodbye(self) -> bool:
        servers = self._rota.all()
        for server in servers[:1] if self._hearing.connected_at is not None else servers:
            if await self._reporter.send(server):
                return True
        return False

    # --- one conversation after the other ----------------------------------------------------------------------

    async def _keep_in_touch(self) -> None:
        reports = asyncio.get_running_loop().create_task(self._reporter.run(), name="reports")
        try:
            while True:
                await asyncio.sleep(await self._converse())
        finally:
            reports.cancel()
            await asyncio.wait([reports])

    async def _converse(self) -> float:
        """Have one conversation; seconds to wait before the next."""
        server = self._rota.current
        polls = self._now() < self._polls_until
        hearing, settings = self._hearing, self._settings
        hearing.on_attempt(server, is_polling=polls)
        try:
            if polls:
                end = await poll(hearing, self._transport, server, settings, self._polls_until)
            else:
                end = await stream(hearing, self._transport, server, settings)
        except (TransportError, MessageError) as error:
            end = End("failed", str(error))
        except Exception as error:  # a fault of ours must not end the link for good
            logger.exception(event("link_broken", address=str(server)))
            end = End("failed", repr(error))
        wait_s = self._wait_after(server, end)
        if not polls:
            self._consider_polls(server, end)
        hearing.on_over(end.why)
        return wait_s

    def _wait_after(self, server: Server, end: End) -> float:
        connected_at, now = self._hearing.connected_at, self._now()
        has_lived = connected_at is not None and now - connected_at >= LIVED_S
        if has_lived:
            self._rota.on_lived()
            self._complaints.settle("control_not_connected")
        if has_lived and end.how in ("ended", "moved"):
            logger.info(event("control_left", address=str(server), reason=end.why))
            return self._rota.on_end(now)
        wait_s = self._rota.on_failure(now, end.retry_after_s, stays=end.how == "unfit")
        self._complaints.tell("control_not_connected", end.why, address=str(server), failures=self._rota.failures)
        return wait_s

    def _consider_polls(self, server: Server, end: End) -> None:
        if end.is_withheld:
            self._withheld += 1
        elif self._hearing.connected_at is not None:
            self._withheld = 0
        if self._withheld >= WITHHELD_IN_A_ROW and self._settings.form == "auto":
            logger.warning(event("control_polled", address=str(server), reason="lines of a stream do not come through"))
            self._polls_until = self._now() + STREAM_AGAIN_S
            self._withheld = WITHHELD_IN_A_ROW - 1

    def _find_address(self, local_host: str, peer_host: str) -> Awaitable[OwnAddress]:
        return find_own_address(self._settings.address, self._environment, local_host, peer_host, fetch_metadata)
