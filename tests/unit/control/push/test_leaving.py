"""`left` with several replicas: who leaves hears it when no caller at any of them uses it any more, never before."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from sidecar.control.discovery import discovery as discovery_module
from sidecar.control.discovery.discovery import RETURN_S, Discovery
from sidecar.control.discovery.registry import DoubtKey, Registry
from sidecar.control.doubt import Doubt
from sidecar.control.engines.interface import Registration, RegistrationChange
from sidecar.control.push import leaving as leaving_module
from sidecar.control.push.goodbyes import RETURNS_S
from sidecar.control.push.hub import Hub
from sidecar.control.push.leaving import Leaving
from sidecar.control.push.stream import Stream
from sidecar.control.replicas.peers import PeerError
from sidecar.control.replicas.summary import Summary
from sidecar.control.revision.compiled import CompiledFile, Origin, Source
from sidecar.control.revision.targets import Wanted
from sidecar.control.rollout.view import Instance
from sidecar.link.fields import decode
from sidecar.link.messages import EndpointEntry, Endpoints, Left, Watch, apply_endpoints, endpoints_version, read_line
from sidecar.link.report import Port

CATALOG = Origin("catalog", "http", (Source.of("registered", {}),))
FILES = {
    "h1": CompiledFile("caller", "h1", "calls the catalog", {"catalog": CATALOG}),
    "h2": CompiledFile("catalog", "h2", "calls nobody", {}),
}
GONE, KEPT = "10.0.0.1:80", "10.0.0.2:80"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_module, "GATHER_S", 0.0)
    monkeypatch.setattr(leaving_module, "ROUND_S", 0.0)


class Mesh:
    """Replicas, and what they can hear of each other; the clock is held."""

    def __init__(self, *names: str) -> None:
        self.now_s = 1000.0
        self.chance: random.Random | None = None
        self.before_answer: Callable[[str], Awaitable[None]] | None = None
        self.listed = list(names)
        self.at = {name: At(self, name) for name in names}
        for one in self.at.values():
            one.leaving.looked(self.listed)

    def join(self, name: str) -> At:
        """One more, of which the others do not know."""
        one = self.at[name] = At(self, name)
        self.listed.append(name)
        one.leaving.looked(self.listed)
        return one

    def register(self, instance: str, address: str, holder: str) -> None:
        """Known to all."""
        for one in self.at.values():
            registration = Registration("catalog", instance, ports={"http": Port(address)}, holder=holder)
            one.registry.apply(RegistrationChange((registration,)), one.name)

    def heard(self) -> None:
        """All have heard from all which sidecars have streams there."""
        for one in self.at.values():
            one.hears()


class At:
    """
    A replica: all that a goodbye concerns. It stands for its `Peers`, too.

    Attributes:
        fails: Questions to it are answered by this.
        has_written: What its engine has taken.
        looks: How often it listed the replicas.
    """

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.name = name
        self.mesh = mesh
        self.fails: Exception | bytes | None = None
        self.has_written = True
        self.looks = 0
        self.asked = 0
        self.summaries: list[Summary] = []
        doubt: Doubt[DoubtKey] = Doubt(self.clock)
        self.registry = Registry(doubt, lambda service: self.discovery.service_changed(service))
        self.discovery = Discovery(
            self.registry, doubt, {}, lambda origins: self.hub.origins_changed(origins), self.clock
        )
        self.hub = Hub(self, FILES.get, self.discovery.views, self.clock, 0.0)
        self.leaving = Leaving(
            name, self.hub, self.discovery, self.registry, self, lambda instance: self.has_written,  # type: ignore[arg-type]
            self.look, self.clock, self.clock, is_alone=False,
        )  # fmt: skip
        self.discovery.use([CATALOG])

    def clock(self) -> float:
        return self.mesh.now_s

    def wanted(self, service: str, instance: str, language: int) -> tuple[Wanted | None, str]:
        return Wanted(1, "h1" if service == "caller" else "h2"), ""

    async def look(self) -> bool:
        self.looks += 1
        self.leaving.looked(self.mesh.listed)
        return True

    async def ask(self, name: str, path: str, timeout_s: float, body: Mapping[str, Any]) -> bytes:
        """What another one answers, some moments later."""
        other = self.mesh.at[name]
        other.asked += 1
        assert path == "goodbyes"
        for _ in range(self.mesh.chance.randrange(4) if self.mesh.chance else 0):
            await asyncio.sleep(0)
        if self.mesh.before_answer is not None:
            await self.mesh.before_answer(name)
        if isinstance(other.fails, Exception):
            raise other.fails
        answer = other.fails or json.dumps(other.leaving.answer(decode(json.dumps(body).encode()))).encode()
        for _ in range(self.mesh.chance.randrange(4) if self.mesh.chance else 0):
            await asyncio.sleep(0)
        return answer

    def hears(self) -> None:
        """From the others."""
        self.summaries = [one.summary() for one in self.mesh.at.values() if one is not self]
        self.leaving.heard()

    def summary(self) -> Summary:
        found = (
            Instance(each.watch.instance, each.watch.service, is_connected=True, connected_s=each.opened_s)
            for each in self.hub
        )
        return Summary(tuple(found))

    def removed(self, instance: str) -> None:
        """What another replica removed reaches this one."""
        self.registry.apply(RegistrationChange(left=(instance,)), self.name)

    def leave(self, instance: str, address: str = GONE) -> bool:
        """It says goodbye here."""
        self.registry.remove(instance)
        return self.leaving.goodbye(instance, "catalog", [address])


class Caller:
    """
    A sidecar.

    Attributes:
        uses: What it sends requests to.
    """

    def __init__(self, name: str = "caller-1", service: str = "caller") -> None:
        self.name = name
        self.service = service
        self.at: At | None = None
        self.stream: Stream | None = None
        self.uses: dict[str, EndpointEntry] | None = None
        self.has_left = False

    def open(self, at: At) -> Caller:
        """Open a stream, naming what it has."""
        at.mesh.now_s += 0.001
        config = "h1" if self.uses is not None else ""
        versions = {"catalog": self.version()} if self.uses is not None else {}
        self.at, self.stream = at, at.hub.open(Watch(self.service, self.name, config=config, endpoints=versions))
        at.leaving.opened(self.stream)
        return self

    def version(self) -> str:
        return endpoints_version((self.uses or {}).values())

    def read(self) -> Caller:
        """Take in what there is on the stream."""
        assert self.at is not None
        assert self.stream is not None
        for line in map(read_line, self.at.hub.take(self.stream)):
            if isinstance(line, Endpoints):
                self.uses = apply_endpoints(self.uses or {}, line)
                assert self.uses is not None
            self.has_left = self.has_left or isinstance(line, Left)
        return self

    def report(self) -> Caller:
        """Say what it has."""
        assert self.at is not None
        assert self.stream is not None
        self.at.leaving.reported(self.name)
        has = {"catalog": self.version()} if self.uses is not None else {}
        self.at.hub.on_report(self.stream, "h1" if self.service == "caller" else "h2", "", has)
        self.at.leaving.tell()
        return self

    def lose(self) -> None:
        """Its stream ends, without a goodbye."""
        assert self.at is not None
        assert self.stream is not None
        self.at.hub.close(self.stream)
        self.at.leaving.closed(self.stream, is_poll=False, is_leaving=False)
        self.at.leaving.tell()
        self.stream = None


async def settle() -> None:
    """Some rounds; endpoints are gathered for no time at all."""
    for _ in range(30):
        await asyncio.sleep(0)


def run(names: str, test: Callable[[Mesh, Caller], Awaitable[None]]) -> None:
    """The test is given replicas with `gone` and `kept` at the first, and the sidecar of `gone`."""

    async def bounded() -> None:
        mesh = Mesh(*names)
        first = mesh.at[names[0]]
        for one in mesh.at.values():
            one.registry.apply(RegistrationChange(is_snapshot=True), one.name)
        mesh.register("before", "10.0.0.3:80", "a")
        mesh.register("gone", GONE, "a")
        mesh.register("kept", KEPT, "a")
        tasks = [asyncio.create_task(one.leaving.run()) for one in mesh.at.values()]
        await settle()
        async with asyncio.timeout(60):
            await test(mesh, Caller("gone", "catalog").open(first).read().report())
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(bounded())


def test_it_is_told_when_the_callers_at_all_replicas_have_applied_it() -> None:
    """Not while another replica has not heard of it, has not told its callers, or these have not said that they did."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        here, there = Caller("here").open(a).read().report(), Caller("there").open(b).read().report()
        assert not a.leave("gone")
        await settle()
        here.read().report()
        await settle()
        assert not gone.read().has_left
        b.removed("gone")
        await settle()
        assert not gone.read().has_left
        there.read()
        await settle()
        assert not gone.read().has_left
        there.report()
        await settle()
        assert gone.read().has_left
        assert (set(here.uses or ()), set(there.uses or ())) == ({KEPT, "10.0.0.3:80"},) * 2
        assert a.leave("gone"), "said once more, it is answered at once"
        asked = b.asked
        await settle()
        assert b.asked == asked, "nobody waits, nobody is asked"

    run("ab", test)


