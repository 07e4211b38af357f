"""From the mesh's files to what each instance is to have: judged, kept, taken back up; in one process."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.engines import files as files_module
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Content, EngineError, Trouble, Unavailable, Versioned
from sidecar.control.revision import follower as follower_module
from sidecar.control.revision import rollouts as rollouts_module
from sidecar.control.revision import worker
from sidecar.control.revision.compiled import CompiledFile
from sidecar.control.revision.compiler import Compiler, CompilerError
from sidecar.control.revision.follower import Follower
from sidecar.control.revision.judged import Considered, Judged, Rejected
from sidecar.control.revision.rollouts import Rollouts
from sidecar.control.revision.trees import render, tree_of
from sidecar.control.rollout.view import Instance, View
from sidecar.control.storing import NotStored, Storing
from sidecar.mesh.compile import language
from sidecar.mesh.compile.language import FIRST
from sidecar.mesh.source import read_directory
from sidecar.mesh.told import LANGUAGE, Told

FILES = {
    "mesh.yaml": b"mesh: shop\n",
    "a.yaml": b"service: a\napp: 127.0.0.1:8080\ncalls: {b: {}}\n",
    "b.yaml": b"service: b\napp: 127.0.0.1:8080\ncalls: {c: {}}\n",
    "c.yaml": b"service: c\napp: 127.0.0.1:8080\ncalls: {}\n",
    "out.yaml": b"service: out\nendpoints: [10.9.9.9:443]\ncallers: []\n",
}
WAVES = {**FILES, "mesh.yaml": b"mesh: shop\nrollout: {waves: [one, 100%], hold: 1h}\n"}
EDIT = {**FILES, "b.yaml": FILES["b.yaml"] + b"timeout: 3s\n"}
NOBODY = View()


@pytest.fixture(autouse=True)
def _fresh_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiling process remembers is this process's here."""
    monkeypatch.setattr(worker, "_known", worker._Known())


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def judged(files: Mapping[str, bytes], *, has_identity: bool = False) -> Judged:
    found = worker.judge(files, has_identity)
    assert isinstance(found, Judged), found
    return found


class Here(Compiler):
    """Compiles in this process."""

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def test_edit_concerns_itself_and_its_callers() -> None:
    """Of four services two are compiled again; what does not change has its hash."""
    first = judged(FILES)
    assert {one.service for one in first.compiled} == {"a", "b", "c"}
    second = judged(EDIT)
    assert {one.service for one in second.compiled} <= {"a", "b"}
    assert second.compiled
    assert second.files["c"] == first.files["c"]
    assert second.hash != first.hash


def test_identities_of_callers_concern_whom_they_call() -> None:
    """They stand in the rules of the called one; and whether there are identities at all concerns everyone."""
    files = {**FILES, "c.yaml": b"service: c\napp: 127.0.0.1:8080\ncalls: {}\ncallers: [{from: a, methods: GET}, b]\n"}
    first = judged(files, has_identity=True)
    named = {**files, "a.yaml": files["a.yaml"] + b"identities: ns/shop/sa/a\n"}
    second = judged(named, has_identity=True)
    assert {one.service for one in second.compiled} == {"c"}
    assert b"spiffe://shop/ns/shop/sa/a" in second.values[second.files["c"]]
    assert second.lifetime_s == 7 * 86_400
    clear = judged(named)
    assert {one.service for one in clear.compiled} == {"a", "b", "c"}
    assert judged(files, has_identity=True).files == first.files


def test_identities_of_services_are_known_for_who_joins() -> None:
    """By a service's name, or as its file lists them; nobody outside of the mesh has one."""
    listed = b"service: d\napp: 127.0.0.1:8080\ncalls: {}\nidentities: [d, ns/x/sa/y]\n"
    found = judged({**FILES, "d.yaml": listed})
    identities = {name: facts.identities for name, facts in found.services.items()}
    assert identities["d"] == ("spiffe://shop/d", "spiffe://shop/ns/x/sa/y")
    assert identities["a"] == ("spiffe://shop/a",)
    assert identities["out"] == ()


