"""What was good before a start, and what becomes good: with a held clock and real files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.link.messages import EndpointEntry
from sidecar.runtime.mesh import last_good
from sidecar.runtime.mesh.crashes import MAX_STARTS
from sidecar.runtime.mesh.last_good import Kept, LastGood, Memory
from sidecar.runtime.mesh.state_directory import StateDirectory

A, B, C = (Kept(name * 32, number, f"service: {name}\n") for number, name in enumerate("abc", 1))
SOON_S = 0.01


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes half a minute takes a moment."""
    monkeypatch.setattr(last_good, "GOOD_AFTER_S", SOON_S)
    monkeypatch.setattr(last_good, "SURVIVED_S", 3600.0)
    monkeypatch.setattr(last_good, "ENDPOINTS_PERIOD_S", SOON_S)


def life(path: Path, live: Callable[[LastGood, Memory], Awaitable[None]], *, is_clean: bool = True) -> Memory:
    """One life of a process that keeps what it knows there; what it knew at its start."""

    async def run() -> Memory:
        keeper = LastGood(str(path), "shop", "1")
        memory = await keeper.open()
        try:
            await live(keeper, memory)
        finally:
            await keeper.close(is_clean=is_clean)
        return memory

    return asyncio.run(run())


async def nothing(keeper: LastGood, memory: Memory) -> None:
    """Look only."""


def running(file: Kept, path: Path, *, until_good: bool = True) -> Callable[[LastGood, Memory], Awaitable[None]]:
    """Run a file, until it is on disk."""
    name = "good" if until_good else "run"

    async def live(keeper: LastGood, memory: Memory) -> None:
        keeper.put_in_force(file, is_news=True)
        async with asyncio.timeout(30):
            while not is_written():
                await asyncio.sleep(SOON_S)

    def is_written() -> bool:
        try:
            return file.hash.encode() in (path / name).read_bytes()
        except FileNotFoundError:  # not yet, or being renamed
            return False

    return live


def test_what_was_in_force_for_long_enough_is_there_at_the_next_start(tmp_path: Path) -> None:
    """Of the two last ones."""
    assert life(tmp_path / "s", running(A, tmp_path / "s")).files == []
    assert life(tmp_path / "s", running(B, tmp_path / "s")).files == [A]
    assert life(tmp_path / "s", running(C, tmp_path / "s")).files == [B, A]
    assert life(tmp_path / "s", nothing).files == [C, B]


def test_what_was_not_in_force_for_long_is_not_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before is."""
    life(tmp_path / "s", running(A, tmp_path / "s"))
    monkeypatch.setattr(last_good, "GOOD_AFTER_S", 3600.0)
    life(tmp_path / "s", running(B, tmp_path / "s", until_good=False))
    assert life(tmp_path / "s", nothing).files == [A]


def test_endpoints_are_kept_in_a_moment(tmp_path: Path) -> None:
    """All that is known of them, by upstream."""
    entries = {"back": (EndpointEntry("10.0.0.1:80", 0.5, "z", True),), "none": ()}

    async def live(keeper: LastGood, memory: Memory) -> None:
        keeper.keep_endpoints(lambda: entries)
        async with asyncio.timeout(30):
            while not (tmp_path / "s" / "endpoints").exists():
                await asyncio.sleep(SOON_S)

    life(tmp_path / "s", live)
    assert life(tmp_path / "s", nothing).endpoints == {name: list(some) for name, some in entries.items()}


def test_endpoints_of_the_last_moment_are_written_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is asked to end does not wait for their turn."""
    monkeypatch.setattr(last_good, "ENDPOINTS_PERIOD_S", 3600.0)
    entries = {"back": (EndpointEntry("10.0.0.1:80"),)}

    async def live(keeper: LastGood, memory: Memory) -> None:
        keeper.keep_endpoints(dict)
        keeper.keep_endpoints(lambda: entries)

    life(tmp_path / "s", live)
    assert life(tmp_path / "s", nothing).endpoints == {"back": [EndpointEntry("10.0.0.1:80")]}


