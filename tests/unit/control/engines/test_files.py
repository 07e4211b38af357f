"""The engine `files`: a directory that is followed, and what outlives the process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sidecar.config.source import SourceError
from sidecar.control.engines import directory, files
from sidecar.control.engines.disk import write_whole
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import (
    Conflict,
    Content,
    Engine,
    EngineError,
    Registration,
    Trouble,
    Unavailable,
    Unsupported,
)
from sidecar.link.report import Port

T = TypeVar("T")
WAIT_S = 20.0


def read(path: str) -> dict[str, bytes]:
    """As the mesh's reader: what does not begin with a dot and ends with .yaml."""
    try:
        return {name: Path(path, name).read_bytes() for name in sorted(os.listdir(path)) if name.endswith(".yaml")}
    except OSError as error:
        raise SourceError(path, error) from None


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PERIOD_S", 0.01)
    monkeypatch.setattr(files, "WRITE_PERIOD_S", 0.01)


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(WAIT_S):
            return await test()

    return asyncio.run(bounded())


def engine(mesh: Path, state: Path | None = None) -> FilesEngine:
    made = FilesEngine(str(mesh), read, str(state) if state is not None else None)
    checked: Engine = made  # it is one, says mypy
    assert checked.name == "files"
    return made


async def content(changes: AsyncIterator[Content | Trouble]) -> Content:
    async for change in changes:
        if isinstance(change, Content):
            return change
    raise AssertionError


def test_directory_is_told_at_once_and_then_at_each_change(tmp_path: Path) -> None:
    """A rewrite, a new file and one that went are each seen."""

    async def test() -> None:
        (tmp_path / "a.yaml").write_text("1")
        changes = engine(tmp_path).mesh.follow()
        assert (await content(changes)).files == {"a.yaml": b"1"}
        (tmp_path / "b.yaml").write_text("2")
        assert (await content(changes)).files == {"a.yaml": b"1", "b.yaml": b"2"}
        (tmp_path / "a.yaml").unlink()
        found = await content(changes)
        assert found.files == {"b.yaml": b"2"}
        assert found.version == directory.content_version(found.files)
        await changes.aclose()  # type: ignore[attr-defined]

    run(test)


