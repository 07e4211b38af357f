"""Pushes, ways back and haste, asked of the server in this process: what is done, and what is refused and why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.admin.hosts import AllowedHosts
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import EngineError, Unavailable
from sidecar.control.metrics import Counts
from sidecar.control.plane import Plane
from sidecar.control.revision import pushes, worker
from sidecar.control.revision.compiler import Compiler
from sidecar.control.server import bodies
from sidecar.control.server.access import Access, AccessLog
from sidecar.control.server.app import control_app
from sidecar.control.server.watch import Watching
from sidecar.mesh.source import read_directory
from tests.support.pushable import Pushable

MESH = "mesh: m\n"
A = "service: a\napp: 127.0.0.1:8080\ncalls: {b: {}}\n"
B = "service: b\napp: 127.0.0.1:8080\ncalls: {}\n"
FILES = {"mesh.yaml": MESH, "services/a.yaml": A, "services/b.yaml": B}
EDIT = {**FILES, "services/b.yaml": B + "timeout: 3s\n"}
WAVES = {**EDIT, "mesh.yaml": MESH + "rollout: {hold: 60s}\n"}


class Here(Compiler):
    """Compiles in this process."""

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class World:
    """A plane, its source, and a client."""

    def __init__(self, plane: Plane, mesh: Pushable, session: aiohttp.ClientSession) -> None:
        self.plane = plane
        self.mesh = mesh
        self.session = session

    async def post(self, path: str, **values: Any) -> tuple[int, Any]:
        async with self.session.post(f"/v1/{path}", json=values) as answer:
            return answer.status, await answer.json()


def run(test: Callable[[World], Awaitable[None]], directory: Path | None = None) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60), serving(directory) as world:
            await test(world)

    worker._known = worker._Known()
    asyncio.run(bounded())


@asynccontextmanager
async def serving(directory: Path | None) -> AsyncIterator[World]:
    engine = FilesEngine(str(directory or "."), read_directory, None)
    mesh = Pushable({name: text.encode() for name, text in FILES.items()})
    if directory is None:
        engine.mesh = mesh  # type: ignore[assignment]
    plane, counts = Plane(engine), Counts()
    plane.follower._compiler = plane.pushes._compiler = plane.compiler = Here(has_identity=False)
    access = Access(None, AllowedHosts("127.0.0.1:0"), AccessLog(None), counts)
    runner = web.AppRunner(control_app(plane, Watching(plane, counts), access), access_log=None, shutdown_timeout=0.1)
    await plane.open()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await plane.follower.first.wait()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield World(plane, mesh, session)
    finally:
        await runner.cleanup()
        await plane.close()


def test_push_is_the_wanted_revision_when_it_is_answered() -> None:
    """With what it changes, and the version that the next one may name; the same again is no revision."""

    async def test(world: World) -> None:
        status, said = await world.post("push", files=EDIT, expected="1")
        assert (status, said["revision"], said["version"], said["pinned"]) == (200, 2, "2", None)
        assert world.mesh.files["services/b.yaml"] == EDIT["services/b.yaml"].encode()
        assert [(change["service"], change["kind"]) for change in said["changes"]] == [("a", "changed")]
        [part] = said["changes"][0]["parts"]
        assert (part["part"], part["name"], part["origin"]["file"]) == ("route", "b", "services/b.yaml")
        status, said = await world.post("push", files=EDIT)
        assert (status, said["revision"], said["version"], said["changes"]) == (200, 2, "3", [])

    run(test)


def test_mesh_with_problems_is_refused_with_all_of_them() -> None:
    """At their places; nothing is written, and what is wanted stays."""

    async def test(world: World) -> None:
        bad = {**FILES, "services/a.yaml": A + "tls: {}\n", "services/c.yaml": "service: c\napp: x\n"}
        for path in ("push", "diff"):
            status, said = await world.post(path, files=bad)
            assert status == 422
            assert {(one["file"], one["line"]) for one in said["problems"]} >= {("services/a.yaml", 4)}
            assert {one["file"] for one in said["problems"]} == {"services/a.yaml", "services/c.yaml"}
        assert world.mesh.number == 1
        assert world.plane.rollouts.revision == 1
        assert world.plane.follower.problems == ()

    run(test)


def test_diff_says_what_a_push_would_change_and_changes_nothing() -> None:
    """What the control plane knows of the mesh that it follows is not disturbed by what it is asked."""

    async def test(world: World) -> None:
        status, said = await world.post("diff", files=EDIT)
        assert (status, said["revision"], said["version"]) == (200, 1, "1")
        assert [change["service"] for change in said["changes"]] == ["a"]
        assert (await world.post("diff", files=FILES))[1]["changes"] == []
        assert (world.mesh.number, world.plane.rollouts.revision) == (1, 1)
        # What was only looked at must still reach those who get it by a push.
        assert (await world.post("push", files=EDIT))[1]["revision"] == 2
        wanted, _ = world.plane.rollouts.wanted("a", "i", 1)
        assert wanted is not None
        known = world.plane.rollouts.known(wanted.hash)
        assert known is not None
        assert "timeout: 3s" in known.text

    run(test)


def test_push_over_another_ones_is_a_conflict() -> None:
    """Unless it says that it does not matter: then it waits until the other is told, and goes over it."""

    async def test(world: World) -> None:
        assert (await world.post("push", files=EDIT, expected="1"))[0] == 200
        status, said = await world.post("push", files=FILES, expected="1")
        assert status == 409
        assert "version 1" in said["error"]
        world.mesh.is_quiet = True
        world.mesh.number += 1
        asking = asyncio.create_task(world.post("push", files=FILES))
        await asyncio.sleep(0)
        world.mesh.speak()
        assert (await asking)[0] == 200
        assert world.plane.rollouts.revision == 3

    run(test)


@pytest.mark.parametrize(("error", "expected"), [(Unavailable("no quorum"), 503), (EngineError("too large"), 422)])
def test_engine_that_does_not_take_it_says_why(error: EngineError, expected: int) -> None:
    """In its own words."""

    async def test(world: World) -> None:
        world.mesh.fails = error
        status, said = await world.post("push", files=EDIT)
        assert (status, said["error"]) == (expected, str(error))

    run(test)


def test_directory_that_is_followed_is_the_push(tmp_path: Path) -> None:
    """Which is what a push is answered; what a directory would change can be asked for."""
    (tmp_path / "mesh.yaml").write_text("mesh: m\nservices: {a: {app: '127.0.0.1:8080'}}\n")

    async def test(world: World) -> None:
        files = {"mesh.yaml": "mesh: m\nservices: {a: {app: '127.0.0.1:8081'}}\n"}
        status, said = await world.post("push", files=files)
        assert status == 501
        assert "edit it there" in said["error"]
        assert [one["service"] for one in (await world.post("diff", files=files))[1]["changes"]] == ["a"]

    run(test, directory=tmp_path)


def test_push_that_is_not_taken_in_time_is_accepted_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has it, and tells it later."""
    monkeypatch.setattr(pushes, "TAKEN_S", 0.05)

    async def test(world: World) -> None:
        world.mesh.is_quiet = True
        status, said = await world.post("push", files=EDIT)
        assert (status, said["revision"], said["version"]) == (202, None, "2")

    run(test)


