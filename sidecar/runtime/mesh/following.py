"""
How following a control plane is part of a process's life: its start, a takeover, its drain. *Cold.*

    start               what the local file alone says is in force: admin and metrics listen, and the process stays
    a file is in force  the process is LIVE
    takeover            nothing is opened before there is a file; without one the other process goes on
    drain               the goodbye goes first; when all concerned have heard it, inbound need not wait any longer
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from sidecar.compile.frames import Header
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.loader.config_loader import ConfigLoader, NotNowError
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.runtime.listeners import InheritedSockets, Listeners
from sidecar.runtime.mesh.follower import Follower
from sidecar.runtime.mesh.offered import Holder
from sidecar.runtime.takeover import Predecessor

LEAST_GOODBYE_S: Final = 1.0
"""What a goodbye may take where nothing else waits."""


class FollowingProcess(Protocol):
    """What this needs of the process; `process.Process` is it."""

    state: str

    async def go_live(self) -> None:
        """A whole configuration is in force."""
        ...

    async def load(self, trigger: str) -> LoadOutcome:
        """Put the configuration in force as it is now, if it is good."""
        ...

    def watch_file(self) -> None:
        """Follow the local file; may come twice."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> Any:
        """A task that is kept in sight and cancelled at the end."""
        ...


class Following:
    """
    Args:
        process: Whose life it is.
        follower: Its follower.
        header: Of what the local file alone says.
        loader: Of the process.
        listeners: Of the process: admin and metrics at least.
    """

    def __init__(
        self,
        process: FollowingProcess,
        follower: Follower,
        header: Header,
        loader: ConfigLoader,
        listeners: Listeners,
    ) -> None:
        self.follower = follower
        self._process = process
        self._header = header
        self._loader = loader
        self._listeners = listeners

    def deliver_to(self, holder: Holder) -> None:
        """Give it what the control plane signs, if it signs anything."""
        if self.follower.identity is not None:
            self.follower.identity.deliver_to(holder)

    async def start(self) -> LoadOutcome:
        """Everything up to the first configuration: that of the local file alone or, in a takeover, a whole one."""
        meet, self._listeners.meet = self._listeners.meet, None
        predecessor: InheritedSockets | None = None
        if meet is not None:
            try:
                predecessor = await meet(self._admin())
            except NotNowError as error:
                return self._failed(str(error))
        if predecessor is None:
            return await self._process.load("start")
        self._listeners.meet = _always(predecessor)
        handed_over = predecessor.handed_over if isinstance(predecessor, Predecessor) else b""
        await self.follower.recover(handed_over)
        if not self.follower.has_file.is_set():
            await self.follower.connect()
        if not self.follower.has_file.is_set() or self._loader.last_good is None:
            return self._failed(f"{self.follower.why_waiting()}; the other sidecar goes on")
        return self._loader.last_good

    async def begin(self) -> None:
        """The start was good."""
        if self.follower.has_file.is_set():
            await self._process.go_live()
            # Only now: until a moment ago another process was this instance.
            self._process.spawn(self.follower.connect(), "control")
            return
        self._process.watch_file()
        self._process.spawn(self._go_live(), "live")
        self._process.spawn(self._find_file(), "control")

    def say_goodbye(self, delay_s: float, on_left: Callable[[], object]) -> None:
        """
        A drain begins.

        Args:
            delay_s: For how long inbound goes on accepting at most.
            on_left: All concerned have heard of it.
        """
        self._process.spawn(self._say_goodbye(max(delay_s, LEAST_GOODBYE_S), on_left), "goodbye")

    def hand_over(self) -> None:
        """A successor serves."""
        self.follower.leave()
        self._process.spawn(self.follower.hand_over(), "hand over")

    async def _say_goodbye(self, timeout_s: float, on_left: Callable[[], object]) -> None:
        if await self.follower.goodbye(timeout_s):
            on_left()

    async def _go_live(self) -> None:
        await self.follower.has_file.wait()
        if self._process.state == "INITIALIZING":
            await self._process.go_live()

    async def _find_file(self) -> None:
        await self.follower.recover()
        await self.follower.connect()

    def _admin(self) -> Sequence[ListenerSpec]:
        return [ListenerSpec(Role(one.role), one.address, one.location) for one in self._header.listeners]

    def _failed(self, error: str) -> LoadOutcome:
        return LoadOutcome("start", time.time(), 0.0, False, "", 0, (), error)


def _always(predecessor: InheritedSockets) -> Callable[[Sequence[ListenerSpec]], Awaitable[InheritedSockets | None]]:
    async def meet(specs: Sequence[ListenerSpec]) -> InheritedSockets:
        return predecessor

    return meet