@pytest.mark.parametrize(
    "answer",
    [
        PeerError("no answer within 1 s", is_late=True),
        PeerError("an older release", 404),
        b"{}",
        b"[]",
        b'{"applied": "gone"}',
        b'{"applied": ["gone"], "replicas": ["a", "b", "stranger"]}',
    ],
)
def test_replica_that_does_not_say_so_has_not_applied_it(answer: Exception | bytes) -> None:
    """It is away, of an older release, says nonsense, or counts on a replica that was not asked."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        b.removed("gone")
        b.fails = answer
        assert not a.leave("gone")
        await settle()
        assert b.asked
        assert not gone.read().has_left
        b.fails = b'{"applied": ["gone", "other"], "replicas": ["a", "b"], "later": 1}'
        await settle()
        assert gone.read().has_left, "fields that are not known are not looked at"

    run("ab", test)


def test_others_are_listed_anew_once_the_removal_is_written() -> None:
    """One that began in between knows nothing of it, or is asked: it may have read what was there before."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        b.removed("gone")
        a.has_written = False
        assert not a.leave("gone")
        await settle()
        assert (a.looks, b.asked) == (0, 0)
        c = mesh.join("c")
        c.leaving.known_before(["gone"])
        a.has_written = True
        await settle()
        assert (a.looks, c.asked > 0) == (1, True)
        assert not gone.read().has_left
        c.leaving.had_time()
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_one_that_thinks_that_it_is_alone_looks_before_it_says_so() -> None:
    """Another replica may have begun since it looked last, and have callers by now."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a = mesh.at["a"]
        b = mesh.join("b")
        b.registry.apply(RegistrationChange(is_snapshot=True), "b")
        mesh.register("gone", GONE, "a")
        b.leaving.had_time()
        b.discovery.surely()
        there = Caller("there").open(b)
        await settle()
        there.read().report()
        assert GONE in (there.uses or ())
        assert not a.leave("gone")
        await settle()
        assert a.looks
        assert not gone.read().has_left
        b.removed("gone")
        await settle()
        there.read().report()
        await settle()
        assert gone.read().has_left

    run("a", test)


def test_one_that_is_alone_says_so_once_it_has_looked() -> None:
    """Nobody else has to be asked."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a = mesh.at["a"]
        assert not a.leave("gone")
        await settle()
        assert a.looks == 1
        assert gone.read().has_left

    run("a", test)