def test_control_plane_says_whether_there_are_identities() -> None:
    """To what it asks: a judgement, and what a push would change."""

    async def test() -> None:
        for has_identity in (False, True):
            compiler = Here(has_identity)
            found = await compiler.judge(FILES)
            assert isinstance(found, Judged)
            assert (b'"tls":"permissive"' in found.values[found.files["a"]]) is has_identity
            running = {one.service: Told(one.hash, one.text) for one in found.compiled}
            considered = await compiler.consider(FILES, running)
            assert isinstance(considered, Considered)
            assert considered.changes == ()

    run(test)


def test_incremental_result_is_that_of_a_process_that_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After edits in any order, services that come and go, callers that are admitted no more."""
    steps = [
        FILES,
        EDIT,
        {name: text for name, text in EDIT.items() if name != "a.yaml"},
        {**EDIT, "d.yaml": b"service: d\napp: 127.0.0.1:1\n", "b.yaml": FILES["b.yaml"] + b"callers: [d]\n"},
        {**FILES, "mesh.yaml": b"mesh: shop\ndefaults: {timeout: 9s}\n"},
        FILES,
    ]
    for step in steps:
        found = judged(step)
        remembered = worker._known
        monkeypatch.setattr(worker, "_known", worker._Known())
        assert judged(step).files == found.files
        monkeypatch.setattr(worker, "_known", remembered)


def test_comment_compiles_nothing() -> None:
    """A line on top of a file."""
    first = judged(FILES)
    second = judged({**FILES, "b.yaml": b"# a note\n" + FILES["b.yaml"]})
    assert (second.compiled, second.files, second.hash) == ((), first.files, first.hash)


def test_bad_content_is_rejected_with_places_and_the_good_one_remembered() -> None:
    """The next good one is compared with the last good one."""
    judged(FILES)
    found = worker.judge({**FILES, "b.yaml": FILES["b.yaml"] + b"odd: 1\n", "c.yaml": b"service: [\n"})
    assert isinstance(found, Rejected)
    assert {one["file"] for one in found.problems} == {"b.yaml", "c.yaml"}
    assert all(one["line"] for one in found.problems)
    assert judged(FILES).compiled == ()


def test_problem_of_a_compiled_file_is_told_at_the_meshs_place() -> None:
    """Of the files of now and of before; one that is not known stays as it came."""
    first = judged(FILES)
    text = next(one.text for one in first.compiled if one.service == "a")
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith("inbound:"))
    problem = {"line": line, "column": 1, "path": "inbound", "message": "m", "hint": ""}
    judged(EDIT)
    (found,) = worker.translate("a", first.files["a"], [problem])
    assert (found["file"], found["message"]) == ("a.yaml", "m")
    assert worker.translate("a", "other", [problem])[0]["file"] == ""


def test_routes_told_to_people_hide_what_is_secret() -> None:
    """As `sidecar mesh explain` does."""
    match = b"{headers: {authorization: Bearer s3cr3t, x-group: beta}, path: /x}"
    judged({**FILES, "b.yaml": FILES["b.yaml"] + b"routes:\n  - {name: x, match: " + match + b", to: b}\n"})
    told = worker.routes("a", "b")[0]["match"]
    assert "s3cr3t" not in told
    assert "headers.x-group: beta" in told


def test_kept_file_comes_back_as_it_was() -> None:
    """With its origins."""
    for one in judged(FILES).compiled:
        assert CompiledFile.from_octets(one.to_octets()) == one


def test_list_of_endpoints_is_in_memory_once_for_all_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it came: from the compiling process, of an earlier edit, or from an engine."""
    listed = ", ".join(f"10.9.{one // 250}.{one % 250 + 1}:443" for one in range(500))
    fixed = f"instances: {{fixed: {{endpoints: [{listed}]}}}}"
    texts = {"listed": fixed, **{f"s{one}": "calls: {listed: {}}" for one in range(20)}}
    files = {f"{name}.yaml": f"service: {name}\napp: 127.0.0.1:80\n{text}\n".encode() for name, text in texts.items()}
    files["mesh.yaml"] = b"mesh: shop\n"
    first = judged(files).compiled
    sent = pickle.dumps(first)
    assert len(sent) < 20 * len(listed)
    edited = judged({**files, "s3.yaml": files["s3.yaml"] + b"timeout: 3s\n"}).compiled
    monkeypatch.setattr(worker, "_known", worker._Known())
    anew = judged(files).compiled
    came = (*pickle.loads(sent), *pickle.loads(pickle.dumps(edited)), *anew)
    kept = tuple(CompiledFile.from_octets(one.to_octets()) for one in first)
    assert edited
    assert kept == first
    said = {
        id(source.said)
        for one in (*came, *kept)
        for origin in one.discovers.values()
        for source in origin.sources
        if source.kind == "endpoints"
    }
    assert len(said) == 1


