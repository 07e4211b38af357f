"""
All workers of a supervisor: loads in two phases, replacements with a back-off, and what is said to all. *Cold.*

    load: every worker prepares -> all could? -> | swap | -> every worker commits
                                -> one could not -> all forget it; the old configuration goes on

A worker that dies meanwhile has no say, unless all do: its successor gets what is in force then.

A worker that is started later gets the configuration in force by the same two steps; loads and starts wait for one
another. A worker that dies is replaced at once; one that dies again soon waits longer each time, up to MAX_DELAY_S.
Meanwhile the kernel gives its share of new connections to the others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sidecar.process_log import event
from sidecar.telemetry.metrics.merge import Merged
from sidecar.workers.channel import Key
from sidecar.workers.endpoints import GroupEndpoints
from sidecar.workers.identity import GroupIdentity
from sidecar.workers.member import BEAT_S, Member, MemberGoneError
from sidecar.workers.sockets import Shared, Sockets

logger = logging.getLogger(__name__)

READY_LIMIT_S = 60.0
"""For preparing a configuration, the start of the process included; names that do not resolve take 2 s of it."""

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0
STABLE_S = 30.0
"""A worker that has lived for so long is replaced at once when it dies."""

KILLED_LIMIT_S = 2.0
"""Between a worker's being killed and its being gone: one that hangs in the kernel, on a mount say, is left to it."""

REPORT_LIMIT_S = 2.0
"""What a scrape waits for a worker's numbers; after that it shows those that it told last."""


