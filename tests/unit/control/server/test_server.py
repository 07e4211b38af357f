"""Streams and limits of the server, in this process: real sockets, and times that are short."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.admin.hosts import AllowedHosts
from sidecar.cli.mesh import status
from sidecar.control import shown as shown_module
from sidecar.control.engines import files
from sidecar.control.engines.files import FilesEngine
from sidecar.control.metrics import Counts, Metrics
from sidecar.control.plane import Plane
from sidecar.control.replicas.differences import Heard, hear
from sidecar.control.revision import follower, worker
from sidecar.control.revision.compiler import Compiler
from sidecar.control.server import watch as watch_module
from sidecar.control.server.access import Access, AccessLog
from sidecar.control.server.app import control_app, ops_app
from sidecar.control.server.token import TokenError, Tokens, read_tokens
from sidecar.control.server.watch import Watching
from sidecar.link.report import LATENCY_BOUNDS_S
from sidecar.mesh.compile.language import FIRST
from sidecar.mesh.learn import Call, calls_of, learn
from sidecar.mesh.read import read_mesh
from sidecar.mesh.source import read_directory
from sidecar.mesh.told import LANGUAGE
from sidecar.telemetry.metrics import catalogue

MESH = "mesh: m\nservices:\n  a: {app: '127.0.0.1:8080', calls: {b: {}}}\n  b: {app: '127.0.0.1:8080', calls: {}}\n"


class Here(Compiler):
    """Compiles in this process."""

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class World:
    """A plane and its server."""

    def __init__(self, plane: Plane, counts: Counts, session: aiohttp.ClientSession) -> None:
        self.plane = plane
        self.counts = counts
        self.session = session

    def watch(self, instance: str = "i", **more: str) -> Any:
        query = {"service": "a", "instance": instance, **more}
        return self.session.get("/v1/watch", params=query)


def run(test: Callable[[World], Awaitable[None]], tmp_path: Path, state: Path | None = None, **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60), serving(tmp_path, state, **options) as world:
            await test(world)

    worker._known = worker._Known()
    asyncio.run(bounded())


@asynccontextmanager
async def serving(tmp_path: Path, state: Path | None, **options: Any) -> AsyncIterator[World]:
    (tmp_path / "mesh.yaml").write_text(MESH)
    engine = FilesEngine(str(tmp_path), read_directory, str(state) if state is not None else None)
    plane, counts = Plane(engine), Counts()
    plane.follower._compiler = plane.compiler = Here(has_identity=False)
    access = Access(None, AllowedHosts("127.0.0.1:0"), AccessLog(None), counts)
    app = control_app(plane, Watching(plane, counts, **options), access)
    app.add_subapp("/ops/", ops_app(plane, Metrics(plane, counts)))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await plane.open()
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await plane.follower.first.wait()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield World(plane, counts, session)
    finally:
        await runner.cleanup()
        await plane.close()


async def types(answer: aiohttp.ClientResponse) -> list[str]:
    return [json.loads(raw)["type"] async for raw in answer.content]


def test_stream_ends_with_its_life_and_tells_to_move(tmp_path: Path) -> None:
    """After the lines that it had to say."""

    async def test(world: World) -> None:
        async with world.watch() as answer:
            said = await types(answer)
        assert said[0] == "config"
        assert said[-1] == "move" or said[-2:] == ["move", "ping"]
        assert len(world.plane.hub) == 0

    run(test, tmp_path, life_s=0.0)


def test_pings_tell_the_revision(tmp_path: Path) -> None:
    """Again and again."""

    async def test(world: World) -> None:
        async with world.watch() as answer:
            pings = 0
            async for raw in answer.content:
                line = json.loads(raw)
                if line["type"] == "ping":
                    assert line["revision"] == 1
                    pings += 1
                if pings == 3:
                    return

    run(test, tmp_path, ping_s=0.01)


def test_streams_are_bounded_and_ones_own_older_one_makes_room(tmp_path: Path) -> None:
    """Beyond that: 503, with when to come again."""

    async def test(world: World) -> None:
        async with world.watch("one"), world.watch("two"):
            async with world.watch("three") as answer:
                assert (answer.status, answer.headers["retry-after"]) == (503, "10")
            async with world.watch("two") as answer:
                assert answer.status == 200

    run(test, tmp_path, max_streams=2)


def test_draining_control_plane_takes_no_stream(tmp_path: Path) -> None:
    """And is not ready."""

    async def test(world: World) -> None:
        async with world.session.get("/ops/ready") as answer:
            assert (answer.status, await answer.text()) == (200, "ready\n")
        world.plane.is_draining = True
        async with world.watch() as answer:
            assert answer.status == 503
        async with world.session.get("/ops/ready") as answer:
            assert (answer.status, await answer.text()) == (503, "draining\n")

    run(test, tmp_path)


def test_sidecar_that_does_not_read_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up nobody: what is written to it has an end."""
    monkeypatch.setattr(watch_module, "WRITE_S", 0.2)

    async def test(world: World) -> None:
        url = world.session._base_url
        assert url is not None
        with socket.create_connection(("127.0.0.1", url.port or 0)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"GET /v1/watch?service=a&instance=deaf HTTP/1.1\r\nhost: localhost\r\n\r\n")
            while world.plane.hub.get("deaf") is None:
                await asyncio.sleep(0.01)
            stream = world.plane.hub.get("deaf")
            assert stream is not None
            from sidecar.link.messages import Ask

            while world.plane.hub.get("deaf") is not None:
                stream.say(Ask("x", "k", {"filler": "x" * 200_000}))
                await asyncio.sleep(0.005)

    run(test, tmp_path)