def test_tree_keeps_spelling() -> None:
    """Plain and quoted scalars are what they were, through a file in between."""
    text = 'a: 1.10\nb: "1.10"\nc: [true, "true", x, 2s, 10%]\nd: {e: "x: y", "f g": ""}\nweights: {s: 95}\n'
    tree = tree_of(text)
    again = tree_of(render(tree).text)
    assert again == tree
    assert render(again) == render(tree)
    assert type(again["a"]) is type(tree["a"]) is not str
    assert type(again["b"]) is str
    assert render(tree_of(text.replace("95", '"95"'))).hash != render(tree).hash


class World:
    """An engine in memory or on disk, and what is wanted of it."""

    def __init__(self, state: Path | None = None) -> None:
        self.now_s = 1000.0
        self.changes = 0
        self.engine = FilesEngine("nowhere", read_directory, str(state) if state is not None else None)
        self.rollouts = Rollouts(self.engine, lambda: self.now_s, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def open(self) -> None:
        await self.engine.open()
        await self.rollouts.open()

    def hash(self, service: str, instance: str = "i") -> str:
        wanted, _ = self.rollouts.wanted(service, instance, LANGUAGE)
        return wanted.hash if wanted is not None else ""

    async def accept(self, *ids: tuple[str, str]) -> None:
        """All of these run what they are to run, until nothing goes on any more."""
        for _ in range(20):
            self.now_s += 1
            instances = [Instance(id_, service, self.hash(service, id_)) for service, id_ in ids]
            await self.rollouts.advance(View.of(instances, mover="control"))


def test_first_revision_is_everyones_at_once() -> None:
    """And says why others have none."""

    async def test() -> None:
        world = World()
        await world.open()
        assert world.rollouts.wanted("a", "i", LANGUAGE) == (None, "")
        found = judged(FILES)
        assert await world.rollouts.propose(found, NOBODY)
        assert world.rollouts.revision == 1
        assert world.hash("a") == found.files["a"]
        assert world.rollouts.known(found.files["a"]) is not None
        assert "no service" in world.rollouts.wanted("x", "i", LANGUAGE)[1]
        assert "outside" in world.rollouts.wanted("out", "i", LANGUAGE)[1]
        assert "language" in world.rollouts.wanted("a", "i", FIRST - 1)[1]
        assert {origin.service for origin in world.rollouts.origins()} == {"b", "c"}
        assert world.changes == 1

    run(test)


def test_sidecar_gets_the_files_that_it_can_read_also_of_a_newer_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has what an older one would refuse needs a newer one; the others do not, and say so after a restart."""
    before = LANGUAGE - 1
    monkeypatch.setattr(language, "FIRST", before)
    monkeypatch.setattr(language, "SINCE", {("outbound", "routes", "*", "timeout"): LANGUAGE})

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged({**FILES, "b.yaml": FILES["b.yaml"] + b"timeout: 7s\n"}), NOBODY)
        assert {name: world.rollouts.needs(name) for name in "abc"} == {"a": LANGUAGE, "b": before, "c": before}
        why = f"this sidecar knows language {before}, and the mesh needs {LANGUAGE}: update it"
        assert world.rollouts.wanted("a", "i", before) == (None, why)
        assert all(world.rollouts.wanted(name, "i", before)[0] is not None for name in "bc")
        assert [name for name in "abc" if world.rollouts.is_outdated(name, before)] == ["a"]
        assert not any(world.rollouts.is_outdated(name, LANGUAGE) for name in "abc")
        kept = world.rollouts.known(world.hash("a"))
        assert kept is not None
        assert CompiledFile.from_octets(kept.to_octets()).language == LANGUAGE

    run(test)


def test_number_goes_up_only_with_a_hash() -> None:
    """A comment, or the same again, is no revision."""

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        assert not await world.rollouts.propose(judged({**FILES, "c.yaml": b"# x\n" + FILES["c.yaml"]}), NOBODY)
        assert not await world.rollouts.propose(judged(FILES), NOBODY)
        assert world.rollouts.revision == 1
        assert await world.rollouts.propose(judged(EDIT), NOBODY)
        assert world.rollouts.revision == 2

    run(test)


def test_replica_that_was_slow_to_judge_puts_no_older_content_over_a_newer_one() -> None:
    """Also when the newer one is written between its question and its own write."""

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        slow = Rollouts(world.engine, lambda: world.now_s, lambda: None)
        await slow.open()
        newer = judged(EDIT)
        asked = 0

        async def is_wanted() -> bool:
            nonlocal asked
            asked += 1
            if asked == 1:
                assert await world.rollouts.propose(newer, NOBODY)
            return asked == 1

        older = {**FILES, "b.yaml": FILES["b.yaml"] + b"timeout: 3s\n"}
        # What it finds when it reads again is the other's; it has made nothing of its own of it.
        assert await slow.propose(judged(older), NOBODY, is_wanted)
        assert asked == 2
        for one in (slow, world.rollouts):
            assert one.revision == 2
            assert {name: file.hash for name, file in one.record.revisions[-1].files.items()} == newer.files
        found = await world.engine.record.read()
        assert found is not None
        assert json.loads(found.value) == json.loads(json.dumps(world.rollouts.record.to_json()))

    run(test)


def test_change_reaches_everyone_when_they_accept() -> None:
    """Without `rollout` in the mesh there are no waves."""

    async def test() -> None:
        world = World()
        await world.open()
        first = judged(FILES)
        await world.rollouts.propose(first, NOBODY)
        everyone = [("a", "a-1"), ("a", "a-2"), ("b", "b-1"), ("c", "c-1")]
        await world.accept(*everyone)
        second = judged(EDIT)
        await world.rollouts.propose(second, NOBODY)
        await world.accept(*everyone)
        assert [world.hash(*one) for one in everyone] == [second.files[service] for service, _ in everyone]
        rows = world.rollouts.rows(NOBODY)
        assert {row["state"] for row in rows} == {"done"}

    run(test)


def test_record_and_files_are_taken_up_after_a_restart(tmp_path: Path) -> None:
    """The same hashes and numbers, before the mesh's files were read."""

    async def test() -> None:
        first = judged(FILES)
        world = World(tmp_path)
        await world.open()
        await world.rollouts.propose(first, NOBODY)
        await world.engine.close()
        again = World(tmp_path)
        await again.open()
        assert again.rollouts.revision == 1
        assert again.hash("a") == first.files["a"]
        file = again.rollouts.known(first.files["a"])
        assert file == world.rollouts.known(first.files["a"])
        assert "no service" in again.rollouts.wanted("x", "i", LANGUAGE)[1]
        assert not await again.rollouts.propose(first, NOBODY)
        await again.engine.close()

    run(test)


def test_record_that_was_deleted_is_written_anew_and_nobody_is_told_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a rollout, with its files: numbers and hashes go on, and a restart finds them."""
    monkeypatch.setattr(files_module, "LOOK_PERIOD_S", 0.01)

    async def test() -> None:
        world = World(tmp_path)
        await world.open()
        await world.rollouts.propose(judged(WAVES), NOBODY)
        everyone = [("a", f"a-{number}") for number in range(4)]
        await world.accept(*everyone)
        second = judged({**EDIT, **WAVES, "b.yaml": EDIT["b.yaml"]})
        before = [Instance(id_, service, world.hash(service, id_)) for service, id_ in everyone]
        await world.rollouts.propose(second, View.of(before, mover="control"))
        wanted = [world.rollouts.wanted(*one, LANGUAGE) for one in everyone]
        assert [row["state"] for row in world.rollouts.rows(NOBODY) if row["service"] == "a"] != ["done"]
        following = asyncio.create_task(world.rollouts.follow())
        (tmp_path / "record.json").unlink()
        for path in (tmp_path / "files").iterdir():
            path.unlink()
        while world.rollouts._version:
            await asyncio.sleep(0.001)
        changes = world.changes
        await world.rollouts.advance(View.of(before, mover="control"))
        assert world.changes == changes + 1
        assert [world.rollouts.wanted(*one, LANGUAGE) for one in everyone] == wanted
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await world.engine.close()
        again = World(tmp_path)
        await again.open()
        assert again.rollouts.record == world.rollouts.record
        assert [again.rollouts.wanted(*one, LANGUAGE) for one in everyone] == wanted
        await again.engine.close()

    run(test)


@pytest.mark.parametrize("is_edit", [True, False])
def test_record_that_is_missed_at_a_write_is_written_anew(is_edit: bool) -> None:
    """Before any watch told of it; the write that met it is done, or done with the next look."""

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        world.engine.record._known = None
        if is_edit:
            assert await world.rollouts.propose(judged(EDIT), NOBODY)
        else:
            await world.rollouts.hurry(NOBODY)
            await world.accept(("b", "b-1"))
        assert world.rollouts.revision == 1 + is_edit
        found = await world.engine.record.read()
        assert found is not None
        assert json.loads(found.value) == json.loads(json.dumps(world.rollouts.record.to_json()))

    run(test)


def test_record_that_was_spoilt_is_told_and_ends_nothing() -> None:
    """And once somebody has removed it, it is written anew."""

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        world.engine.record._known = Versioned(b"[", "x")
        with pytest.raises(EngineError, match="is not JSON"):
            await world.rollouts.propose(judged(EDIT), NOBODY)
        assert world.rollouts.revision == 1
        world.engine.record._known = None
        assert await world.rollouts.propose(judged(EDIT), NOBODY)
        assert world.rollouts.revision == 2

    run(test)


def test_files_that_nothing_names_are_let_go(tmp_path: Path) -> None:
    """The last revisions are kept, not all."""

    async def test() -> None:
        world = World(tmp_path)
        await world.open()
        for number in range(10):
            found = judged({**FILES, "b.yaml": FILES["b.yaml"] + f"timeout: {number + 1}s\n".encode()})
            await world.rollouts.propose(found, NOBODY)
            await world.accept()
        assert world.rollouts.revision == 10
        kept = {path.name for path in (tmp_path / "files").iterdir()}
        assert kept == world.rollouts.record.hashes()
        assert len(kept) < 12
        await world.engine.close()

    run(test)


class Source:
    """A mesh's source whose changes the test tells."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Content | Trouble] = asyncio.Queue()

    async def is_wanted(self, version: str) -> bool:
        return True

    async def follow(self) -> AsyncIterator[Content | Trouble]:
        while True:
            yield await self.queue.get()


def test_follower_refuses_as_a_whole_and_tries_again_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems are kept for people; a process that died, or a disk that is full, is no fault of the content."""
    monkeypatch.setattr(follower_module, "RETRY_S", 0.0)

    async def test() -> None:
        world, source, fails = World(), Source(), [CompilerError("it died"), CompilerError("it died")]
        await world.open()
        world.engine.mesh = source  # type: ignore[assignment]

        class Failing(Here):
            async def judge(self, files: Mapping[str, bytes]) -> Judged | Rejected:
                if fails:
                    raise fails.pop()
                return await super().judge(files)

        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Failing(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        task = asyncio.create_task(follower.run())

        async def told(change: Content | Trouble, until: Callable[[], bool]) -> None:
            source.queue.put_nowait(change)
            while not until():
                await asyncio.sleep(0.001)

        await told(Content(FILES, "1"), lambda: world.rollouts.revision == 1)
        assert not fails
        await told(Content({"mesh.yaml": b"mesh: [\n"}, "2"), lambda: bool(follower.problems))
        assert (world.rollouts.revision, follower.refusals, follower.since_s) == (1, 1, 1000.0)
        await told(Trouble("it is away"), lambda: bool(follower.trouble))
        assert [one["message"] for one in follower.shown()][-1] == "it is away"
        await told(Trouble(""), lambda: not follower.trouble)
        assert follower.problems
        await told(Content(EDIT, "3"), lambda: world.rollouts.revision == 2)
        while follower.shown():
            await asyncio.sleep(0.001)
        assert follower.since_s is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_newer_content_ends_the_tries_of_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that cannot be judged, or put in force, is withdrawn by the next; it is not what comes in force later."""
    monkeypatch.setattr(follower_module, "RETRY_S", 3600.0)

    async def test() -> None:
        world, source = World(), Source()
        await world.open()
        world.engine.mesh = source  # type: ignore[assignment]

        class Failing(Here):
            async def judge(self, files: Mapping[str, bytes]) -> Judged | Rejected:
                if files == EDIT:
                    raise CompilerError("it died")
                return await super().judge(files)

        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Failing(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        task = asyncio.create_task(follower.run())

        async def told(version: str, files: Mapping[str, bytes], until: Callable[[], bool]) -> None:
            source.queue.put_nowait(Content(files, version))
            while not until():
                await asyncio.sleep(0.001)

        await told("1", FILES, lambda: world.rollouts.revision == 1)
        await told("2", EDIT, lambda: follower.trouble == "it died")
        assert not follower.problems
        await told("3", FILES, lambda: not follower.trouble)
        assert (world.rollouts.revision, follower.version) == (1, "3")
        assert await follower.judged("3")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_trouble_of_the_source_outlives_what_was_told_before_it() -> None:
    """A content that is put in force says nothing of a source that has gone away since."""

    async def test() -> None:
        world, source, judges = World(), Source(), asyncio.Event()
        await world.open()
        world.engine.mesh = source  # type: ignore[assignment]

        class Slow(Here):
            async def judge(self, files: Mapping[str, bytes]) -> Judged | Rejected:
                await judges.wait()
                return await super().judge(files)

        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Slow(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        task = asyncio.create_task(follower.run())
        source.queue.put_nowait(Content(FILES, "1"))
        source.queue.put_nowait(Trouble("it is away"))
        while not follower.trouble:
            await asyncio.sleep(0.001)
        judges.set()
        await follower.first.wait()
        assert (world.rollouts.revision, follower.trouble) == (1, "it is away")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_source_that_ends_by_a_fault_ends_the_follower() -> None:
    """So that the control plane ends, and does not go on blind."""

    class Broken(Source):
        async def follow(self) -> AsyncIterator[Content | Trouble]:
            raise RuntimeError("a fault of ours")
            yield

    async def test() -> None:
        world = World()
        await world.open()
        world.engine.mesh = Broken()  # type: ignore[assignment]
        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Here(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        with pytest.raises(ExceptionGroup):
            await follower.run()

    run(test)


class Telling:
    """The record of an engine whose watch tells what a test says, when it says so."""

    def __init__(self, rollouts: Rollouts, engine: FilesEngine) -> None:
        self.queue: asyncio.Queue[Versioned | Trouble] = asyncio.Queue()
        self.read, self.swap = engine.record.read, engine.record.swap
        engine.record.watch = self.watch  # type: ignore[method-assign]
        self.task = asyncio.create_task(rollouts.follow())

    async def watch(self) -> AsyncIterator[Versioned | Trouble]:
        while True:
            yield await self.queue.get()
            self.queue.task_done()

    async def stands(self) -> Versioned:
        found = await self.read()
        assert found is not None
        return found


def test_record_that_is_told_late_takes_nobody_back() -> None:
    """A watch may lag behind what was written here since."""

    async def test() -> None:
        world = World()
        await world.open()
        record = Telling(world.rollouts, world.engine)
        await world.rollouts.propose(judged(FILES), NOBODY)
        early = await record.stands()
        await world.rollouts.propose(judged(EDIT), NOBODY)
        record.queue.put_nowait(early)
        record.queue.put_nowait(Trouble("over"))
        record.queue.put_nowait(Trouble("over"))
        await asyncio.wait_for(_until(record.queue.empty), 5)
        assert world.rollouts.revision == 2
        record.task.cancel()

    run(test)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_record_whose_files_cannot_be_read_is_taken_when_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is away for a moment leaves no replica behind for good."""
    monkeypatch.setattr(rollouts_module, "RETRY_S", 0.0)

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        other = Rollouts(world.engine, lambda: 1000.0, lambda: None)
        await other.open()
        record = Telling(other, world.engine)
        await world.rollouts.propose(judged(EDIT), NOBODY)
        tries = 0
        fetch = world.engine.files.fetch

        async def away(key: str) -> bytes | None:
            nonlocal tries
            tries += 1
            if tries <= 3:
                raise Unavailable("no answer in time")
            return await fetch(key)

        monkeypatch.setattr(world.engine.files, "fetch", away)
        record.queue.put_nowait(await record.stands())
        await asyncio.wait_for(_until(lambda: other.revision == 2), 5)
        assert tries > 3
        record.task.cancel()

    run(test)


def test_replica_that_only_reads_keeps_what_is_needed() -> None:
    """What no record names any more is let go, but for a file that a sidecar still runs: its endpoints are told."""

    async def test() -> None:
        world, running = World(), set[str]()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        other = Rollouts(world.engine, lambda: 1000.0, lambda: None, lambda: running)
        await other.open()
        record = Telling(other, world.engine)
        named = set(world.rollouts.record.hashes())
        running |= {world.rollouts.record.revisions[0].files["a"].hash}
        for number in range(8):
            files = {**FILES, "b.yaml": FILES["b.yaml"] + f"timeout: {number + 1}s\n".encode()}
            await world.rollouts.propose(judged(files), NOBODY)
            await world.accept(("b", "i"), ("a", "i"))
            record.queue.put_nowait(await record.stands())
            await asyncio.wait_for(_until(lambda: other.revision == world.rollouts.revision), 5)
            named |= other.record.hashes()
        gone = named - other.record.hashes()
        assert len(gone) > len(running)
        assert {hash_ for hash_ in gone if other.known(hash_) is not None} == running
        assert all(other.known(hash_) is not None for hash_ in other.record.hashes())
        assert any(origin.service == "b" for origin in other.origins())
        record.task.cancel()

    run(test)


def test_files_that_cannot_be_let_go_hold_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision that was written is in force, and told."""

    async def test() -> None:
        world = World()
        await world.open()
        await world.rollouts.propose(judged(FILES), NOBODY)
        before = world.changes

        async def away(keys: Collection[str]) -> None:
            raise Unavailable("no answer in time")

        monkeypatch.setattr(world.engine.files, "retain", away)
        assert await world.rollouts.propose(judged(EDIT), NOBODY)
        assert (world.rollouts.revision, world.changes) == (2, before + 1)

    run(test)


def test_good_content_that_cannot_be_stored_is_no_fault_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told is that it could not be written, why and since when; it is in force as soon as it can be."""
    monkeypatch.setattr(follower_module, "RETRY_S", 0.0)

    async def test() -> None:
        world, source = World(), Source()
        await world.open()
        world.engine.mesh = source  # type: ignore[assignment]
        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Here(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        task = asyncio.create_task(follower.run())
        swap, is_full = world.engine.record.swap, True

        async def full(value: bytes, expected: str) -> str:
            if is_full:
                raise Unavailable("record.json: no space left on device")
            return await swap(value, expected)

        monkeypatch.setattr(world.engine.record, "swap", full)
        source.queue.put_nowait(Content(FILES, "1"))
        while storing.get("revision") is None:
            await asyncio.sleep(0.001)
        world.now_s += 5.0
        await asyncio.sleep(0.01)
        assert storing.get("revision") == NotStored("revision", "record.json: no space left on device", 1000.0)
        assert (follower.shown(), follower.since_s, world.rollouts.revision) == ([], None, 0)
        is_full = False
        await follower.first.wait()
        assert (storing.get("revision"), world.rollouts.revision) == (None, 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def _die() -> None:
    import os

    os._exit(3)


def test_what_failed_once_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call that was lost makes a push late by half a second; what goes on failing is tried less often."""
    pauses: list[float] = []

    async def test() -> None:
        world, source, timeout = World(), Source(), asyncio.timeout
        await world.open()
        world.engine.mesh = source  # type: ignore[assignment]

        class Failing(Here):
            async def judge(self, files: Mapping[str, bytes]) -> Judged | Rejected:
                if len(pauses) < 6:
                    raise CompilerError("no answer in time")
                return await super().judge(files)

        def pause(seconds: float) -> asyncio.Timeout:
            pauses.append(seconds)
            return timeout(0)

        monkeypatch.setattr(follower_module.asyncio, "timeout", pause)
        storing = Storing(lambda: world.now_s)
        follower = Follower(world.engine, Failing(), world.rollouts, storing, lambda: NOBODY, lambda: world.now_s)
        task = asyncio.create_task(follower.run())
        source.queue.put_nowait(Content(FILES, "1"))
        while world.rollouts.revision != 1:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        monkeypatch.undo()

    run(test)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_compiling_process_that_dies_is_told_and_started_anew() -> None:
    """With the result of one that knows nothing."""

    async def test() -> None:
        compiler = Compiler()
        try:
            first = await compiler.judge(FILES)
            assert isinstance(first, Judged)
            with pytest.raises(CompilerError, match="ended"):
                await compiler._ask(_die)
            again = await compiler.judge(FILES)
            assert isinstance(again, Judged)
            assert again.files == first.files
            assert len(again.compiled) == 3
            routes = await compiler.routes("a", "b")
            assert [(one["name"], one["match"]) for one in routes] == [("b", "everything else")]
            assert routes[0]["origin"] == "b.yaml:1"
        finally:
            await compiler.close()

    run(test)


def test_process_that_serves_streams_leaves_language_and_models_to_the_one_that_compiles() -> None:
    """They would be half of its start and of its memory."""
    code = "import sys, sidecar.control.start; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sidecar.control.revision.questions" in modules
    assert not {"pydantic", "sidecar.control.revision.worker", "sidecar.mesh.read"} & set(modules)
