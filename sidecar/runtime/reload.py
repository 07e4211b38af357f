"""
How a configuration takes the place of another: read, build, bind, swap; or refuse and change nothing. *Cold.*

    read and judge (a process) -> look up new names -> build (slices) -> bind what is new -> | swap | -> close the rest

Everything before the bar may fail, and then leaves no trace but a log, a metric and what `/config` shows. The swap
itself does not await: no request sees half of a reload. Exchanges in flight keep the plan that they began with; it is
let go in slices when the last of them is over.

What comes from outside of this process are frames, and whoever has them is a `PlanSource`; when, and what is told of
it, is `loader.config_loader`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sidecar.compile.effective import Effective
from sidecar.compile.frames import Header
from sidecar.compile.plan import Compiler, Draft, make_draft
from sidecar.compile.telemetry import telemetry_settings
from sidecar.compile.time_slices import in_slices
from sidecar.config.problems import Problem
from sidecar.insight.preview.wire import pack
from sidecar.loader.config_loader import ClosedError, ConfigLoader, NotHereError
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSource
from sidecar.net.splice import SplicePipe
from sidecar.net.timers import Timers
from sidecar.process_log import event
from sidecar.proxy.live import Live
from sidecar.proxy.plan import Plan
from sidecar.proxy.recent import Recent
from sidecar.proxy.split_sides import SplitSides
from sidecar.redact import Secrets
from sidecar.runtime.certificates.keeper import Certificates
from sidecar.runtime.listeners import HandlerFactory, ListenerError, Listeners
from sidecar.runtime.loop import without_collection
from sidecar.runtime.old_plans import OldPlans
from sidecar.runtime.tokens.keeper import TokenKeeper
from sidecar.telemetry.recorder import Telemetry
from sidecar.upstream.registry import Registry

if TYPE_CHECKING:
    from sidecar.config.model.root import Config

logger = logging.getLogger(__name__)

EXPIRY_PERIOD_S = 5.0
"""Between two looks for connections whose clients' certificates end."""

DNS_TIMEOUT_S = 2.0
"""What the first lookups of new upstreams may take together; one without an answer begins without endpoints."""


class Reloader(ConfigLoader):
    """
    Reads one file, again and again, into the live data path.

    Args:
        path: Of the file, for problems and for seeing that it changed.
        env: Of the process, of which nothing secret is shown.
        source: Has the configuration.
        loop: The loop of the data path.
        telemetry: Reconfigured at each load.
        registry: Of upstreams.
        timers: Of the data path.
        handler_for: Makes what stands behind the listeners; asked only after `live` exists.

    Attributes:
        live: The data path; None until the first file was good.
        listeners: What is open.
        config: The configuration in force without its routes, upstreams and tests; None until the first file was good.
        effective: All of it, explained.
        recent: Heads of the last requests.
        compiler: Makes the plans.
        certificates: What the configuration in force needs of them.
        tokens: What it needs to verify tokens.
    """

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        source: PlanSource,
        loop: asyncio.AbstractEventLoop,
        telemetry: Telemetry,
        registry: Registry,
        timers: Timers,
        handler_for: HandlerFactory,
    ) -> None:
        super().__init__(path, source, Secrets.of(env))
        self.live: Live | None = None
        self.config: Config | None = None
        self.effective: Effective | None = None
        self.listeners = Listeners(loop, handler_for)
        self._loop = loop
        self._telemetry = telemetry
        self._registry = registry
        self._timers = timers
        self.recent = Recent()
        self.compiler = Compiler(telemetry.scope, self.recent)
        self.certificates = Certificates()
        self.tokens = TokenKeeper()
        self._split_sides = SplitSides()
        self._old_plans = OldPlans(loop, lambda: registry.clusters)
        self._is_closed = False

    def close(self) -> None:
        """Refuse every further load, because the process ends and must not open listeners again."""
        self._is_closed = True
        self.certificates.stop()
        self.tokens.stop()
        self._old_plans.close()

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        with without_collection():
            await self._replace(frames)

    async def _replace(self, frames: Sequence[bytes]) -> None:
        if self._is_closed:
            raise ClosedError()
        draft = await in_slices(make_draft(frames))
        preparation = await self._registry.prepare(draft.clusters, DNS_TIMEOUT_S)
        built: Plan | None = None
        try:
            plan = built = await in_slices(self.compiler.compile(draft, preparation.clusters, self.generation + 1))
            settings = telemetry_settings(draft.written.settings)
            if self.live is None:
                # Handlers need it; nothing is open yet, so nobody can reach it before the swap below.
                names, handshakes = self._registry.names, self._registry.handshakes
                self.live = Live(
                    plan, self._telemetry, self._timers, self._loop, names, SplicePipe(), handshakes=handshakes
                )
                self._timers.every(EXPIRY_PERIOD_S, self.live.expire)
            problems = await self.certificates.prepare(draft)
            problems += await self.tokens.prepare(plan, draft.header.pushed)
            if problems:
                raise NotHereError(problems)
            change = await self.listeners.open(draft.listeners)
            if self._is_closed:
                change.abandon()
                raise ClosedError()
        except BaseException as error:
            preparation.abandon()
            self.certificates.abandon()
            if built is not None:
                self._old_plans.add(built)
            if isinstance(error, ListenerError):
                raise NotHereError([_problem_at(draft, error)]) from None
            raise
        # --- the swap: from here to the next await, all or nothing ---
        self.certificates.commit(draft, preparation.commit())
        self.tokens.commit(plan)
        self._telemetry.reconfigure(settings)
        if self.live.plan is not plan:
            self._old_plans.add(self.live.plan)
        self.live.plan = plan
        self.config = config = draft.written.settings
        self.recent.configure(config.telemetry.recent_requests.keep, config.telemetry.recent_requests.max_size)
        self.effective = Effective(draft.header.pushed or self.path, draft.written, self.secrets)
        self.generation += 1
        self._telemetry.config_applied(plan.config_hash, is_reload=self.generation > 1)
        # --- end of the swap ---
        await change.commit()
        self.certificates.start()
        await in_slices(self._split_sides.look(plan))
        found, wanted = self.live.descriptors, plan.limits.max_connections
        if wanted > found.connections:
            shown = {"limit": found.limit, "max_connections": wanted, "possible_connections": found.connections}
            logger.warning(event("descriptors_short", **shown))

    async def _rings(self) -> Sequence[Sequence[bytes]]:
        return [pack(self.recent)]

    def _count(self, outcome: LoadOutcome) -> None:
        self._telemetry.config_loaded(outcome.took_s, is_ok=outcome.is_ok)

    def _count_refused(self) -> None:
        self._telemetry.config_refused()


def _problem_at(draft: Draft, error: ListenerError) -> Problem:
    """A listener that cannot be opened, at its place in the file."""
    wanted = next(one for one in draft.header.listeners if one.location == error.spec.location)
    return Problem(wanted.file, wanted.line, wanted.column, wanted.path, str(error))
