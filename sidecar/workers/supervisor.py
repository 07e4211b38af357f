"""
The process above the workers: it owns what they share, and speaks for them. *Cold; no request passes through it.*

It follows the file (`reload`); it has the metrics and admin listeners; it keeps the sockets of the others, and lends
them. Its life is any process's (`runtime.process`), a drain the workers' own (`runtime.server`), but that outbound of
all stays open until inbound of all has come to rest, and the app, if it is a child, has ended.

If this process dies, its workers see it, drain and end: whoever restarts it finds the ports free again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sidecar import __version__, build
from sidecar.admin.endpoints import Endpoints
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSource
from sidecar.process_log import event
from sidecar.redact import Secrets
from sidecar.runtime.admin_handler import AdminConnectionHandler
from sidecar.runtime.app_process import AppProcess
from sidecar.runtime.listeners import ConnectionHandler, Listeners
from sidecar.runtime.mesh.app_watch import AppWatch
from sidecar.runtime.process import Process
from sidecar.runtime.takeover import NOT_TAKEN, Offer, Predecessor, meeting_points
from sidecar.workers.group import Group
from sidecar.workers.identity import report_of
from sidecar.workers.reload import OWN, GroupReloader
from sidecar.workers.sockets import Sockets
from sidecar.workers.views import GroupViews

if TYPE_CHECKING:
    # It needs the reader of files, and a supervisor nothing of the data path.
    from sidecar.link.report import Counted, IdentityReport
    from sidecar.runtime.mesh.control import Control
    from sidecar.upstream.discovery.endpoint_sink import EndpointSink

logger = logging.getLogger(__name__)

OFFER_PERIOD_S = 1.0

STOP_SLACK_S = 5.0
"""What a worker gets beyond `drain.timeout` before it is killed."""
INTERRUPT_LIMIT_S = 3.0


class Supervisor(Process):
    """
    The supervisor.

    Args:
        path: Of the file.
        env: Of the processes.
        source: Has the configuration, of always as many workers.
        loop: The loop of this process.
        count: How many workers there are to be.
        takes_over: Inherit the sockets of the sidecar that has the same admin address, if there is one.
        dependent: The app, if it is to be this process's child.
        control: The control plane that is followed; None for none.

    Attributes:
        group: The workers.
        listeners: Metrics and admin.
        endpoint_sink: Hears of discovered names, for all workers.
        sockets: The others.
        reloader: The file, and what came of it.
        app_watch: The app as others see it.
    """

    reloader: GroupReloader

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        source: PlanSource,
        loop: asyncio.AbstractEventLoop,
        *,
        count: int,
        takes_over: bool = False,
        dependent: AppProcess | None = None,
        control: Control | None = None,
    ) -> None:
        super().__init__(loop, dependent)
        self.path = path
        self.env = env
        self.count = count
        self.sockets = Sockets(count)
        self.group = Group(path, env, count, self.sockets)
        self.group.objection = self._why_not_taken
        self.endpoint_sink: EndpointSink = self.group.endpoints
        self.views = GroupViews(self, env)
        self.listeners = Listeners(loop, self._handler_for)
        self.listeners.wants = lambda spec: spec.role in OWN
        if takes_over:
            self.listeners.meet = self._meet
        self.reloader = GroupReloader(path, source, self.group, self.listeners, self.sockets, Secrets.of(env))
        self._offer = Offer(
            loop, lambda: [*self.listeners.current.values(), *self.sockets.offered()], self._on_taken, self._said
        )
        self.app_watch = AppWatch(self._bound, is_followed=control is not None)
        self.reloader.on_installed = self.app_watch.update
        if control is not None:
            self.following = control.follow(self, self.reloader, self.listeners, env)
            self.following.deliver_to(self.group.identity)
            self._edges = control.edges(self.group.merged.sections, self.group.report)

    # --- what others ask for -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Fail readiness and let inbound end in all workers; outbound and the processes stay."""
        if self.state == "DRAINING" or not self.has_begun:
            return
        self.state = "DRAINING"
        logger.info(event("drain_started", workers=len(self.group.live)))
        self.reloader.is_closed = True
        self.group.is_draining = True
        self._offer.close()
        # Before the workers close theirs, so that their closing is the last, and empties the backlogs.
        self.sockets.close((Role.INBOUND,))
        self.group.tell("drain")
        if self.following is not None:
            self.following.say_goodbye(self._drain_delay_s(), lambda: self.group.tell("left"))

    async def load(self, trigger: str) -> LoadOutcome:
        """Read the file now and put it in force in all workers if it is good."""
        return await self.reloader.load(trigger)

    def reopen(self) -> None:
        """Open the access log anew, in all workers."""
        self.group.tell("reopen")

    def _on_taken(self) -> None:
        """A successor serves: everything that comes from now on is its own, probes of health included."""
        if self.state == "DRAINING":
            return
        self.state = "DRAINING"
        logger.info(event("taken_over", timeout_s=self._drain_timeout_s()))
        self.reloader.is_closed = True
        self.group.end()
        self.listeners.close(OWN, "takeover")
        self.sockets.close(tuple(Role))
        self.group.tell("taken")
        if self.following is not None:
            self.following.hand_over()
        self._quit.set()

    # --- life --------------------------------------------------------------------------------------------------

    async def _start(self) -> LoadOutcome:
        try:
            await self.group.start()
        except OSError as error:
            raise RuntimeError(f"cannot start workers: {error}") from error
        return await (self.load("start") if self.following is None else self.following.start())

    async def begin(self) -> None:
        """All workers have a first configuration, be it that of the local file alone."""
        self.group.keep()
        await super().begin()

    def why_not_ready(self) -> str | None:
        """What `/ready` says against traffic, or None."""
        return self.views.not_ready()

    async def on_live(self) -> None:
        """All workers have the first whole file."""
        if self.sockets.predecessor is not None:
            await self.sockets.predecessor.take_over()
            self.sockets.own()
        self.tell_descriptors()
        workers = len(self.group.live)
        logger.info(
            event("live", version=__version__, build=build.KIND, pid=os.getpid(), file=self.path, workers=workers)
        )
        self.spawn(self._be_found(), "offer")
        self.watch_file()

    async def _drain_all(self) -> None:
        timeout_s = self._drain_timeout_s()
        self.drain()
        self.group.end()
        members = self.group.live
        self.group.tell("quit")
        at_rest = self.spawn(self._all_at_rest(), "drain")
        await self._first(at_rest, self._interrupt)
        if self._dependent is not None and self.has_lived and not self._interrupt.is_set():
            # As long as the app runs it may need its dependencies; how long that is, whoever sent the signal decides.
            self._dependent.send(signal.SIGTERM)
            await self._dependent.ended.wait()
        self.sockets.close((Role.OUTBOUND,))
        for member in members:
            member.tell("release")
        ended = self.spawn(self.group.ended(timeout_s + STOP_SLACK_S), "stop")
        await self._first(ended, self._interrupt)

    async def _all_at_rest(self) -> None:
        await asyncio.gather(*(member.inbound_empty.wait() for member in self.group.live))

    async def _end(self) -> None:
        """Give everything back; leaves no task and no process."""
        self.state = "DRAINING"
        self.reloader.is_closed = True
        self._offer.close()
        if self.sockets.predecessor is not None:
            self.sockets.predecessor.close()
        if self._dependent is not None:
            self._dependent.kill()
        self.group.end()
        self.sockets.close(tuple(Role))
        self.group.tell("interrupt")
        await self.group.ended(INTERRUPT_LIMIT_S)
        await self._end_tasks()
        if self.following is not None:
            await self.following.follower.stop()
        await self.app_watch.stop()
        await self.group.stop()
        # Last, so that probes see why until the very end.
        handlers = [opened.handler for opened in self.listeners.current.values()]
        self.listeners.close(OWN, "stop")
        for handler in handlers:
            if isinstance(handler, AdminConnectionHandler):
                handler.abort()
        if self.reloader.last_good is not None:
            logger.info(event("stopped", uptime_s=round(time.time() - self.started_s, 1)))

    # --- before and after this process -------------------------------------------------------------------------

    async def _meet(self, specs: Sequence[ListenerSpec]) -> Predecessor | None:
        """The sidecar that this one takes over from, if there is one."""
        predecessor = Predecessor(meeting_points(specs), self.count)
        self.sockets.predecessor = predecessor if await predecessor.meet() else None
        return self.sockets.predecessor

    def why_nobody(self) -> str | None:
        """Why no worker has the identity that it should have, or None: one that has it is enough."""
        if self.following is not None and self._is_signed_for():
            return self.following.follower.not_ready()
        return self.group.why_not_ready() or None

    def _is_signed_for(self) -> bool:
        """Whether a control plane has, or may have, certificates for all workers together."""
        follower = self.following.follower if self.following is not None else None
        return follower is not None and (follower.identity is not None or follower.is_unsigned)

    def _why_not_taken(self) -> str:
        # As `Sidecar._meet` has it for one process.
        if self.sockets.predecessor is None or self.has_lived or self._is_signed_for():
            return ""
        why = self.group.why_not_ready()
        return NOT_TAKEN.format(why) if why else ""

    async def _be_found(self) -> None:
        """Offer what is open to a successor, under the admin addresses in force, which a reload may have changed."""
        while self.state == "LIVE":
            addresses = meeting_points([opened.spec for opened in self.listeners.current.values()])
            if addresses and addresses != self._offer.addresses:
                self._offer.open(addresses)
            await asyncio.sleep(OFFER_PERIOD_S)

    # --- parts -------------------------------------------------------------------------------------------------

    def _handler_for(self, spec: ListenerSpec) -> ConnectionHandler:
        is_public = spec.role is Role.METRICS
        endpoints = Endpoints.read_only(self.views) if is_public else Endpoints.everything(self.views)
        return AdminConnectionHandler(endpoints, spec)

    # --- what following a control plane needs: `mesh.follower.Host` --------------------------------------------

    def identity_report(self) -> IdentityReport | None:
        """What workers hold of an identity that is not from the control plane."""
        return report_of(member.certificate for member in self.group.live)

    async def read_edges(self) -> Counted:
        """What all workers counted since the last call."""
        return await self._edges.read()

    def _said(self) -> bytes:
        """What a successor is to know."""
        return self.following.follower.handed_over() if self.following is not None else b""

    def _bound(self, role: Role, address: str) -> str | None:
        shared = self.sockets.current.get((role, address))
        return shared.bound if shared is not None else None

    def _drain_delay_s(self) -> float:
        """Nothing where no inbound listener is."""
        if not any(one.role == Role.INBOUND.value for one in self.reloader.wanted):
            return 0.0
        return max((float(member.facts.get("drain_delay_s", 0.0)) for member in self.group.live), default=0.0)

    def _drain_timeout_s(self) -> float:
        return max((float(member.facts.get("drain_timeout_s", 0.0)) for member in self.group.live), default=0.0)
