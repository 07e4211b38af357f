"""
A process that has a data path: what its life (`process`) starts and ends. *Cold.*

A drain gives up what comes in before what goes out: readiness fails; for `drain.delay` inbound goes on while whoever
balances load notices; then it stops accepting, its idle connections close and its exchanges finish. Outbound stays open
all that time, because the app needs its dependencies to finish what it is doing; only then do outbound exchanges finish
too, and telemetry is sent. Where a successor has taken over the listening sockets, everything stops accepting at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sidecar import __version__, build, clock
from sidecar.admin.endpoints import Endpoints
from sidecar.compile.frames import Header
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.exchange import Direction
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSource
from sidecar.net.timers import Timers
from sidecar.net.tls.handshakes import Handshakes
from sidecar.process_log import event
from sidecar.runtime.admin_handler import AdminConnectionHandler
from sidecar.runtime.capture.watch import CaptureWatch
from sidecar.runtime.connection_handler import ProxyConnectionHandler
from sidecar.runtime.listeners import ConnectionHandler
from sidecar.runtime.mesh.app_watch import AppWatch
from sidecar.runtime.mesh.offered import Offered
from sidecar.runtime.process import Dependent, Process
from sidecar.runtime.reload import Reloader
from sidecar.runtime.takeover import NOT_TAKEN, Offer, Predecessor, TakeoverError, meeting_points
from sidecar.runtime.views import Views
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.discovery.endpoint_sink import EndpointSink, OwnEndpoints
from sidecar.upstream.registry import Registry

if TYPE_CHECKING:
    from sidecar.link.report import Counted, IdentityReport
    from sidecar.runtime.mesh.control import Control
    from sidecar.security.identity.holder import Identity
    from sidecar.security.tokens.holder import TokenKeys

logger = logging.getLogger(__name__)

CLOCK_PERIOD_S = 60.0
"""Between two looks at the system's clock, which may have been stepped."""

DRAIN_POLL_S = 0.02
FLUSH_SHARE = 0.2
"""Part of `drain.timeout` that is kept for sending telemetry, at most MAX_FLUSH_S."""
MAX_FLUSH_S = 2.0
INTERRUPT_FLUSH_S = 0.5

OFFER_PERIOD_S = 1.0
LAST_WORDS_S = 1.0
"""What outbound exchanges get after the app has ended, even if the drain's time is over."""

TAKEOVER_PATIENCE_S = 1.0
"""For how long idle connections are kept after a takeover, so that clients under load learn by a response to close."""


