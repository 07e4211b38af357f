"""
What is done with each line that a control plane sends, and how the link stands meanwhile. *Cold.*

Silence changes nothing, so nothing here undoes anything: a line adds to what is known, and what was told before holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sidecar.link.interfaces import LinkState, Receiver, Subject
from sidecar.link.known_endpoints import KnownEndpoints
from sidecar.link.messages import Absent, Ask, Config, Current, Endpoints, Left, Line, Ping, Renew, Watch
from sidecar.link.own_address import OwnAddress
from sidecar.link.reports.answers import Answers
from sidecar.link.reports.reporter import Reporter
from sidecar.link.transport.http_client import Answer
from sidecar.link.transport.rota import Rota
from sidecar.link.transport.server import Server
from sidecar.process_log import event

logger = logging.getLogger("sidecar.link")


class Hearing:
    """
    A `session.Listener`.

    Args:
        find_address: This instance's address, by the local and the other end of a connection to the control plane.
        now_s: Time since the Unix epoch.

    Attributes:
        connected_at: Loop time since which lines come; None if none do.
        left: Set once all concerned have applied a goodbye.
    """

    def __init__(
        self,
        subject: Subject,
        receiver: Receiver,
        known: KnownEndpoints,
        reporter: Reporter,
        answers: Answers,
        rota: Rota,
        find_address: Callable[[str, str], Awaitable[OwnAddress]],
        now_s: Callable[[], float],
    ) -> None:
        self.connected_at: float | None = None
        self.left = asyncio.Event()
        self._subject = subject
        self._receiver = receiver
        self._known = known
        self._reporter = reporter
        self._answers = answers
        self._find_address = find_address
        self._rota = rota
        self._now_s = now_s
        self._ends = ("", "")
        self._hash = ""
        self._last_heard_s = 0.0
        self._state = LinkState(address=str(rota.current), since_s=now_s())

    @property
    def state(self) -> LinkState:
        """How the link stands."""
        return replace(self._state, last_heard_s=self._last_heard_s)

    # --- what a session asks for -------------------------------------------------------------------------------

    def question(self) -> Watch:
        """Who asks, and what it has: the file that came last on this link, else what the process says that it has."""
        who = self._subject.watch()
        return replace(who, config=self._hash or who.config, endpoints=self._known.wanted())

    def jitter(self, ceiling_s: float) -> float:
        """Anything from 0 to so much."""
        return self._rota.jitter(ceiling_s)

    async def on_head(self, server: Server, answer: Answer) -> None:
        """A connection to the control plane shows by which address this instance goes there."""
        ends = (answer.local_host, answer.peer_host)
        if ends == self._ends and self._state.own_address:
            return
        found = await self._find_address(*ends)
        self._ends = ends
        if not found.host and found.why != self._state.own_address_why:
            logger.warning(event("own_address_unknown", reason=found.why))
        if self._state.own_address != found.host:
            self._reporter.changed()
        self._set(own_address=found.host, own_address_why=found.why)

    def on_heard(self, server: Server) -> None:
        """Lines come from this server."""
        self._last_heard_s = self._now_s()
        if self.connected_at is None:
            self.connected_at = asyncio.get_running_loop().time()
            logger.info(event("control_connected", address=str(server)))
            self._set(is_connected=True, address=str(server), since_s=self._last_heard_s, failures=0, why="")
            self._reporter.on_connected(server)

    async def take(self, server: Server, line: Line) -> str:
        """Do what a line says; why the session has to begin anew, or an empty text."""
        match line:
            case Config():
                self._hash = line.hash
                self._set(revision=line.revision)
                with _guarded("on_config"):
                    self._receiver.on_config(line)
            case Current():
                self._hash = line.hash
                self._set(revision=line.revision)
                with _guarded("on_current"):
                    self._receiver.on_current(line)
            case Absent():
                with _guarded("on_absent"):
                    self._receiver.on_absent(line.why)
            case Renew():
                with _guarded("on_renew"):
                    self._receiver.on_renew(line.within_s)
            case Endpoints():
                return await self._take_endpoints(line)
            case Ping():
                self._set(revision=line.revision)
            case Left():
                self.left.set()
            case Ask():
                self._answers.on_ask(server, line, self._receiver.answer)
        return ""

    async def _take_endpoints(self, change: Endpoints) -> str:
        found = await self._known.apply(change)
        if found is None:
            return f"what it said of the endpoints of {change.upstream} does not fit to what is known"
        with _guarded("on_endpoints"):
            self._receiver.on_endpoints(change.upstream, change.version, found)
        if change.is_awaited:
            self._reporter.changed()
        return ""

    # --- how it stands -----------------------------------------------------------------------------------------

    def on_attempt(self, server: Server, *, is_polling: bool) -> None:
        """It is tried now."""
        self._set(address=str(server), is_polling=is_polling)

    def on_over(self, why: str) -> None:
        """No lines come any more; what they said holds."""
        was_connected, self.connected_at = self.connected_at is not None, None
        self._reporter.on_disconnected()
        since_s = self._now_s() if was_connected else self._state.since_s
        self._set(is_connected=False, since_s=since_s, failures=self._rota.failures, why=why)

    def _set(self, **changes: object) -> None:
        state = replace(self._state, **changes)  # type: ignore[arg-type]
        if state != self._state:
            self._state = state
            with _guarded("on_state"):
                self._receiver.on_state(self.state)


@contextmanager
def _guarded(call: str) -> Iterator[None]:
    """A fault of whoever is told must not end the stream: it would come again with the same line."""
    try:
        yield
    except Exception:
        logger.exception(event("receiver_failed", call=call))
