"""
The life of a process, whichever it is: start, live, drain, end; signals; tasks that are kept in sight. *Cold.*

    INITIALIZING --first file good, listeners bound--> LIVE --SIGTERM, /drain, /quitquitquit--> DRAINING --> exit 0
         |                                              |                                       ^
         +-- file bad, port taken: exit 1               +-- a successor took over --------------+
                                                        +-- SIGINT at any time: exit 0 at once

`server.Sidecar` is one that has a data path, `workers.supervisor.Supervisor` one that has such for children.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.loader.config_loader import ConfigLoader
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.net.descriptors import Descriptors
from sidecar.process_log import event
from sidecar.runtime.app_process import FORWARDED, AppProcess
from sidecar.runtime.inherited import obey_signals

if TYPE_CHECKING:
    from sidecar.runtime.mesh.following import Following

logger = logging.getLogger(__name__)

READY_POLL_S = 0.1
"""Between two looks whether the app may begin."""

EXIT_STOPPED = 0
EXIT_FAILED = 1


class Dependent(Protocol):
    """
    What needs outbound for longer than anybody needs inbound: the app, if it is a child; to a worker, the others.

    Attributes:
        ended: It needs nothing any more.
        code: The process's exit code, once it has ended.
    """

    ended: asyncio.Event
    code: int

    def send(self, number: signal.Signals) -> None:
        """SIGTERM: inbound has come to rest, so that it may end; others as they come."""
        ...

    def kill(self) -> None:
        """End it whatever it does."""
        ...


class Process:
    """
    Args:
        loop: The loop of this process.
        dependent: Ends before this process does.

    Attributes:
        state: INITIALIZING, LIVE or DRAINING, in Envoy's spelling.
        started_s: Seconds since the Unix epoch.
        has_begun: The start was good.
        has_lived: A whole configuration was in force.
        following: Of a control plane; None where none is followed.
        reloader: The file, and what came of it.
    """

    reloader: ConfigLoader

    def __init__(self, loop: asyncio.AbstractEventLoop, dependent: Dependent | None) -> None:
        self.state = "INITIALIZING"
        self.started_s = time.time()
        self.has_begun = False
        self.has_lived = False
        self.following: Following | None = None
        self._is_watching = False
        self._has_app_begun = False
        self._loop = loop
        self._dependent = dependent
        self._quit = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- what differs ------------------------------------------------------------------------------------------

    async def load(self, trigger: str) -> LoadOutcome:
        """Put the configuration in force as it is now, if it is good."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Open the access log anew."""
        raise NotImplementedError

    def why_not_ready(self) -> str | None:
        """What `/ready` says against traffic, or None."""
        raise NotImplementedError

    async def _start(self) -> LoadOutcome:
        """Everything up to the first configuration."""
        raise NotImplementedError

    def on_refused_start(self, outcome: LoadOutcome) -> None:
        """The first configuration was no good, and the process ends: its last words."""
        sys.stderr.write("".join(f"{line}\n" for line in outcome.lines))

    async def begin(self) -> None:
        """The start was good; a process that follows a control plane may not have a whole configuration yet."""
        if self.following is not None:
            await self.following.begin()
        else:
            await self.go_live()

    def watch_file(self) -> None:
        """Follow the file from now on; may come twice."""
        if not self._is_watching:
            self._is_watching = True
            self.spawn(self.reloader.watch(), "watch")

    async def on_live(self) -> None:
        """The first configuration is in force."""
        raise NotImplementedError

    async def _drain_all(self) -> None:
        """Bring everything to rest, inbound first."""
        raise NotImplementedError

    async def _end(self) -> None:
        """Give everything back, whatever state it is in; leaves no task."""
        raise NotImplementedError

    # --- what does not -----------------------------------------------------------------------------------------

    async def run(self) -> int:
        """The whole life; returns the exit code."""
        self.install_signals()
        try:
            start = self.spawn(self._start(), "start")
            await self._first(start, self._quit, self._interrupt)
            if start.done():
                outcome = start.result()
                if not outcome.is_ok:
                    self.on_refused_start(outcome)
                    return EXIT_FAILED
                self.has_begun = True
                await self.begin()
                await self._first(self._quit, self._interrupt)
                if not self._interrupt.is_set():
                    await self._drain_all()
            return EXIT_STOPPED if self._dependent is None else self._dependent.code
        finally:
            await self._end()

    async def go_live(self) -> None:
        """The first configuration is in force."""
        self.state, self.has_lived = "LIVE", True
        await self.on_live()
        if isinstance(self._dependent, AppProcess):
            self.spawn(self._accompany(self._dependent), "app")

    def quit(self) -> None:
        """Drain, then exit with 0."""
        self._quit.set()

    def interrupt(self) -> None:
        """Exit with 0 at once."""
        self._interrupt.set()

    def tell_descriptors(self) -> None:
        """How many there are, and how many the process was given: the first thing to know when they are short."""
        found = Descriptors()
        before = found.raised_from if found.raised_from != found.limit else None
        logger.info(event("descriptors", limit=found.limit, raised_from=before, reserved_from=found.ceiling))

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that is kept in sight and cancelled at the end."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def install_signals(self) -> None:
        """Before anything else; signals that came earlier have waited (`inherited`), and come now."""
        actions: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self.quit,
            signal.SIGINT: self.interrupt,
            signal.SIGHUP: lambda: self.spawn(self.load("signal"), "reload"),
            signal.SIGUSR1: self.reopen,
        }
        if self._dependent is not None:
            actions = {number: partial(self._dependent.send, number) for number in FORWARDED}
            actions[signal.SIGTERM] = self._quit_or_insist
            actions[signal.SIGINT] = self._interrupt_or_pass_on
        for number, action in actions.items():
            self._loop.add_signal_handler(number, self._on_signal, number, action)
        obey_signals()

    def _quit_or_insist(self) -> None:
        """The first SIGTERM ends inbound and then the app; a second one reaches the app at once."""
        if self._quit.is_set() and self._dependent is not None:
            self._dependent.send(signal.SIGTERM)
        self._quit.set()

    def _interrupt_or_pass_on(self) -> None:
        """SIGINT is the app's; as long as there is none, it ends the start."""
        if self._dependent is None or not self._has_app_begun:
            self.interrupt()
        else:
            self._dependent.send(signal.SIGINT)

    def _on_signal(self, number: signal.Signals, action: Callable[[], object]) -> None:
        logger.info(event("signal", signal=number.name))
        action()

    async def _accompany(self, dependent: AppProcess) -> None:
        """Run the app once its proxy is ready, and end with it; one that is not needed any more does not begin."""
        told = ""
        while not self._quit.is_set() and (why := self.why_not_ready()) is not None:
            if why != told:
                told = why
                logger.info(event("app_waits", reason=why))
            await asyncio.sleep(READY_POLL_S)
        if self._quit.is_set():
            dependent.ended.set()
            return
        self._has_app_begun = True
        await dependent.run()
        self._quit.set()

    async def _end_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _first(self, *things: asyncio.Task[Any] | asyncio.Event) -> None:
        """Wait until one of the tasks is done or one of the events is set."""
        waits = [thing if isinstance(thing, asyncio.Task) else self.spawn(thing.wait(), "wait") for thing in things]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for thing, wait in zip(things, waits, strict=True):
            if thing is not wait:
                wait.cancel()
