"""Replicas that ask each other: who is seen, who is waited for, and answers of all together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from sidecar.control.asks import AskError, Asks, NotHereError
from sidecar.control.calls.counted import Tally
from sidecar.control.calls.edges import AskedKey, EdgeKey, Edges
from sidecar.control.engines.interface import Replica
from sidecar.control.push.hub import Hub
from sidecar.control.replicas import peers as peers_module
from sidecar.control.replicas import whole as whole_module
from sidecar.control.replicas.differences import Teller
from sidecar.control.replicas.peers import FRESH_S, PERIOD_S, TIMEOUT_S, Peers
from sidecar.control.replicas.summary import Summary
from sidecar.control.replicas.tallies import asked_rows, tally_rows
from sidecar.control.replicas.whole import FORGET_S, Whole
from sidecar.control.rollout.view import Instance
from sidecar.link.report import LATENCY_BOUNDS_S, Asked, Edge

ZEROS = [0] * (len(LATENCY_BOUNDS_S) + 1)
KEY = EdgeKey("a", "b", "b.v1", "b.split")
SUMMARY = Summary((Instance("i", "a", "h", connected_s=90.0),), ({"id": "i", "service": "a"},), ("a restart",))


class Clock:
    """Held."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.s = now_s

    def __call__(self) -> float:
        return self.s


class Other:
    """
    Another replica.

    Attributes:
        status: Of every answer.
        gate: Answers wait for it.
        asked: Paths, and who asked.
        told: Of the summary, each time.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.status = 200
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[str, str]] = []
        self.told: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.address = ""
        self._teller = Teller()
        self._now_s = now_s

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.path_qs, request.headers.get("authorization", "")))
        await self.gate.wait()
        name = request.path.rpartition("/")[2]
        if name == "summary":
            value: Any = self._teller.tell(SUMMARY, {}, request.query["since"], self._now_s())
            self.told.append(value)
        else:
            value = self.answers.get(name, {"rows": []})
        headers = {"location": request.path} if self.status == 302 else {}
        return web.Response(body=json.dumps(value), status=self.status, headers=headers)


@asynccontextmanager
async def serving(*others: Other) -> AsyncIterator[None]:
    runners: list[web.AppRunner] = []
    for other in others:
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", other.handle)])
        runners.append(web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        other.address = f"http://127.0.0.1:{runners[-1].addresses[0][1]}"
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def asking(peers: Peers, on_heard: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    task = asyncio.create_task(peers.run(on_heard))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def bounded(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(run())


def test_who_does_not_answer_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its token and no redirects; a summary stands for a while; one without an address cannot be asked."""
    monkeypatch.setattr(peers_module, "PERIOD_S", 0.01)

    async def test() -> None:
        other, clock = Other(lambda: 100.0), Clock()
        async with serving(other):
            peers = Peers("me", lambda: "secret-of-replicas", clock, lambda: 100.0)
            assert peers.unseen == ("the other replicas",)
            peers.use((Replica("me", "http://nowhere"), Replica("other", other.address), Replica("mute")))
            assert peers.unseen == ("other", "mute")
            heard = asyncio.Event()
            async with asking(peers, heard.set):
                await heard.wait()
                assert peers.summaries == [SUMMARY]
                assert peers.unseen == ("mute", "other: a restart")
                assert "--advertise" in peers.error("mute")
                assert {token for _, token in other.asked} == {"Bearer secret-of-replicas"}
                for status in (302, 500):
                    other.status = status
                    await until(lambda status=status: f"answered {status}" in peers.error("other"))  # type: ignore[misc]
                assert peers.is_seen("other")
                clock.s += FRESH_S
                assert (peers.unseen, peers.summaries, peers.is_seen("me")) == (("other", "mute"), [], True)
                other.status = 200
                await until(lambda: peers.is_seen("other") and not peers.error("other"))
                # What is known already is not told again.
                count = len(other.told)
                await until(lambda: len(other.told) >= count + 3)
                assert all(value["since"] and not value["changed"] for value in other.told[1:])
                assert peers.summaries == [SUMMARY]
                peers.use((Replica("me"),))
                assert (peers.unseen, peers.summaries) == ((), [])

    bounded(test)