def test_replica_that_began_without_knowing_who_was_there_before_knows_of_nobody() -> None:
    """Its callers of before may be on their way, and know whom it never heard of; for as long as they may take."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a = mesh.at["a"]
        new = mesh.join("c")
        assert not a.leave("gone")
        mesh.at["b"].removed("gone")
        await settle()
        assert not gone.read().has_left
        new.leaving.had_time()
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_one_that_went_takes_its_callers_with_it_for_a_while() -> None:
    """They may come here with what it told them."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        b.removed("gone")
        mesh.listed.remove("c")
        b.leaving.looked(mesh.listed)
        assert not a.leave("gone")
        await settle()
        mesh.now_s += RETURN_S - 0.5
        await settle()
        assert not gone.read().has_left
        mesh.now_s += 1
        await settle()
        assert gone.read().has_left

    run("abc", test)


def test_caller_that_moves_is_waited_for_at_both_sides() -> None:
    """Between two streams it still sends requests; where it comes to, it is asked what it has before it is believed."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b, c = (mesh.at[name] for name in "abc")
        moves = Caller("moves").open(b).read().report()
        moves.lose()
        for one in (b, c):
            one.removed("gone")
        assert not a.leave("gone")
        await settle()
        assert not gone.read().has_left
        moves.open(c)
        await settle()
        mesh.heard()
        await settle()
        assert not gone.read().has_left
        moves.read().report()
        await settle()
        assert gone.read().has_left

    run("abc", test)


def test_caller_whose_question_had_no_room_for_it_is_not_taken_for_one_that_knows_nothing() -> None:
    """Before its first report."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        b.removed("gone")
        await settle()
        moved = Caller("moved")
        moved.at, moved.stream = b, b.hub.open(Watch("caller", "moved", config="h1"))
        b.leaving.opened(moved.stream)
        assert not a.leave("gone")
        await settle()
        assert not gone.read().has_left
        moved.read().report()
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_one_that_uses_it_by_a_file_of_before_is_waited_for() -> None:
    """It follows the service no more, and has said that it has endpoints of it all the same."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        stray = Caller("stray", "catalog").open(a).read()
        stray.uses = {GONE: EndpointEntry(GONE)}
        stray.report()
        b.removed("gone")
        assert not a.leave("gone")
        await settle()
        assert not gone.read().has_left
        stray.uses = {}
        stray.report()
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_caller_that_is_lost_is_waited_for_as_long_as_it_may_take_to_return() -> None:
    """And one that said goodbye not at all."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        lost, ended = Caller("lost").open(b).read().report(), Caller("ended").open(b).read().report()
        b.removed("gone")
        lost.lose()
        assert ended.stream is not None
        b.hub.close(ended.stream)
        b.leaving.closed(ended.stream, is_poll=False, is_leaving=True)
        assert not a.leave("gone")
        mesh.now_s += RETURNS_S - 0.1
        await settle()
        assert not gone.read().has_left
        mesh.now_s += 0.1
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_caller_that_moves_while_the_others_are_asked_is_not_overlooked() -> None:
    """
    To one that has answered already, which the one that it left has heard before it answers: only a second round, all
    of which comes after that, proves anything.
    """

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b, c = (mesh.at[name] for name in "abc")
        moves = Caller("moves").open(b).read().report()
        moves.lose()
        for one in (b, c):
            one.removed("gone")

        async def move(name: str) -> None:
            while name == "b" and not c.asked:
                await asyncio.sleep(0)
            if name == "b" and moves.stream is None:
                await settle()
                moves.open(c)
                b.hears()

        mesh.before_answer = move
        assert not a.leave("gone")
        await settle()
        await settle()
        await settle()
        assert moves.at is c
        assert min(b.asked, c.asked) > 2
        assert not gone.read().has_left
        moves.read().report()
        await settle()
        assert gone.read().has_left

    run("abc", test)