@pytest.mark.parametrize("is_good_already", [True, False])
def test_a_file_that_ends_the_process_is_not_taken_again(tmp_path: Path, is_good_already: bool) -> None:
    """Whether or not it was good before; the one before is taken, and stays the one."""
    life(tmp_path / "s", running(A, tmp_path / "s"))
    if is_good_already:
        life(tmp_path / "s", running(B, tmp_path / "s"))
    for _ in range(MAX_STARTS):
        memory = life(tmp_path / "s", running(B, tmp_path / "s", until_good=False), is_clean=False)
        assert memory.crashed is None
    for _ in range(2):
        memory = life(tmp_path / "s", nothing)
        assert memory.files == [A]
        assert memory.crashed is not None
        assert memory.crashed.hash == B.hash


def test_what_another_service_has_left_is_not_taken(tmp_path: Path) -> None:
    """A volume that came to another app."""
    life(tmp_path / "s", running(A, tmp_path / "s"))

    async def other() -> Memory:
        keeper = LastGood(str(tmp_path / "s"), "cart", "1")
        memory = await keeper.open()
        await keeper.close()
        return memory

    assert asyncio.run(other()).files == []


def test_what_is_damaged_is_told_and_the_one_before_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is stopped by it."""
    for file in (A, B):
        life(tmp_path / "s", running(file, tmp_path / "s"))
    (tmp_path / "s" / "good").write_bytes(b"sidecar-state 1 0000\n{}")
    assert life(tmp_path / "s", nothing).files == [A]
    assert "last_good_damaged" in caplog.text


def test_without_a_directory_everything_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot be made, one of another sidecar, one that is switched off: told, if anybody cares."""
    (tmp_path / "file").write_text("")

    async def live(keeper: LastGood, memory: Memory) -> None:
        keeper.put_in_force(A, is_news=True)
        keeper.keep_endpoints(dict)
        await asyncio.sleep(3 * SOON_S)

    assert life(tmp_path / "file", live).files == []
    assert "last_good_off" in caplog.text
    other = StateDirectory(str(tmp_path / "s"))
    assert life(tmp_path / "s", live).files == []
    assert "another sidecar uses it" in caplog.text
    other.close()
    assert (tmp_path / "s" / "good").exists() is False

    async def off() -> str:
        keeper = LastGood("", "shop", "1")
        await live(keeper, await keeper.open())
        await keeper.close()
        return keeper.why_off

    assert asyncio.run(off()) == "it is switched off"


def test_a_disk_that_takes_nothing_is_told_once_and_again_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs is not touched."""
    caplog.set_level(logging.INFO)
    really = StateDirectory.write
    is_full = True

    def write(self: StateDirectory, name: str, value: dict[str, object]) -> None:
        if is_full:
            raise last_good.StateError(f"{name}: no space left on device")
        really(self, name, value)

    monkeypatch.setattr(StateDirectory, "write", write)

    async def live(keeper: LastGood, memory: Memory) -> None:
        nonlocal is_full
        keeper.put_in_force(A, is_news=True)
        await asyncio.sleep(10 * SOON_S)
        assert caplog.text.count("last_good_not_kept") == 1
        is_full = False
        await running(B, tmp_path / "s")(keeper, memory)
        assert "last_good_kept_again" in caplog.text

    life(tmp_path / "s", live)
    assert life(tmp_path / "s", nothing).files == [B]


def test_a_successor_takes_the_directory_as_soon_as_it_is_free(tmp_path: Path) -> None:
    """Until then it keeps what it is to write."""

    async def run() -> None:
        first = LastGood(str(tmp_path / "s"), "shop", "1")
        await first.open()
        second = LastGood(str(tmp_path / "s"), "shop", "1")
        second.inherit(Memory(record=first.record()))
        second.name("shop-1")
        await asyncio.sleep(3 * SOON_S)
        await first.close(is_clean=False)
        async with asyncio.timeout(30):
            while b"shop-1" not in (tmp_path / "s" / "run").read_bytes():
                await asyncio.sleep(SOON_S)
        await second.close()

    asyncio.run(run())
    assert life(tmp_path / "s", nothing).record.instance == "shop-1"