def test_rollback_pins_until_the_files_differ() -> None:
    """The same files pushed again change nothing, others end the pin; `diff` compares with what is wanted now."""

    async def test(world: World) -> None:
        await world.post("push", files=EDIT)
        status, said = await world.post("rollback", revision=1)
        assert (status, said) == (200, {"revision": 3, "pinned": 1, "services": ["a"]})
        async with world.session.get("/v1/mesh") as answer:
            assert (await answer.json())["pinned"] == 1
        assert (await world.post("diff", files=FILES))[1]["changes"] == []
        status, said = await world.post("push", files=EDIT)
        assert (status, said["revision"], said["pinned"]) == (200, 3, 1)
        other = {**FILES, "services/b.yaml": B + "timeout: 5s\n"}
        status, said = await world.post("push", files=other)
        assert (status, said["revision"], said["pinned"]) == (200, 4, None)
        status, said = await world.post("rollback", revision=9)
        assert status == 404
        assert "kept are: 1, 2, 3, 4" in said["error"]

    run(test)


def test_hurry_names_whom_it_concerned() -> None:
    """Nobody where all is done; a service that is none is refused."""

    async def test(world: World) -> None:
        assert await world.post("hurry") == (200, {"revision": 1, "services": []})
        status, said = await world.post("hurry", services=["x"])
        assert status == 404
        assert "'x'" in said["error"]
        stream_of = {"service": "a", "instance": "one"}
        async with world.session.get("/v1/watch", params=stream_of):
            assert (await world.post("push", files=WAVES))[1]["revision"] == 2
            assert await world.post("hurry", services=["b"]) == (200, {"revision": 2, "services": []})
            assert await world.post("hurry", services=["a"]) == (200, {"revision": 2, "services": ["a"]})
            assert world.plane.rollouts.record.services["a"].is_now

    run(test)