def test_poll_waits_for_a_change_and_answers_with_it(tmp_path: Path) -> None:
    """304 when the time is over and nothing changed; the lines at once when something does."""

    async def test(world: World) -> None:
        async with world.watch(wait="5s") as answer:
            first = await answer.json()
            assert [line["type"] for line in first["lines"]] == ["config", "endpoints"]
            tag = answer.headers["etag"]
        have = {"config": first["lines"][0]["hash"], "endpoints": f"b:{first['lines'][1]['version']}"}
        async with world.watch(wait="5s", **have) as answer:
            assert [line["type"] for line in (await answer.json())["lines"]] == ["current"]
        report: Mapping[str, Any] = {
            "service": "b", "instance": "b-1", "seq": 1, "health": "healthy",
            "ports": {"http": {"address": "127.0.0.1:4000"}},
        }  # fmt: skip
        async with world.session.post("/v1/report", json=report) as told:
            assert told.status == 200
        while not world.plane.discovery._dirty and not any(
            status.endpoints for _, status in world.plane.discovery.status()
        ):
            await asyncio.sleep(0.01)
        headers = {"if-none-match": tag}
        query = {"service": "a", "instance": "i", "wait": "20s", **have}
        async with world.session.get("/v1/watch", params=query, headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["etag"] != tag or (await answer.json())["lines"]

    run(test, tmp_path)


def test_every_metric_that_is_documented_is_there(tmp_path: Path) -> None:
    """And every one that is there is documented; none of them is told by sidecars in another sense."""

    async def test(world: World) -> None:
        async with world.watch() as answer:
            await answer.content.readline()
            async with world.session.get("/ops/metrics") as scrape:
                text = await scrape.text()
        page = (Path(__file__).parents[4] / "docs" / "mesh-control.md").read_text().rpartition("## Metrics")[2]
        found = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE sidecar_control")}
        assert found
        for name in found:
            short = name.removeprefix("sidecar_control_")
            assert f"`{short}" in page, name
        sidecars = {one.name for one in vars(catalogue).values() if isinstance(one, catalogue.Metric)}
        assert any(name.startswith("sidecar_control_") for name in sidecars)
        assert not found & {name.removesuffix("_total") for name in sidecars} | found & sidecars

    run(test, tmp_path)


def test_whatever_is_answered_is_taken_for_what_it_says_it_is(tmp_path: Path) -> None:
    """By a browser, too: also what is refused, what is nowhere, and what streams."""

    async def test(world: World) -> None:
        asked = [
            ("/v1/mesh", {}),
            ("/", {"host": "elsewhere.example"}),
            ("/nowhere", {}),
            ("/v1/instances", {}),
            ("/", {}),
        ]
        for path, fields in asked:
            async with world.session.get(path, headers=fields) as answer:
                assert answer.headers["x-content-type-options"] == "nosniff", (path, answer.status)
        async with world.watch() as stream:
            assert stream.headers["x-content-type-options"] == "nosniff"

    run(test, tmp_path)


def test_sidecar_of_an_older_language_is_told_why_it_gets_no_file_and_holds_up_nobody(tmp_path: Path) -> None:
    """Its stream stays open; status, metric and the rollouts' view know of it; what it runs stays as it is."""
    why = f"this sidecar knows language {FIRST - 1}, and the mesh needs {FIRST}: update it"

    async def test(world: World) -> None:
        async with world.watch("old", language=str(FIRST - 1)) as old:
            assert json.loads(await old.content.readline()) == {"type": "none", "why": why}
            async with world.watch("new", language=str(LANGUAGE)) as new:
                assert json.loads(await new.content.readline())["type"] == "config"
                async with world.session.get("/v1/mesh") as answer:
                    shown = await answer.json()
                rows = {one["id"]: (one["wanted"] is not None, one["none"]) for one in shown["instances"]}
                assert rows == {"old": (False, why), "new": (True, "")}
                assert f"a/old gets no file: {why}" in status.written(shown)
                async with world.session.get("/ops/metrics") as scrape:
                    assert "sidecar_control_instances_outdated 1.0" in await scrape.text()
                seen = {one.id: one.is_outdated for one in world.plane.sight.instances()}
                assert seen == {"old": True, "new": False}
                told = hear(Heard(), json.dumps(shown_module.summary(world.plane, "")).encode(), 0.0)
                assert {one.id: one.is_outdated for one in told.summary.instances} == seen

    run(test, tmp_path)


def test_full_disk_is_told_as_that_and_everything_is_served_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written, why and since when, and no word of refusal; all is written when there is room."""
    mesh, state, is_full = tmp_path / "mesh", tmp_path / "state", False
    mesh.mkdir()
    write = files.write_whole

    def write_whole(path: Path, content: bytes) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(files, "write_whole", write_whole)
    monkeypatch.setattr(files, "WRITE_PERIOD_S", 0.01)
    monkeypatch.setattr(follower, "RETRY_S", 0.01)

    async def test(world: World) -> None:
        nonlocal is_full

        async def owed(number: int) -> dict[str, Any]:
            while len(shown := (await (await world.session.get("/v1/mesh")).json())["store"]) != number:
                await asyncio.sleep(0.02)
            async with world.session.get("/v1/mesh") as answer:
                found: dict[str, Any] = await answer.json()
            return found if len(found["store"]) == len(shown) else await owed(number)

        async def metrics() -> str:
            async with world.session.get("/ops/metrics") as scrape:
                return await scrape.text()

        assert (await owed(0))["revision"] == 1
        is_full = True
        report: Mapping[str, Any] = {
            "service": "b", "instance": "b-1", "seq": 1, "health": "healthy",
            "ports": {"http": {"address": "127.0.0.1:4000"}},
        }  # fmt: skip
        async with world.session.post("/v1/report", json=report) as told:
            assert told.status == 200
        (mesh / "mesh.yaml").write_text(MESH.replace("mesh: m\n", "mesh: m\ndefaults: {timeout: 3s}\n"))
        shown = await owed(2)
        room = "no space left on device"
        assert {(one["what"], one["waiting"]) for one in shown["store"]} == {("registrations", 1), ("revision", None)}
        assert all(one["error"].startswith(str(state)) and one["error"].endswith(room) for one in shown["store"])
        assert all(0.0 <= shown["time"] - one["since"] < 60.0 for one in shown["store"])
        assert shown["source"] == {"problems": [], "since": None, "refused": False}
        assert (shown["revision"], [one["registered"] for one in shown["instances"]]) == (1, [True])
        text = status.written(shown)
        assert "refused" not in text
        assert f"1 registrations, which are served from memory: {state / 'registrations.json'}: {room}" in text
        assert "the last edit of the mesh's files, so what was wanted before stays wanted" in text
        figures = await metrics()
        assert "sidecar_control_registrations_waiting 1.0" in figures
        assert "sidecar_control_source_ok 1.0" in figures
        assert 'sidecar_control_store_failing{what="revision"} 1.0' in figures
        async with world.watch() as answer:
            assert json.loads(await answer.content.readline())["type"] == "config"
            assert json.loads(await answer.content.readline())["added"][0]["address"] == "127.0.0.1:4000"
        is_full = False
        assert (await owed(0))["revision"] == 2
        assert "b-1" in (state / "registrations.json").read_text()
        assert 'sidecar_control_store_failing{what="revision"} 0.0' in await metrics()

    run(test, mesh, state)


def test_token_files(tmp_path: Path) -> None:
    """One a line, long enough, of the characters that a field may have."""
    path = tmp_path / "tokens"
    path.write_text("# notes\n\nfirst-token-0123456789\n  second-token-0123456789  \n")
    tokens = Tokens(str(path))
    assert tokens.admits("Bearer first-token-0123456789")
    assert tokens.admits("bearer  second-token-0123456789")
    for wrong in ("", "Bearer", "Bearer ", "Bearer first", "Basic first-token-0123456789", "first-token-0123456789"):
        assert not tokens.admits(wrong)
    for bad in ("", "# only\n", "short\n", "with space inside it\n", "ümlaut-token-0123456789\n", "x" * 100_000):
        path.write_text(bad)
        with pytest.raises(TokenError):
            read_tokens(str(path))
    with pytest.raises(TokenError, match="no such file"):
        read_tokens(str(tmp_path / "none"))


def test_who_asked_and_what_was_refused_is_shown(tmp_path: Path) -> None:
    """By the identity that it showed; certificates of those that have one; nothing of it in a mesh in clear."""
    report: dict[str, Any] = {"service": "b", "instance": "i", "health": "healthy", "seq": 1}
    held = {
        "id": "spiffe://m/b", "not_before": 1.4e9, "not_after": 9e9, "issuer": "CN=x", "issuer_not_after": 9.1e9,
        "root_not_after": 9.2e9,
        "last_error": "no answer",
    }  # fmt: skip
    asked = [
        {"from": "spiffe://m/a", "requests": 6},
        {"from": "spiffe://m/eve", "requests": 2},
        {"from": "spiffe://m/eve", "requests": 2, "rule": "callers", "outcome": "denied"},
        {"from": "", "requests": 3, "outcome": "unidentified"},
    ]

    async def shown(world: World, said: dict[str, Any]) -> dict[str, Any]:
        async with world.session.post("/v1/report", json=said) as told:
            assert told.status == 200, await told.text()
        async with world.session.get("/v1/mesh") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def test(world: World) -> None:
        found = await shown(world, report)
        assert (found["edges"], found["refused"], found["instances"][0]["certificate"]) == ([], [], None)
        found = await shown(world, {**report, "seq": 2, "identity": held, "asked": asked})
        [edge] = found["edges"]
        assert (edge["from"], edge["to"], edge["requests"], edge["tls"], edge["success"]) == ("a", "b", 6, "all", None)
        [refused] = found["refused"]
        assert refused == {
            "from": "eve", "to": "b", "identity": "spiffe://m/eve", "rule": "callers", "count": 2, "audit": False,
            "window_s": 60,
        }  # fmt: skip
        assert {one["name"]: one["unidentified"] for one in found["services"]} == {"a": 0, "b": 3}
        assert found["instances"][0]["certificate"] == {
            "identity": "spiffe://m/b", "not_after": 9e9, "issuer": "CN=x", "issuer_not_after": 9.1e9,
            "root_not_after": 9.2e9, "warning": None, "trouble": "no answer",
        }  # fmt: skip
        expected = Call("a", "b", 6), Call("eve", "b", 2, (), ("callers",))
        assert calls_of(found, {"edges": []}) == expected

    run(test, tmp_path)


def test_what_sidecars_counted_is_what_a_mesh_is_learned_from(tmp_path: Path) -> None:
    """`sidecar mesh learn` reads the very answers of a control plane, routes included."""
    edge = {
        "direction": "outbound", "upstream": "b.v1", "route": "b.beta", "requests": 3, "failures": {}, "statuses": {},
        "latency": [3] + [0] * len(LATENCY_BOUNDS_S), "request_bytes": 0, "response_bytes": 0, "from": "",
    }  # fmt: skip
    inbound = {**edge, "direction": "inbound", "upstream": "app", "route": "app", "from": "b"}

    async def test(world: World) -> None:
        report = {
            "service": "a", "instance": "i", "version": "", "zone": "", "release": "", "language": 1, "address": "",
            "weight": 1.0, "ports": {}, "health": "healthy", "goodbye": False, "config": None, "refused": None,
            "endpoints": {}, "seq": 1, "edges": [edge, inbound],
        }  # fmt: skip
        async with world.session.post("/v1/report", json=report) as told:
            assert told.status == 200, await told.text()
        answers = []
        for path in ("/v1/mesh", "/v1/history?minutes=60"):
            async with world.session.get(path) as answer:
                answers.append(await answer.json())
        calls = calls_of(*answers)
        assert calls == (Call("a", "b", 3, ("b.beta",)),)
        mesh = read_mesh({"mesh.yaml": MESH.encode()})
        assert [(one.service, one.key, one.names) for one in learn(mesh, calls).proposals] == [("b", "callers", ("a",))]

    run(test, tmp_path)