def test_what_others_said_is_true_of_that_moment_only() -> None:
    """A caller that comes here with it as the last one answers, and goes there, is waited for."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        b.removed("gone")
        comes = Caller("comes")
        comes.uses = {GONE: EndpointEntry(GONE)}

        async def come(name: str) -> None:
            if b.asked == leaving_module.ROUNDS and comes.stream is None:
                comes.open(a)

        mesh.before_answer = come
        assert not a.leave("gone")
        while comes.stream is None:
            await asyncio.sleep(0)
        await settle()
        comes.lose()
        comes.open(b)
        a.hears()
        a.leaving.tell()
        assert not gone.read().has_left
        await settle()
        assert not gone.read().has_left
        comes.read().report()
        await settle()
        assert gone.read().has_left

    run("ab", test)


def test_where_a_stream_was_before_says_nothing_of_where_it_is() -> None:
    """Another replica told that it has it, before it came here and was lost."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        a, b = mesh.at["a"], mesh.at["b"]
        lost = Caller("lost").open(b).read().report()
        before = b.summary()
        lost.lose()
        lost.open(a).read().report()
        b.hears()
        lost.lose()
        b.removed("gone")
        a.summaries = [before]
        a.leaving.heard()
        assert not a.leave("gone")
        await settle()
        assert not gone.read().has_left

    run("ab", test)


def test_what_would_be_told_to_who_comes_now_is_not_applied() -> None:
    """Between the removal and the moment when the endpoints are put together anew."""

    async def test(mesh: Mesh, gone: Caller) -> None:
        b = mesh.at["b"]
        question = decode(
            json.dumps({"goodbyes": [{"instance": "gone", "service": "catalog", "addresses": [GONE]}]}).encode()
        )
        b.removed("gone")
        assert b.leaving.answer(question)["applied"] == []
        await settle()
        assert b.leaving.answer(question) == {"applied": ["gone"], "replicas": ["a"]}

    run("ab", test)


@pytest.mark.parametrize("seed", range(60))
def test_nobody_uses_it_any_more_when_it_is_told(seed: int) -> None:
    """Whatever comes in between, in whichever order; and it is told in the end."""
    chance = random.Random(seed)

    async def test(mesh: Mesh, gone: Caller) -> None:
        mesh.chance = chance
        places = list(mesh.at.values())
        callers = [Caller(f"c{number}").open(chance.choice(places)) for number in range(3)]
        to_remove = [mesh.at[name] for name in "bc"]
        has_said = False
        for _ in range(150):
            one = chance.choice(callers)
            act = chance.random()
            if one.stream is None:
                one.open(chance.choice(places))
            elif act < 0.15:
                one.lose()
            elif act < 0.5:
                one.read()
            elif act < 0.8:
                one.report()
            elif act < 0.9:
                chance.choice(places).hears()
            elif not has_said:
                has_said = True
                mesh.at["a"].leave("gone")
            elif to_remove:
                to_remove.pop().removed("gone")
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            if gone.read().has_left:
                break
        if not gone.has_left:
            for caller in callers:
                _ = caller.stream or caller.open(mesh.at["a"])
            if not has_said:
                mesh.at["a"].leave("gone")
            for place in to_remove:
                place.removed("gone")
            await settle()
            mesh.heard()
            for caller in callers:
                caller.read().report()
            await settle()
            assert gone.read().has_left
        assert not [caller.name for caller in callers if GONE in (caller.uses or {})]

    run("abc", test)
