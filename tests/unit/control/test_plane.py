"""The control plane without its sockets: what its parts do together. Clocks and all that the engine says are held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.control import shown
from sidecar.control.discovery.discovery import RETURN_S
from sidecar.control.discovery.registry import doubt_key
from sidecar.control.doubt import REMOVE_AFTER_S, STALE_AFTER_S
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Registration, RegistrationChange, Replica, Trouble, Unavailable
from sidecar.control.fleet import SILENT_S, FleetError
from sidecar.control.plane import Plane, Settings
from sidecar.control.push.goodbyes import BETWEEN_POLLS_S
from sidecar.control.push.stream import Stream
from sidecar.control.revision import worker
from sidecar.control.revision.compiler import Compiler
from sidecar.control.rollout.gate import blindness
from sidecar.link.messages import EndpointEntry, Endpoints, Left, Watch, endpoints_version, read_line
from sidecar.link.report import Port, Report
from sidecar.mesh.source import read_directory

MESH = "mesh: m\nservices:\n  a: {app: '127.0.0.1:8080', calls: {b: {}}}\n  b: {app: '127.0.0.1:8080', calls: {}}\n"


class Here(Compiler):
    """Compiles in this process."""

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class World:
    """Replica `me`, whose engine says what the test says."""

    def __init__(self, folder: Path) -> None:
        (folder / "mesh.yaml").write_text(MESH)
        self.now_s = 0.0
        self.others: list[str] = []
        self.is_broken = False
        self.news: asyncio.Queue[RegistrationChange | Trouble] = asyncio.Queue()
        self.written: list[Registration | str] = []
        engine = FilesEngine(str(folder), read_directory, None)
        engine.registrations = engine.replicas = self  # type: ignore[assignment]
        self.plane = Plane(engine, Settings("me", is_now=True), lambda: self.now_s, lambda: 1e9 + self.now_s)
        self.plane.follower._compiler = self.plane.compiler = Here(has_identity=False)
        self.seq = 0

    async def put(self, registration: Registration) -> None:
        self.written.append(registration)

    async def remove(self, instance: str) -> None:
        self.written.append(instance)

    async def watch(self) -> AsyncIterator[RegistrationChange | Trouble]:
        while True:
            yield await self.news.get()

    async def close(self) -> None:
        pass

    async def announce(self, replica: Replica) -> None:
        if self.is_broken:
            raise Unavailable("no quorum")

    async def list(self) -> tuple[Replica, ...]:
        return tuple(Replica(name) for name in ("me", *self.others))

    async def leave(self, name: str) -> None:
        pass

    async def say(self, *put: Registration, is_snapshot: bool = False) -> None:
        self.news.put_nowait(RegistrationChange(put, is_snapshot=is_snapshot))
        await settle()

    async def replicas(self, *others: str, broken: bool = False) -> None:
        self.others, self.is_broken = list(others), broken
        await self.plane._announce()

    def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.plane.tick()

    def report(self, service: str, instance: str, **more: Any) -> dict[str, Any]:
        self.seq += 1
        ports = {"http": Port("10.0.0.9:15000")}
        report = Report(service, instance, self.seq, health="healthy", ports=ports)
        return self.plane.reported(replace(report, **more), "10.0.0.9", False)

    def is_stale(self, instance: str) -> bool:
        return self.plane.doubt.is_stale(doubt_key(instance))


async def settle() -> None:
    """Let what is due happen; endpoints are gathered for 50 ms."""
    await asyncio.sleep(0.1)


def run(folder: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def bounded() -> None:
        world = World(folder)
        async with asyncio.timeout(60):
            await world.plane.open()
            try:
                await world.plane.follower.first.wait()
                await test(world)
            finally:
                await world.plane.close()

    worker._known = worker._Known()
    asyncio.run(bounded())


def of(holder: str, instance: str, **more: Any) -> Registration:
    return Registration("b", instance, ports={"http": Port(f"10.0.1.{instance}:15000")}, holder=holder, **more)


def test_doubt_is_not_reset_by_news_of_others(tmp_path: Path) -> None:
    """One that is frozen becomes stale whatever is written meanwhile; one that never registered is not counted."""

    async def test(world: World) -> None:
        stream = world.plane.opened(Watch("a", "visitor"), "10.0.0.1")
        world.plane.opened(Watch("b", "1"), "10.0.0.9")
        world.report("b", "1")
        for version in range(int((SILENT_S + STALE_AFTER_S) / 5) + 1):
            await world.say(of("other", "2", version=str(version)))
            world.pass_s(5)
        assert world.is_stale("1")
        assert world.plane.doubt.fresh + world.plane.doubt.stale == 2
        world.plane.closed(stream, "gone")

    run(tmp_path, test)


def test_one_that_is_heard_here_is_not_lost_because_another_replica_says_so_late(tmp_path: Path) -> None:
    """It came here; that the other lost it was written after that."""

    async def test(world: World) -> None:
        world.plane.opened(Watch("b", "1"), "10.0.0.9")
        world.report("b", "1")
        await world.say(of("other", "1", lost_s=1.0))
        world.pass_s(int(STALE_AFTER_S))
        assert not world.is_stale("1")

    run(tmp_path, test)


def test_what_died_with_its_replica_ends_for_rollouts_too(tmp_path: Path) -> None:
    """Gates wait while more than half of a service are gone with it, and go on when they are removed."""

    async def test(world: World) -> None:
        await world.replicas("other")
        for number in range(1, 13):
            world.plane.opened(Watch("a", f"a{number}"), "10.0.0.9")
        gone = [of("other", str(number)) for number in (2, 3)]
        await world.say(is_snapshot=True)
        await world.say(*gone)
        world.plane.opened(Watch("b", "1"), "10.0.0.9")

        def report() -> None:
            for number in range(1, 13):
                world.report("a", f"a{number}")
            world.report("b", "1")

        def blind() -> str:
            view = world.plane.sight.view()
            return blindness(replace(view, unseen=()), view.by_service()["b"])

        report()
        await world.replicas()
        for _ in range(int(REMOVE_AFTER_S) // 10 - 1):
            world.pass_s(10)
            report()
        assert blind() == "only 1 of 3 instances are connected"
        world.pass_s(10)
        report()
        assert [one.instance for one in world.plane.registry if one.service == "b"] == ["1"]
        assert blind() == ""

    run(tmp_path, test)


def test_one_that_does_not_return_to_its_replica_after_a_restart_is_told_to_the_others(tmp_path: Path) -> None:
    """They believe that it is fresh as long as its holder lives, which is us."""

    async def test(world: World) -> None:
        await world.say(of("me", "1"), is_snapshot=True)
        world.pass_s(int(STALE_AFTER_S) - 1)
        await settle()
        assert world.written == []
        world.pass_s(1)
        await settle()
        (lost,) = world.written
        assert isinstance(lost, Registration)
        assert lost.lost_s is not None

    run(tmp_path, test)


def test_goodbye_is_answered_when_all_callers_have_applied_it(tmp_path: Path) -> None:
    """At once where nobody was told of it; else by its stream, when the last caller has reported a set without it."""

    async def test(world: World) -> None:
        world.pass_s(int(RETURN_S))
        world.plane.opened(Watch("b", "1"), "10.0.0.9")
        world.report("b", "1")
        assert world.report("b", "1", is_goodbye=True) == {"left": True}
        caller = world.plane.opened(Watch("a", "caller"), "10.0.0.1")
        world.plane.hub.take(caller)
        callee = world.plane.opened(Watch("b", "2"), "10.0.0.9")
        world.report("b", "2")
        await settle()
        world.plane.hub.take(caller)
        assert world.report("b", "2", is_goodbye=True) == {}
        await settle()
        world.plane.hub.take(caller)
        assert not lefts(world, callee)
        world.report("a", "caller", endpoints={"b": endpoints_version([])})
        assert lefts(world, callee)

    run(tmp_path, test)


def test_caller_is_behind_from_the_moment_that_a_callee_is_well(tmp_path: Path) -> None:
    """Also while that is still being gathered: nobody waits for callers that seem to know what nobody has told them."""

    async def test(world: World) -> None:
        def behind() -> int:
            member = world.plane.fleet.get("caller")
            assert member is not None
            return shown._behind(world.plane, member)

        world.pass_s(int(RETURN_S))
        caller = world.plane.opened(Watch("a", "caller"), "10.0.0.1")
        world.plane.hub.take(caller)
        world.plane.opened(Watch("b", "2"), "10.0.0.9")
        await settle()
        world.plane.hub.take(caller)
        world.report("a", "caller", endpoints={"b": endpoints_version([])})
        assert behind() == 0
        world.report("b", "2")
        assert behind() == 1
        await settle()
        assert behind() == 1
        world.plane.hub.take(caller)
        world.report("a", "caller", endpoints={"b": endpoints_version([EndpointEntry("10.0.0.9:15000")])})
        assert behind() == 0

    run(tmp_path, test)


@pytest.mark.parametrize("why", ["a start", "another replica", "one that went", "silence"])
def test_goodbye_takes_its_delay_where_callers_may_be_that_are_not_seen(tmp_path: Path, why: str) -> None:
    """Those who have not come here since a start, those of other replicas and of one that went: a guess is no fact."""

    async def test(world: World) -> None:
        if why != "a start":
            world.pass_s(2 * int(RETURN_S))
            await world.replicas("other", broken=why == "silence")
        if why == "one that went":
            await world.replicas()
            world.pass_s(int(RETURN_S) - 1)
        callee = world.plane.opened(Watch("b", "1", config="before"), "10.0.0.9")
        world.report("b", "1")
        caller = world.plane.opened(Watch("a", "caller"), "10.0.0.1")
        world.plane.hub.take(caller)
        for _ in range(2):
            assert world.report("b", "1", is_goodbye=True) == {}
        await settle()
        world.plane.hub.take(caller)
        world.report("a", "caller", endpoints={"b": endpoints_version([])})
        assert not lefts(world, callee)
        await world.replicas()
        world.pass_s(int(RETURN_S))
        assert lefts(world, callee), "all had the time to come here"

    run(tmp_path, test)


def test_one_that_nobody_can_know_from_before_the_start_is_answered_at_once(tmp_path: Path) -> None:
    """It came without a file, and is not among those that were registered: all that know of it have streams here."""

    async def test(world: World) -> None:
        await world.say(of("me", "before"), is_snapshot=True)
        for name, left in (("new", {"left": True}), ("before", {})):
            world.plane.opened(Watch("b", name), "10.0.0.9")
            world.plane.opened(Watch("b", name, config="told here"), "10.0.0.9")
            world.report("b", name)
            assert world.report("b", name, is_goodbye=True) == left

    run(tmp_path, test)


def test_caller_that_polls_is_waited_for_between_two_polls(tmp_path: Path) -> None:
    """It sends requests meanwhile: until it polls with a set without the one that goes, or does not poll any more."""

    async def test(world: World) -> None:
        world.pass_s(int(RETURN_S))
        for name in ("1", "2"):
            world.plane.opened(Watch("b", name), "10.0.0.9")
            world.report("b", name, ports={"http": Port(f"10.0.0.{name}:15000")})
        await settle()

        def poll(endpoints: str = "") -> str:
            stream = world.plane.opened(Watch("a", "caller", endpoints={"b": endpoints}), "10.0.0.1")
            world.plane.hub.take(stream)
            world.plane.closed(stream, "")
            told = stream.knows("b")
            assert told is not None
            return told.version

        both = poll()
        assert world.report("b", "1", is_goodbye=True) == {}
        await settle()
        for name in ("1", "2"):
            assert not lefts(world, world.plane.hub.get(name))
        without = poll(both)
        assert without != both
        assert not lefts(world, world.plane.hub.get("1"))
        poll(without)
        assert lefts(world, world.plane.hub.get("1"))
        assert world.report("b", "2", is_goodbye=True) == {}
        await settle()
        world.pass_s(int(BETWEEN_POLLS_S))
        assert lefts(world, world.plane.hub.get("2"))

    run(tmp_path, test)


def test_name_of_a_registered_instance_is_nobody_elses(tmp_path: Path) -> None:
    """Also if it is connected to another replica, or was before a start: until it is stale."""

    async def test(world: World) -> None:
        await world.replicas("other")
        await world.say(of("other", "theirs"), of("me", "before"), is_snapshot=True)
        for name in ("theirs", "before"):
            with pytest.raises(FleetError, match="another service") as refused:
                world.plane.opened(Watch("a", name), "10.0.0.9")
            assert refused.value.status == 403
            for is_goodbye in (False, True):
                with pytest.raises(FleetError, match="another service"):
                    world.report("a", name, is_goodbye=is_goodbye)
            world.plane.opened(Watch("b", name), "10.0.0.9")
            world.plane.closed(world.plane.opened(Watch("b", name), "10.0.0.9"), "gone")
        assert {one.service for one in world.plane.registry} == {"b"}
        world.pass_s(int(SILENT_S))
        assert world.report("a", "before") == {}
        assert {one.instance: one.service for one in world.plane.registry} == {"theirs": "b", "before": "a"}

    run(tmp_path, test)


@pytest.mark.parametrize("as_list", [False, True])
def test_registrations_that_vanish_from_the_engine_are_doubted_and_ours_written_again(
    tmp_path: Path, *, as_list: bool
) -> None:
    """Nobody said goodbye: who is here stays, and is told to the others; who is elsewhere is lost until it is."""

    async def test(world: World) -> None:
        await world.replicas("other")
        await world.say(of("other", "2"), of("other", "3"), is_snapshot=True)
        world.plane.opened(Watch("b", "1"), "10.0.0.9")
        world.report("b", "1")
        await settle()
        world.written.clear()
        if as_list:
            await world.say(is_snapshot=True)
        else:
            world.news.put_nowait(RegistrationChange(vanished=("1", "2", "3")))
            await settle()
        assert [getattr(one, "instance", one) for one in world.written] == ["1"]
        await world.say(of("other", "2"))
        for _ in range(int(STALE_AFTER_S) // 10):
            world.pass_s(10)
            world.report("b", "1")
        assert [name for name in "123" if world.is_stale(name)] == ["3"]

    run(tmp_path, test)


def test_caller_is_not_told_less_by_a_replica_that_began_with_an_empty_store(tmp_path: Path) -> None:
    """Of a service one has come back, of whom it knows two: the other may be on its way."""

    async def test(world: World) -> None:
        known = [EndpointEntry("10.0.1.1:15000"), EndpointEntry("10.0.1.2:15000")]
        caller = world.plane.opened(Watch("a", "caller", endpoints={"b": endpoints_version(known)}), "10.0.0.1")
        world.plane.opened(Watch("b", "1"), "10.0.0.9")
        world.report("b", "1")
        await world.say(of("me", "1"))
        await settle()
        assert not [line for line in map(read_line, world.plane.hub.take(caller)) if isinstance(line, Endpoints)]
        world.pass_s(int(RETURN_S))
        await settle()
        lines = [line for line in map(read_line, world.plane.hub.take(caller)) if isinstance(line, Endpoints)]
        assert [entry.address for line in lines for entry in line.added] == ["10.0.0.9:15000"]

    run(tmp_path, test)


def test_small_mesh_whose_instances_all_changed_their_names_keeps_the_old_ones_until_somebody_deletes_them(
    tmp_path: Path,
) -> None:
    """Half of all are stale, and stay so; what is deleted in the engine alone is a goodbye, and all is well again."""

    async def test(world: World) -> None:
        await world.say(*(of("gone", name) for name in "123"), is_snapshot=True)
        for name in "456":
            world.plane.opened(Watch("b", name), "10.0.0.9")
        for _ in range(2 * int(REMOVE_AFTER_S) // 10):
            for name in "456":
                world.report("b", name, ports={"http": Port(f"10.0.1.{name}:15000")})
            world.pass_s(10)
        await settle()
        assert [name for name in "123456" if world.is_stale(name)] == ["1", "2", "3"]
        assert not world.plane.doubt.is_removing
        caller = world.plane.opened(Watch("a", "caller"), "10.0.0.1")
        world.plane.hub.take(caller)
        told = caller.knows("b")
        assert told is not None
        assert set(told.entries) == {f"10.0.1.{name}:15000" for name in "456"}
        for name in "123":
            world.news.put_nowait(RegistrationChange(left=(name,)))
        await settle()
        world.pass_s(1)
        assert (world.plane.doubt.stale, world.plane.doubt.is_removing) == (0, True)

    run(tmp_path, test)


def lefts(world: World, stream: Stream | None) -> bool:
    assert stream is not None
    return any(isinstance(read_line(raw), Left) for raw in world.plane.hub.take(stream))