def test_who_hangs_keeps_nobody_from_being_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are asked on; and one that takes its time is seen, for it is waited for as long as an answer stands."""
    monkeypatch.setattr(peers_module, "PERIOD_S", 0.01)
    assert PERIOD_S + TIMEOUT_S < FRESH_S

    async def test() -> None:
        hanging, well, clock = Other(lambda: 100.0), Other(lambda: 100.0), Clock()
        hanging.gate.clear()
        async with serving(hanging, well):
            peers = Peers("me", str, clock, lambda: 100.0)
            peers.use((Replica("hanging", hanging.address), Replica("well", well.address)))
            async with asking(peers):
                await until(lambda: len(well.asked) > 20)
                assert len(hanging.asked) == 1
                assert (peers.is_seen("well"), peers.is_seen("hanging")) == (True, False)
                hanging.gate.set()
                await until(lambda: peers.is_seen("hanging"))

    bounded(test)


def test_clock_that_is_set_has_all_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of another replica are moved by how far its clock is from this one's, which is not what it was."""
    monkeypatch.setattr(peers_module, "PERIOD_S", 0.01)

    async def test() -> None:
        wall, clock = Clock(100.0), Clock()
        other = Other(wall)
        async with serving(other):
            peers = Peers("me", str, clock, lambda: 100.0)
            peers.use((Replica("other", other.address),))
            async with asking(peers):
                await until(lambda: peers.summaries)
                wall.s += 3600
                await until(lambda: peers.ahead_s("other") == 3600)
                assert peers.summaries[0].instances[0].connected_s == 90.0 - 3600
                await until(lambda: not peers.error("other"))

    bounded(test)


class Mesh:
    """This replica, `one`, with two others; nobody of its own is connected."""

    def __init__(self) -> None:
        self.clock, self.wall = Clock(), Clock(60_000.0)
        self.others = {name: Other(self.wall) for name in ("three", "two")}
        self.peers = Peers("one", str, self.clock, self.wall)
        self.edges = Edges(self.wall)
        hub = Hub(None, lambda _: None, lambda _: None, self.clock)  # type: ignore[arg-type]
        self.whole = Whole(self.peers, self.edges, Asks(hub), self.clock, self.wall)

    def asked(self, name: str, path: str) -> int:
        return sum(path in one for one, _ in self.others[name].asked)


def together(monkeypatch: pytest.MonkeyPatch, test: Callable[[Mesh], Awaitable[None]]) -> None:
    monkeypatch.setattr(peers_module, "PERIOD_S", 0.01)
    monkeypatch.setattr(whole_module, "WAIT_S", 30.0)

    async def run() -> None:
        mesh = Mesh()
        async with serving(*mesh.others.values()):
            mesh.peers.use(Replica(name, other.address) for name, other in mesh.others.items())
            async with asking(mesh.peers):
                await until(lambda: all(map(mesh.peers.is_seen, mesh.others)))
                await test(mesh)

    bounded(run)


def rows(*key: str, requests: int = 7) -> dict[str, Any]:
    return {"rows": tally_rows([(key, Tally(requests, 1, 2, latency=[requests, *ZEROS[1:]]))])}


