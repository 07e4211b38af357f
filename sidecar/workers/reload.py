"""
How a file comes into force in a group: compiled once, its frames forwarded verbatim, prepared by all workers, then
swapped in by all; or refused, and nothing changes. *Cold.*
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sidecar.compile.frames import Header, WantedListener
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.config.problems import Problem
from sidecar.loader.config_loader import ClosedError, ConfigLoader, NotHereError, NotNowError
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSource
from sidecar.redact import NO_SECRETS, Secrets
from sidecar.runtime.listeners import Change, ListenerError, Listeners, is_possible
from sidecar.telemetry.metrics.self_metrics import Configuration
from sidecar.workers.channel import Key
from sidecar.workers.group import Group
from sidecar.workers.sockets import SocketChange, SocketError, Sockets

OWN = (Role.METRICS, Role.ADMIN)
"""Listeners that the supervisor serves itself."""


class GroupReloader(ConfigLoader):
    """
    Args:
        path: Of the file.
        source: Has the configuration, of always as many workers.
        group: The workers.
        listeners: Metrics and admin.
        sockets: The others.
        secrets: What no outcome may show.

    Attributes:
        configuration: What metrics say of it.
        wanted: Listeners of the configuration in force.
        is_closed: Refuse every further load, because the process ends and must not open sockets again.
    """

    def __init__(
        self,
        path: str,
        source: PlanSource,
        group: Group,
        listeners: Listeners,
        sockets: Sockets,
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        super().__init__(path, source, secrets)
        self.configuration = Configuration()
        self.wanted: tuple[WantedListener, ...] = ()
        self.is_closed = False
        self._group = group
        self._listeners = listeners
        self._sockets = sockets

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        if self.is_closed:
            raise ClosedError()
        specs = [
            ListenerSpec(Role(one.role), one.address, one.location, hosts=one.hosts, captures=one.captures)
            for one in header.listeners
        ]
        try:
            change = await self._listeners.open(specs)
        except ListenerError as error:
            raise NotHereError([self._problem(header, error.spec.key, str(error))]) from None
        try:
            sockets = await self._sockets.open(
                [spec.key for spec in specs if spec.role not in OWN and is_possible(spec)]
            )
        except SocketError as error:
            change.abandon()
            raise NotHereError([self._problem(header, error.key, str(error))]) from None
        try:
            lines = await self._group.load(trigger, frames, sockets.added, partial(self._swap, header, change, sockets))
            if lines:
                raise NotNowError(lines[0])
        except BaseException:
            change.abandon()
            sockets.abandon()
            raise

    async def _swap(self, header: Header, change: Change, sockets: SocketChange) -> None:
        """All workers are prepared. From here on nothing can fail that could be undone."""
        sockets.commit()
        self.wanted = header.listeners
        self.generation += 1
        self.configuration.applied(header.config_hash, is_reload=self.generation > 1)
        await change.commit()

    async def _rings(self) -> Sequence[Sequence[bytes]]:
        return await self._group.recent()

    def _problem(self, header: Header, key: Key, message: str) -> Problem:
        """A listener that cannot be opened, at its place in the file."""
        wanted = next(one for one in header.listeners if (Role(one.role), one.address) == key)
        return Problem(wanted.file, wanted.line, wanted.column, wanted.path, message)

    def _count(self, outcome: LoadOutcome) -> None:
        result = "success" if outcome.is_ok else "failure"
        self.configuration.durations.child(result).observe(round(outcome.took_s * 1e9))

    def _count_refused(self) -> None:
        self.configuration.refused()
        self._group.tell("refused")