class Sidecar(Process):
    """
    One process.

    Attributes:
        reloader: The file and everything that it made.
        endpoint_sink: Hears of discovered names.
        app_watch: The app as others see it.
        capture: Whether connections are led here.
        offered: What a control plane has signed, for who holds certificates.
    """

    reloader: Reloader

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        source: PlanSource,
        loop: asyncio.AbstractEventLoop,
        *,
        takes_over: bool = False,
        dependent: Dependent | None = None,
        control: Control | None = None,
    ) -> None:
        super().__init__(loop, dependent)
        self.registry = Registry(handshakes=Handshakes(loop))
        self.endpoint_sink: EndpointSink = OwnEndpoints(self.registry.discovery)
        # Without a file until the first configuration says which.
        self.telemetry = Telemetry(
            TelemetrySettings(access_log_path=None),
            clusters=self._clusters,
            connections=self._connection_counts,
            environment=env,
        )
        self._timers = Timers(loop)
        self.reloader = Reloader(
            path, env, source, loop, self.telemetry, self.registry, self._timers, self._handler_for
        )
        self.offered = Offered()
        self.reloader.certificates.made = self._on_certificates
        self.reloader.tokens.made = self._on_token_keys
        self.views = Views(self, env)
        self._offer = Offer(loop, lambda: list(self.reloader.listeners.current.values()), self._on_taken, self._said)
        self._predecessor: Predecessor | None = None
        if takes_over:
            self.reloader.listeners.meet = self._meet
        self._has_closed_inbound = asyncio.Event()
        self._closing: asyncio.Handle | None = None
        self.capture = CaptureWatch(lambda: self.reloader.live, self.spawn)
        self.telemetry.numbers.capture = self.capture.sections
        self.app_watch = AppWatch(self._bound, is_followed=control is not None)
        self.reloader.on_installed = self._on_installed
        if control is not None:
            self.following = control.follow(self, self.reloader, self.reloader.listeners, env)
            self.telemetry.numbers.control = self.following.follower.numbers
            self.following.deliver_to(self.offered)
            self._edges = control.edges(self.telemetry.numbers.sections)

    # --- what others ask for -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Fail readiness and let inbound end; outbound and the process stay."""
        if self.state == "DRAINING" or not self.has_begun:
            return
        self.state = "DRAINING"
        delay_s = self._drain_delay_s()
        logger.info(event("drain_started", timeout_s=self._drain_timeout_s(), delay_s=delay_s))
        # Nothing may open an inbound listener again, nor offer one.
        self.reloader.close()
        self._offer.close()
        self.reloader.listeners.announce(Role.INBOUND)
        self._closing = self._loop.call_later(delay_s, self._close_inbound)
        if self.following is not None:
            self.following.say_goodbye(delay_s, self.end_delay)

    def end_delay(self) -> None:
        """Nobody sends requests any more: `drain.delay` need not be waited for."""
        if self._closing is not None:
            self._closing.cancel()
            logger.info(event("drain_left"))
            self._close_inbound()

    def reopen(self) -> None:
        """Open the access log anew."""
        self.telemetry.reopen()

    def _on_installed(self, header: Header, frames: Sequence[bytes]) -> None:
        self.app_watch.update(header, frames)
        self.capture.look()

    def _close_inbound(self) -> None:
        self._closing = None
        self.reloader.listeners.close((Role.INBOUND,), "drain")
        self._has_closed_inbound.set()

    def _on_taken(self) -> None:
        """A successor serves: everything that comes from now on is its own, probes of health included."""
        if self.state == "DRAINING":
            return
        self.state = "DRAINING"
        logger.info(event("taken_over", timeout_s=self._drain_timeout_s()))
        self.reloader.close()
        self.reloader.listeners.close(tuple(Role), "takeover", TAKEOVER_PATIENCE_S)
        self._has_closed_inbound.set()
        if self.following is not None:
            self.following.hand_over()
        self._quit.set()

    # --- life --------------------------------------------------------------------------------------------------

    async def _start(self) -> LoadOutcome:
        self._timers.start()
        self._timers.every(CLOCK_PERIOD_S, clock.synchronise)
        outcome = await (self.load("start") if self.following is None else self.following.start())
        if outcome.is_ok:
            await self.telemetry.start()
        return outcome

    # --- what a worker does otherwise: `workers.worker` --------------------------------------------------------

    async def load(self, trigger: str) -> LoadOutcome:
        """Put the configuration in force as it is now, if it is good."""
        return await self.reloader.load(trigger)

    def why_not_ready(self) -> str | None:
        """What `/ready` says against traffic, or None."""
        return self.views.not_ready()

    async def on_live(self) -> None:
        """The first configuration is in force: let a predecessor go, be found by a successor, follow the file."""
        if self._predecessor is not None:
            await self._predecessor.take_over()
        self._timers.every(OFFER_PERIOD_S, self._renew_offer)
        self._renew_offer()
        self.tell_descriptors()
        logger.info(event("live", version=__version__, build=build.KIND, pid=os.getpid(), file=self.reloader.path))
        self.watch_file()

    # --- the end -----------------------------------------------------------------------------------------------

    async def _meet(self, specs: Sequence[ListenerSpec]) -> Predecessor | None:
        """The sidecar that this one takes over from, if there is one."""
        predecessor = Predecessor(meeting_points(specs))
        self._predecessor = predecessor if await predecessor.meet() else None
        why = self.reloader.certificates.why_not_ready() if self._predecessor is not None else None
        if why is not None:
            predecessor.close()
            raise TakeoverError(NOT_TAKEN.format(why))
        return self._predecessor

    def _renew_offer(self) -> None:
        """Offer what is open to a successor, under the admin addresses in force, which a reload may have changed."""
        addresses = meeting_points([opened.spec for opened in self.reloader.listeners.current.values()])
        if self.state == "LIVE" and addresses and addresses != self._offer.addresses:
            self._offer.open(addresses)

    async def _drain_all(self) -> None:
        budget = self._drain_timeout_s()
        deadline = self._loop.time() + budget - self._flush_s()
        self.drain()
        await self._first(self._has_closed_inbound, self._interrupt)
        await self._until_empty(Direction.INBOUND, deadline)
        if self._dependent is not None and self.has_lived:
            # As long as the app runs it may need its dependencies; how long that is, whoever sent the signal decides.
            self._dependent.send(signal.SIGTERM)
            await self._dependent.ended.wait()
            deadline = max(deadline, self._loop.time() + LAST_WORDS_S)
        self.reloader.listeners.close((Role.OUTBOUND,), "drain")
        await self._until_empty(Direction.OUTBOUND, deadline)

    async def _until_empty(self, direction: Direction, deadline: float) -> None:
        """Wait until no connection of this direction is left, until the deadline, or until SIGINT."""
        assert self.reloader.live is not None
        connections = self.reloader.live.connections[direction]
        while connections and not self._interrupt.is_set():
            if self._loop.time() >= deadline:
                logger.warning(
                    event("connections_cut", direction=direction.label, count=len(connections), reason="drain_timeout")
                )
                return
            await asyncio.sleep(DRAIN_POLL_S)

    async def _end(self) -> None:
        """Give everything back, in the order opposite to the start; leaves no task."""
        self.state = "DRAINING"
        self.reloader.close()
        self._offer.close()
        if self._predecessor is not None:
            self._predecessor.close()
        if self._dependent is not None:
            self._dependent.kill()
        await self._end_tasks()
        if self.following is not None:
            await self.following.follower.stop()
        await self.app_watch.stop()
        listeners = self.reloader.listeners
        admin_handlers = [opened.handler for role in (Role.METRICS, Role.ADMIN) for opened in listeners.with_role(role)]
        listeners.close((Role.INBOUND, Role.OUTBOUND), "stop")
        if self.reloader.live is not None:
            for connections in self.reloader.live.connections:
                for connection in tuple(connections):
                    connection.abort()
        await self.registry.stop()
        if self.reloader.compiler.passthrough is not None:
            self.reloader.compiler.passthrough.close_idle("shutdown")
        # Aborted exchanges are recorded when the loop tells their connections; let it, before the last flush.
        await asyncio.sleep(0)
        await self.telemetry.stop(INTERRUPT_FLUSH_S if self._interrupt.is_set() else self._flush_s())
        self._timers.stop()
        # Last, so that probes see why until the very end.
        listeners.close((Role.METRICS, Role.ADMIN), "stop")
        for handler in admin_handlers:
            if isinstance(handler, AdminConnectionHandler):
                handler.abort()
        if self.reloader.config is not None:
            logger.info(event("stopped", uptime_s=round(time.time() - self.started_s, 1)))

    @property
    def identity(self) -> Identity | None:
        """Certificates; None where no configuration has asked for TLS yet."""
        return self.reloader.certificates.identity

    @property
    def token_keys(self) -> TokenKeys | None:
        """Keys for tokens; None where no rule has asked for them yet."""
        return self.reloader.tokens.keys

    def _on_certificates(self, identity: Identity) -> None:
        # Where there is no TLS nothing of it is loaded.
        from sidecar.security.identity.numbers import sections

        self.offered.attach(identity)
        self.telemetry.numbers.certificates = partial(sections, identity)

    def _on_token_keys(self, keys: TokenKeys) -> None:
        # Where no rule asks for tokens nothing of it is loaded.
        from sidecar.security.tokens.shown import sections

        self.telemetry.numbers.tokens = partial(sections, keys)

    # --- connections and numbers ------------------------------------------------------------------------------------

    def _handler_for(self, spec: ListenerSpec) -> ConnectionHandler:
        if spec.role is Role.METRICS:
            return AdminConnectionHandler(Endpoints.read_only(self.views), spec)
        if spec.role is Role.ADMIN:
            return AdminConnectionHandler(Endpoints.everything(self.views), spec)
        assert self.reloader.live is not None
        return ProxyConnectionHandler(self.reloader.live, spec, self._loop, self.reloader.certificates.side_of)

    # --- what following a control plane needs: `mesh.follower.Host` --------------------------------------------

    def identity_report(self) -> IdentityReport | None:
        """What is held of an identity that is not from the control plane."""
        if self.identity is None:
            return None
        from sidecar.runtime.mesh.certificate_report import of_holder

        return of_holder(self.identity)

    async def read_edges(self) -> Counted:
        """What was counted since the last call."""
        return await self._edges.read()

    def _said(self) -> bytes:
        """What a successor is to know."""
        return self.following.follower.handed_over() if self.following is not None else b""

    def _bound(self, role: Role, address: str) -> str | None:
        opened = self.reloader.listeners.current.get((role, address))
        return opened.bound if opened is not None else None

    # --- parts -------------------------------------------------------------------------------------------------

    def _clusters(self) -> list[Cluster]:
        passthrough = self.reloader.compiler.passthrough
        return [*self.registry.clusters.values(), *([passthrough.cluster] if passthrough else [])]

    def _connection_counts(self) -> Mapping[Direction, int]:
        live = self.reloader.live
        return live.connection_counts() if live is not None else {}

    def _drain_timeout_s(self) -> float:
        live = self.reloader.live
        return live.plan.drain_timeout_s if live is not None else 0.0

    def _drain_delay_s(self) -> float:
        """Nothing where no inbound listener is, or no app any more that could answer."""
        live = self.reloader.live
        is_alone = self._dependent is not None and self._dependent.ended.is_set()
        if live is None or is_alone or not self.reloader.listeners.with_role(Role.INBOUND):
            return 0.0
        return live.plan.drain_delay_s

    def _flush_s(self) -> float:
        return min(MAX_FLUSH_S, self._drain_timeout_s() * FLUSH_SHARE)