def test_calls_of_the_last_minute_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for once in a while, however many look; who hangs is named, and not waited for again at once."""

    async def test(mesh: Mesh) -> None:
        mesh.edges.add("a", "a-1", lambda upstream: "b", [Edge("outbound", "b.v1", "b.split", 5)])
        mesh.edges.add_asked("b", str, [Asked("spiffe://shop/a", 5)])
        asked = AskedKey("b", "spiffe://shop/a", "", "")
        mesh.others["two"].answers["edges"] = {**rows(*KEY[:4]), "asked": asked_rows({asked: 7})}
        mesh.others["two"].answers["instances"] = rows("b-2")
        window, missing = await mesh.whole.window()
        assert ({key: tally.requests for key, tally in window.edges.items()}, missing) == ({KEY: 12}, {})
        assert window.asked == {asked: 12}
        assert (await mesh.whole.window())[0] == window
        assert mesh.asked("two", "edges") == 1
        monkeypatch.setattr(whole_module, "WAIT_S", 1.0)
        mesh.others["three"].gate.clear()
        mesh.clock.s += 5
        found, missing = await mesh.whole.of_instances("b c")
        assert ({name: one.requests for name, one in found.items()}, set(missing)) == ({"b-2": 7}, {"three"})
        assert "within" in missing["three"]
        window, missing = await mesh.whole.window()
        assert (window.edges[KEY].requests, "just now" in missing["three"]) == (12, True)
        assert mesh.asked("three", "here/edges") == 1
        monkeypatch.setattr(whole_module, "WAIT_S", 30.0)
        mesh.others["three"].gate.set()
        mesh.clock.s += FORGET_S
        await until(lambda: all(map(mesh.peers.is_seen, mesh.others)))
        assert (await mesh.whole.window())[1] == {}
        mesh.others["two"].answers["edges"] = {"rows": [1]}
        mesh.clock.s += 5
        window, missing = await mesh.whole.window()
        assert (window.edges[KEY].requests, set(missing)) == (5, {"two"})

    together(monkeypatch, test)


def test_hour_is_that_of_all_and_a_minute_that_is_over_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """p99 of all requests, not of replicas; who is not there is named, and its minutes are had when it is back."""

    async def test(mesh: Mesh) -> None:
        now = 1000
        mesh.edges.add("a", "a-1", lambda upstream: "b", [Edge("outbound", "b", "r", 1000, latency=(1000, *ZEROS[1:]))])
        beyond = Tally(10, latency=[*ZEROS[1:], 10])
        mesh.others["two"].answers["history"] = {
            "rows": tally_rows([(("a", "b", str(now)), beyond), (("c", "d", str(now - 30)), beyond)])
        }
        mesh.others["three"].status = 500
        told, missing = await mesh.whole.history(60)
        assert told["minutes"] == [minute * 60 for minute in range(now - 59, now + 1)]
        by_pair = {(row["from"], row["to"]): row for row in told["edges"]}
        assert by_pair["a", "b"]["requests"][-1] == 1010
        assert by_pair["a", "b"]["p99_s"][-1] <= LATENCY_BOUNDS_S[0]
        assert sum(by_pair["c", "d"]["requests"]) == by_pair["c", "d"]["requests"][29] == 10
        assert by_pair["c", "d"]["p99_s"][29] == LATENCY_BOUNDS_S[-1]
        assert set(missing) == {"three"}
        mesh.others["three"].status = 200
        mesh.others["three"].answers["history"] = rows("c", "d", str(now - 30))
        told, missing = await mesh.whole.history(60)
        assert (sum(told["edges"][1]["requests"]), missing) == (17, {})
        before = mesh.asked("two", "history")
        assert (await mesh.whole.history(60))[0] == told
        assert mesh.asked("two", "history") == before + 1

    together(monkeypatch, test)


def test_question_goes_to_the_replica_that_has_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or to whichever has it by now; an answer is the sidecar's, and a failure says whose it is."""

    async def test(mesh: Mesh) -> None:
        for name, other in mesh.others.items():
            other.answers["ask"] = {"answer": name}
        assert await mesh.whole.ask("i", "explain", {}) == "three"
        mesh.others["three"].answers["ask"] = {"error": "unsupported"}
        with pytest.raises(AskError, match="unsupported"):
            await mesh.whole.ask("i", "explain", {})
        monkeypatch.setattr(whole_module, "TIMEOUT_S", 0.1)
        monkeypatch.setattr(whole_module, "WAIT_S", 0.0)
        mesh.others["three"].gate.clear()
        with pytest.raises(AskError, match="three, to which it is connected: no answer within"):
            await mesh.whole.ask("i", "explain", {})
        monkeypatch.setattr(whole_module, "WAIT_S", 30.0)
        for other in mesh.others.values():
            other.gate.set()
            other.status = 404
        mesh.peers.use((*(Replica(name, one.address) for name, one in mesh.others.items()), Replica("four", "")))
        with pytest.raises(NotHereError, match="not seen: four"):
            await mesh.whole.ask("nobody", "explain", {})

    together(monkeypatch, test)