def delay_s(deaths: int) -> float:
    """How long to wait before a worker is replaced that died so many times in a row before."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (deaths - 1)) if deaths else 0.0


class Group:
    """
    The workers.

    Args:
        path: Of the file.
        env: Of the processes.
        count: How many there are to be.
        sockets: What they accept from.

    Attributes:
        members: By index; one that has ended stays until it is replaced.
        merged: Their numbers.
        endpoints: What is told to all of them of discovered names.
        identity: What is told to all of them of what the control plane has signed.
        objection: Why what all of them have prepared is not to be put in force after all, if anything.
        restarts: Workers that another one was started for, by reason.
        is_draining: New ones are to give up inbound at once.
        is_ending: None is replaced any more.
    """

    def __init__(self, path: str, env: Mapping[str, str], count: int, sockets: Sockets) -> None:
        self.merged = Merged()
        self.members: list[Member] = []
        self.restarts: dict[str, int] = {}
        self.endpoints = GroupEndpoints(lambda: self.members)
        self.identity = GroupIdentity(lambda: self.members)
        self.objection: Callable[[], str] = str
        self.is_draining = False
        self.is_ending = False
        self._path = path
        self._env = env
        self._count = count
        self._sockets = sockets
        self._frames: Sequence[bytes] = ()
        self._turns = os.memfd_create("access-log-turns")
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def live(self) -> list[Member]:
        """Those that serve."""
        return [member for member in self.members if member.state == "LIVE"]

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Start the processes; they wait for a configuration.

        Raises:
            OSError: The system does not let us.
        """
        for index in range(self._count):
            self.members.append(Member(index, self.merged))
            await self._begin(self.members[index])

    def keep(self) -> None:
        """From now on replace whoever dies, and ask all whether they are there."""
        for index in range(self._count):
            self._spawn(self._keep(index), f"keep-{index}")
        self._spawn(self._beat(), "beat")

    def end(self) -> None:
        """From now on replace nobody; those that are not live yet end at once."""
        self.is_ending = True
        for member in self.members:
            if member.state == "STARTING":
                member.kill()

    async def ended(self, timeout_s: float) -> None:
        """Wait until all have ended; those that have not after so long are killed."""
        waits = [asyncio.ensure_future(member.ended.wait()) for member in self.members if member.pid]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=timeout_s)
        for member in self.members:
            if late and not member.ended.is_set():
                logger.warning(event("worker_killed", worker=member.index, pid=member.pid, reason="did not end"))
                member.kill()
        if late:
            _, left = await asyncio.wait(late, timeout=KILLED_LIMIT_S)
            for wait in left:
                wait.cancel()

    async def stop(self) -> None:
        """Leave no task and no descriptor."""
        os.close(self._turns)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def why_not_ready(self) -> str:
        """Why none of them is of use, by certificates; empty if one is."""
        reasons = [member.why_not_ready for member in self.members if member.state != "ENDED"]
        return reasons[0] if reasons and all(reasons) else ""

    # --- what is said to all -----------------------------------------------------------------------------------

    def tell(self, name: str, *values: object) -> None:
        """Say something to every worker that is live."""
        for member in self.live:
            member.tell(name, *values)

    async def report(self) -> None:
        """Have all numbers of now, but for those of a worker that does not answer in time."""

        async def one(member: Member) -> None:
            try:
                async with asyncio.timeout(REPORT_LIMIT_S):
                    await member.report()
            except (MemberGoneError, TimeoutError):
                logger.debug(event("worker_did_not_report", worker=member.index))

        await asyncio.gather(*(one(member) for member in self.live))

    async def recent(self) -> list[list[bytes]]:
        """Recent requests of each worker that answers in time."""

        async def one(member: Member) -> list[bytes]:
            try:
                async with asyncio.timeout(REPORT_LIMIT_S):
                    return await member.recent()
            except (MemberGoneError, TimeoutError):
                logger.warning(event("worker_did_not_report", worker=member.index, what="recent requests"))
                return []

        return [ring for ring in await asyncio.gather(*(one(member) for member in self.live)) if ring]

    # --- loading -----------------------------------------------------------------------------------------------

    async def load(
        self, trigger: str, frames: Sequence[bytes], added: Mapping[Key, Shared], swap: Callable[[], Awaitable[None]]
    ) -> list[str]:
        """
        Put a configuration in force in all workers, or in none.

        Args:
            added: Sockets that it has beyond those in force.
            swap: Done when all could prepare it, before any puts it in force.

        Returns:
            What is wrong, a line each; nothing if it is in force.
        """
        async with self._one_at_a_time:
            # One that is being replaced gets the configuration in force by and by, whichever that is then.
            members = self.live if self._frames else list(self.members)
            results = await asyncio.gather(
                *(
                    self._prepare(member, trigger, frames, [(key, one.of(member.index)) for key, one in added.items()])
                    for member in members
                )
            )
            could = [member for member, lines in zip(members, results, strict=True) if lines == []]
            problems = list(dict.fromkeys(line for lines in results for line in lines or ()))
            if not problems and members and not could:
                problems = [f"{self._path}: every worker ended while it prepared this file; nothing was changed"]
            if problems:
                why = f"another worker could not prepare it: {problems[0]}"
                await asyncio.gather(*(self._abandon(member, why) for member in could))
                return problems
            if objection := self.objection():
                await asyncio.gather(*(self._abandon(member, objection) for member in could))
                return [objection]
            await swap()
            self._frames = frames
            await asyncio.gather(*(self._commit(member) for member in could))
            return []

    async def _prepare(
        self, member: Member, trigger: str, frames: Sequence[bytes], sockets: Sequence[tuple[Key, Any]]
    ) -> list[str] | None:
        """What is wrong, a line each; None if the worker is gone, which says nothing of the file unless all are."""
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                return await member.prepare(trigger, frames, sockets)
        except TimeoutError:
            member.kill("not_ready")
        except MemberGoneError:
            logger.warning(event("worker_lost", worker=member.index, pid=member.pid, during="load"))
        return None

    async def _commit(self, member: Member) -> None:
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                lines = await member.commit()
        except MemberGoneError:
            return  # and is replaced
        except TimeoutError:
            member.kill("not_ready")
            return
        for line in lines:
            logger.error(event("worker_failed", worker=member.index, problem=line))
            member.kill("not_ready")

    async def _abandon(self, member: Member, why: str) -> None:
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                await member.abandon(why)
        except TimeoutError:
            member.kill("not_ready")

    # --- replacing ---------------------------------------------------------------------------------------------

    async def _keep(self, index: int) -> None:
        deaths = 0
        while True:
            member = self.members[index]
            await member.ended.wait()
            if self.is_ending:
                return
            self._account_for(member)
            deaths = 0 if time.time() - member.started_s >= STABLE_S else deaths
            await asyncio.sleep(delay_s(deaths))
            deaths += 1
            await self._replace(index)

    def _account_for(self, member: Member) -> None:
        self.restarts[member.why] = self.restarts.get(member.why, 0) + 1
        how = f"exit code {member.code}" if (member.code or 0) >= 0 else f"signal {-(member.code or 0)}"
        uptime_s = round(time.time() - member.started_s, 1)
        logger.error(
            event("worker_ended", worker=member.index, pid=member.pid, reason=member.why, how=how, uptime_s=uptime_s)
        )
        self.steer()
        forgotten = self.merged.forget_orphans()
        if forgotten:
            logger.warning(event("series_forgotten", count=forgotten, reason="only workers that are gone had them"))

    async def _replace(self, index: int) -> None:
        member = self.members[index] = Member(index, self.merged)
        try:
            await self._begin(member)
        except OSError as error:
            logger.error(event("worker_not_started", worker=index, error=error.strerror or str(error)))
            member.why, member.state = "not_ready", "ENDED"
            member.ended.set()
            return
        async with self._one_at_a_time:
            if self.is_ending:
                member.kill()
                return
            lines = await self._prepare(member, "start", self._frames, self._sockets.lent(index))
            if lines is None:
                return
            if lines:
                logger.error(event("worker_not_ready", worker=index, problem=lines[0]))
                member.kill("not_ready")
                return
            await self._commit(member)
        if member.state == "LIVE":
            self.steer()
            if self.is_draining:
                member.tell("drain")

    async def _begin(self, member: Member) -> None:
        self._keep_task(await member.start(self._path, self._env, self._turns))
        self.endpoints.catch_up(member)
        self.identity.catch_up(member)

    def steer(self) -> None:
        """Let the kernel give new connections to those that serve and answer."""
        self._sockets.steer([member.index for member in self.live if member.is_answering])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            before = [member.is_answering for member in self.members]
            for member in self.members:
                member.beat()
            if before != [member.is_answering for member in self.members] and not self.is_ending:
                self.steer()

    def _spawn(self, work: Any, name: str) -> None:
        self._keep_task(asyncio.get_running_loop().create_task(work, name=name))

    def _keep_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