def test_swap_of_links_of_a_config_map_is_seen(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted volume: `..data` becomes another link."""

    async def test() -> None:
        for number in (1, 2):
            (tmp_path / f"..{number}").mkdir()
            (tmp_path / f"..{number}" / "mesh.yaml").write_text(f"mesh: {number}")
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "mesh.yaml").symlink_to("..data/mesh.yaml")
        changes = engine(tmp_path).mesh.follow()
        assert (await content(changes)).files == {"mesh.yaml": b"mesh: 1"}
        (tmp_path / "..tmp").symlink_to("..2")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")
        assert (await content(changes)).files == {"mesh.yaml": b"mesh: 2"}
        await changes.aclose()  # type: ignore[attr-defined]

    run(test)


def test_change_counts_when_two_looks_in_a_row_find_it(tmp_path: Path) -> None:
    """What is other at every look is being written, and is never told."""

    async def test() -> None:
        reads = 0

        def growing(path: str) -> dict[str, bytes]:
            nonlocal reads
            reads += 1
            return {"a.yaml": b"x" * (reads if reads < 6 else 6)}

        (tmp_path / "a.yaml").write_text("x")
        changes = FilesEngine(str(tmp_path), growing, None).mesh.follow()
        assert (await content(changes)).files == {"a.yaml": b"x"}
        assert (await content(changes)).files == {"a.yaml": b"xxxxxx"}
        await changes.aclose()  # type: ignore[attr-defined]

    run(test)


def test_directory_that_is_away_is_trouble_and_no_change(tmp_path: Path) -> None:
    """It is told once, and its end; the same content after it is no change."""

    async def test() -> None:
        mesh = tmp_path / "mesh"
        mesh.mkdir()
        (mesh / "a.yaml").write_text("1")
        changes = engine(mesh).mesh.follow()
        await content(changes)
        mesh.rename(tmp_path / "away")
        trouble = await anext(changes)
        assert isinstance(trouble, Trouble)
        assert "no such file" in trouble.error.lower()
        (tmp_path / "away").rename(mesh)
        assert await anext(changes) == Trouble("")
        (mesh / "a.yaml").write_text("2")
        assert (await content(changes)).files == {"a.yaml": b"2"}
        await changes.aclose()  # type: ignore[attr-defined]

    run(test)


def test_push_into_a_directory_says_to_edit_it(tmp_path: Path) -> None:
    """The directory is the source."""
    with pytest.raises(Unsupported, match="edit it there"):
        run(lambda: engine(tmp_path).mesh.push({}, ""))


def test_record_is_written_by_compare_and_swap_and_outlives_the_process(tmp_path: Path) -> None:
    """Who names another version than the one that stands there is refused."""

    async def first() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        assert await one.record.read() is None
        version = await one.record.swap(b"a", "")
        with pytest.raises(Conflict):
            await one.record.swap(b"b", "")
        version = await one.record.swap(b"c", version)
        changes = one.record.watch()
        assert getattr(await anext(changes), "value", None) == b"c"
        await one.record.swap(b"d", version)
        assert getattr(await anext(changes), "value", None) == b"d"
        await changes.aclose()  # type: ignore[attr-defined]
        await one.close()

    async def second() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        found = await one.record.read()
        assert found is not None
        assert found.value == b"d"
        await one.close()

    run(first)
    run(second)


def test_registrations_and_files_outlive_the_process(tmp_path: Path) -> None:
    """What was put and kept is there after a restart; what was removed and let go is not."""
    kept = Registration("a", "a-1", "v1", "z", 2.0, {"http": Port("10.0.0.1:1", "http", True)}, "unhealthy", "r", 5.0)

    async def first() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        await one.registrations.put(kept)
        await one.registrations.put(Registration("a", "a-2"))
        await one.registrations.remove("a-2")
        await one.files.keep({"0a": b"A", "0b": b"B"})
        await one.files.retain(["0b"])
        await one.close()

    async def second() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        change = await anext(one.registrations.watch())
        assert getattr(change, "put", None) == (kept,)
        assert getattr(change, "is_snapshot", None)
        assert await one.files.fetch("0a") is None
        assert await one.files.fetch("0b") == b"B"
        await one.close()

    run(first)
    run(second)


def test_registrations_are_written_one_after_the_other_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being written when the engine closes goes on in its thread; two would write the same file aside."""
    begun, may_go_on, overlaps = threading.Event(), threading.Event(), []
    one_at_a_time = threading.Lock()

    def slow(path: Path, content: bytes) -> None:
        overlaps.append(not one_at_a_time.acquire(blocking=False))
        begun.set()
        assert may_go_on.wait(WAIT_S)
        write_whole(path, content)
        if not overlaps[-1]:
            one_at_a_time.release()

    monkeypatch.setattr(files, "write_whole", slow)

    async def test() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        await one.registrations.put(Registration("a", "a-1"))
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        await one.registrations.put(Registration("a", "a-2"))
        closing = asyncio.create_task(one.close())
        await asyncio.sleep(0.05)
        may_go_on.set()
        await closing

    run(test)
    assert overlaps == [False, False]
    assert b"a-2" in (tmp_path / "state" / "registrations.json").read_bytes()


def test_damaged_copy_is_set_aside(tmp_path: Path) -> None:
    """It is kept for somebody to look at, and the start goes on without it."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "registrations.json").write_text('{"registrations": [{}')

    async def test() -> None:
        one = engine(tmp_path, state)
        await one.open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(one.registrations.watch()), 0.05)  # type: ignore[arg-type]
        await one.close()

    run(test)
    assert (state / "registrations.json.damaged").exists()


def test_two_control_planes_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is refused, with what to do."""

    async def test() -> None:
        one, two = engine(tmp_path, tmp_path / "state"), engine(tmp_path, tmp_path / "state")
        await one.open()
        with pytest.raises(EngineError, match="another control plane"):
            await two.open()
        await one.close()
        await two.open()
        await two.close()

    run(test)


def test_disk_that_fails_is_told_and_the_record_stays(tmp_path: Path) -> None:
    """What could not be written is not in force."""

    async def test() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        version = await one.record.swap(b"a", "")
        (tmp_path / "state" / "record.json").unlink()
        (tmp_path / "state" / "record.json").mkdir()
        (tmp_path / "state" / "record.json" / "full").touch()
        with pytest.raises(Unavailable):
            await one.record.swap(b"b", version)
        found = await one.record.read()
        assert found is not None
        assert found.value == b"a"
        await one.close()

    run(test)


def test_registrations_on_a_full_disk_are_owed_and_written_when_there_is_room(tmp_path: Path) -> None:
    """How many wait, why and since when; then all of them are there, without another change."""
    state, copy = tmp_path / "state", tmp_path / "state" / "registrations.json"

    async def test() -> None:
        one = engine(tmp_path, state)
        await one.open()
        assert one.registrations.unwritten is None
        copy.mkdir()
        (copy / "full").touch()
        for name in ("a-1", "a-2", "a-1"):
            await one.registrations.put(Registration("a", name, weight=float(len(name))))
        while (owed := one.registrations.unwritten) is None:
            await asyncio.sleep(0.001)
        await one.registrations.put(Registration("a", "a-3"))
        assert (owed.count, owed.error.partition(": ")[0]) == (2, str(copy))
        while (later := one.registrations.unwritten) is None or later.count != 3:
            await asyncio.sleep(0.001)
        assert later.since_s == owed.since_s
        (copy / "full").unlink()
        copy.rmdir()
        while one.registrations.unwritten is not None:
            await asyncio.sleep(0.001)
        written = json.loads(copy.read_bytes())["registrations"]
        assert [each["instance"] for each in written] == ["a-1", "a-2", "a-3"]
        await one.close()

    run(test)


def test_names_of_kept_files_do_not_leave_the_folder(tmp_path: Path) -> None:
    """A hash that is none is only a name."""

    async def test() -> None:
        one = engine(tmp_path, tmp_path / "state")
        await one.open()
        await one.files.keep({"../../x": b"A"})
        assert await one.files.fetch("../../x") == b"A"
        await one.close()

    run(test)
    assert not (tmp_path / "x").exists()
