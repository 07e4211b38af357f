"""Summaries of replicas: told and read, put together, and who is not seen."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.control.edges import EdgeKey, Tally
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Replica
from sidecar.control.plane import Plane, Settings
from sidecar.control.replicas import peers as peers_module
from sidecar.control.replicas.peers import FRESH_S, Peers
from sidecar.control.replicas.summary import (
    Summary,
    joined_edges,
    joined_instances,
    joined_rows,
    read_summary,
    summary_values,
)
from sidecar.control.rollout.view import Instance, Period
from sidecar.link.fields import MessageError
from sidecar.link.report import LATENCY_BOUNDS_S
from sidecar.mesh.source import read_directory

ZEROS = [0] * (len(LATENCY_BOUNDS_S) + 1)
KEY = EdgeKey("a", "b", "b.v1", "b.split")
SUMMARY = Summary(
    instances=(
        Instance("i", "a", "h", "bad", connected_s=90.0, periods=(Period(80.0, 90.0, 7, 2),)),
        Instance("gone", "a", is_connected=False, is_stale=True, is_draining=True),
    ),
    rows=({"id": "i", "service": "a", "connected": True},),
    edges={KEY: Tally(7, 1, 2, Counter({"UH": 2}), 1, [7, *ZEROS[1:]])},
    unseen=("a restart",),
)


def told(summary: Summary, now_s: float) -> bytes:
    return json.dumps(summary_values(summary, now_s)).encode()


def test_summary_is_read_on_ones_own_clock() -> None:
    """Ages are told, so that what was 10 s ago there was 10 s ago here."""
    assert read_summary(told(SUMMARY, 100.0), 100.0) == SUMMARY
    there = read_summary(told(SUMMARY, 100.0), 5000.0)
    assert there.instances[0].connected_s == 4990.0
    assert there.instances[0].periods == (Period(4980.0, 4990.0, 7, 2),)
    assert there.instances[1].connected_s == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"instances": [{"id": "i"}]},
        {"instances": 3},
        {"rows": [{"id": "i"}]},
        {"edges": [{"caller": "a"}]},
        {"edges": [{**summary_values(SUMMARY, 0.0)["edges"][0], "latency": [1]}]},
        {"unseen": [1]},
    ],
)
def test_summary_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Whoever wrote it."""
    with pytest.raises(MessageError):
        read_summary(json.dumps({**summary_values(SUMMARY, 0.0), **change}).encode(), 0.0)


def test_instance_is_as_the_replica_says_that_has_its_stream() -> None:
    """The newest stream, if two think that they have it; what it counted at both counts, in any order of the two."""
    old = Instance("i", "a", "h1", is_connected=False, periods=(Period(1.0, 2.0, 3, 0),))
    new = Instance("i", "a", "h2", connected_s=5.0, periods=(Period(2.0, 3.0, 4, 1),))
    newest = Instance("i", "a", "h3", connected_s=6.0)
    for parts in ([[old], [new], [newest]], [[newest], [new], [old]], [[new], [newest], [old]]):
        found = joined_instances(parts)["i"]
        assert (found.hash, found.is_connected) == ("h3", True)
        assert sorted(period.requests for period in found.periods) == [3, 4]
    rows = [{"id": "i", "connected": False, "by": 1}], [{"id": "i", "connected": True, "by": 2}], [{"id": "j", "by": 3}]
    assert {row["by"] for row in joined_rows(rows).values()} == {2, 3}


def test_what_was_counted_is_added_and_nobodys_own_is_changed() -> None:
    """An edge that several replicas hear of is one edge."""
    mine, its = {KEY: Tally(1, latency=list(ZEROS))}, {KEY: Tally(2, failures=Counter({"UH": 1}), latency=list(ZEROS))}
    found = joined_edges((mine, its))
    assert (found[KEY].requests, found[KEY].failures) == (3, {"UH": 1})
    assert (mine[KEY].requests, its[KEY].requests) == (1, 2)


class Clock:
    """Held."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def test_who_does_not_answer_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its token and no redirects; a summary stands for a while; one without an address cannot be asked."""
    monkeypatch.setattr(peers_module, "PERIOD_S", 0.01)
    answers: dict[str, Any] = {"status": 200}
    seen: list[str] = []

    async def summary(request: web.Request) -> web.Response:
        seen.append(request.headers.get("authorization", ""))
        headers = {"location": "/v1/summary"} if answers["status"] == 302 else {}
        return web.Response(body=told(SUMMARY, 100.0), status=answers["status"], headers=headers)

    async def test() -> None:
        app = web.Application()
        app.add_routes([web.get("/v1/summary", summary)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        clock = Clock()
        peers = Peers("me", lambda: "secret-of-replicas", clock, lambda: 100.0)
        assert peers.unseen == ("the other replicas",)
        peers.use((Replica("me", "http://nowhere"), Replica("other", address), Replica("mute")))
        assert peers.unseen == ("other", "mute")
        heard = asyncio.Event()
        asking = asyncio.create_task(peers.run(heard.set))
        try:
            await heard.wait()
            assert peers.summaries == [SUMMARY]
            assert peers.unseen == ("mute", "other: a restart")
            assert "--advertise" in peers.error("mute")
            assert set(seen) == {"Bearer secret-of-replicas"}
            for status in (302, 500):
                answers["status"] = status
                while f"answered {status}" not in peers.error("other"):
                    await asyncio.sleep(0.01)
            assert peers.is_seen("other")
            clock.s += FRESH_S
            assert (peers.unseen, peers.summaries, peers.is_seen("me")) == (("other", "mute"), [], True)
            answers["status"] = 200
            while not peers.is_seen("other"):
                await asyncio.sleep(0.01)
            assert peers.error("other") == ""
            peers.use((Replica("me"),))
            assert (peers.unseen, peers.summaries) == ((), [])
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await runner.cleanup()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_who_talks_to_another_replica_need_not_return_to_this_one(tmp_path: Path) -> None:
    """After a restart gates wait for those that were here before, wherever they are now."""

    async def test() -> None:
        plane = Plane(FilesEngine(str(tmp_path), read_directory, None), Settings("me"))
        plane.peers.use((Replica("me"), Replica("other")))
        plane._returning = {"i", "gone"}
        plane.peers._heard["other"] = peers_module._Heard(SUMMARY, plane.clock())
        assert plane.unseen == ("a restart",)
        plane._returning = {"i"}
        assert plane.unseen == ()
        assert [one.id for one in plane.view().instances if one.is_connected] == ["i"]
        assert plane.view().unseen == ("other: a restart",)
        assert plane.window()[KEY].requests == 7

    asyncio.run(test())