def test_push_now_hurries_what_is_under_way() -> None:
    """Also where it changes no file."""

    async def test(world: World) -> None:
        async with world.session.get("/v1/watch", params={"service": "a", "instance": "one"}):
            await world.post("push", files=WAVES)
            assert not world.plane.rollouts.record.services["a"].is_now
            assert (await world.post("push", files=WAVES, now=True))[1]["revision"] == 2
            assert world.plane.rollouts.record.services["a"].is_now

    run(test)


def test_files_as_parts_of_a_form() -> None:
    """As `curl -F files=@mesh.yaml` sends them; octets that are no text are a problem with its place."""

    async def test(world: World) -> None:
        form = aiohttp.FormData()
        for name, text in EDIT.items():
            form.add_field("files", text, filename=name, content_type="application/yaml")
        form.add_field("expected", "1")
        form.add_field("now", "true")
        async with world.session.post("/v1/push", data=form) as answer:
            said = await answer.json()
            assert (answer.status, said.get("revision")) == (200, 2), said
        form = aiohttp.FormData()
        form.add_field("files", b"mesh: m\n\xff", filename="mesh.yaml")
        async with world.session.post("/v1/push", data=form) as answer:
            said = await answer.json()
            assert (answer.status, said["problems"][0]["line"]) == (422, 2)

    run(test)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "files: expected an object"),
        ({"files": {}}, "at least one"),
        ({"files": {"../mesh.yaml": "x"}}, "names relative"),
        ({"files": {"/mesh.yaml": "x"}}, "names relative"),
        ({"files": {"a\nb.yaml": "x"}}, "names relative"),
        ({"files": {"a.yaml": 1}}, "files.a.yaml: expected text"),
        ({"files": {"a.yaml": "\udc80"}}, "Unicode"),
        ({"files": {"a.yaml": "x"}, "expected": 4}, "expected a version"),
        ({"files": {"a.yaml": "x"}, "now": "yes"}, "true or false"),
    ],
)
def test_body_of_another_form_is_refused_with_what_is_wrong(values: dict[str, Any], expected: str) -> None:
    """400; nothing is judged."""

    async def test(world: World) -> None:
        status, said = await world.post("push", **values)
        assert status == 400
        assert expected in said["error"]

    run(test)


def test_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the two types that are said."""
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)

    async def test(world: World) -> None:
        assert (await world.post("push", files={"a.yaml": "x" * 1000}))[0] == 413
        form = aiohttp.FormData()
        form.add_field("files", "x" * 2000, filename="a.yaml")
        async with world.session.post("/v1/push", data=form) as answer:
            assert answer.status == 413
        async with world.session.post("/v1/push", data=b"x", headers={"content-type": "text/plain"}) as answer:
            assert answer.status == 415
        broken = {"content-type": "multipart/form-data"}
        async with world.session.post("/v1/push", data=b"x", headers=broken) as answer:
            assert answer.status == 400
        assert (await world.post("rollback"))[0] == 400
        assert (await world.post("hurry", services=3))[0] == 400

    run(test)
