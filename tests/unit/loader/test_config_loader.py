"""When a file is loaded: changes that are settled, and failures that may pass by themselves."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.compile.frames import Header, Kind, make_frame
from sidecar.config.problems import Problem
from sidecar.loader import config_loader
from sidecar.loader.config_loader import FORCE, ConfigLoader, NotHereError
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSourceError, PreviewQuestion

END = make_frame(Kind.END)


class Compiler:
    """
    Reads the file, or something else, or fails.

    Attributes:
        triggers: Of each load.
        failures: Raised, one a load.
        header: What the header says beside the digest.
        questions: Of previews.
        said: What they are told.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.triggers: list[str] = []
        self.failures: list[Exception] = []
        self.header: dict[str, object] = {"is_ok": True}
        self.content: bytes | None = None
        self.questions: list[PreviewQuestion] = []
        self.said: dict[str, Any] = {}

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        self.triggers.append(trigger)
        if self.failures:
            raise self.failures.pop(0)
        content = self.path.read_bytes() if self.content is None else self.content
        yield Header(**self.header, digest_hex=hashlib.sha256(content).hexdigest()).to_frame()  # type: ignore[arg-type]
        yield END

    async def report(self, question: PreviewQuestion) -> dict[str, Any]:
        self.questions.append(question)
        return {"requests": 200, "problems": [], **self.said}


class Loader(ConfigLoader):
    """Puts everything in force, but for what `refusals` has."""

    def __init__(self, path: Path) -> None:
        self.compiler = Compiler(path)
        super().__init__(str(path), self.compiler)
        self.refusals: list[Exception] = []
        self.counted: list[bool] = []

    async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.generation += 1

    async def _rings(self) -> Sequence[Sequence[bytes]]:
        return [[b"ring"]]

    def _count(self, outcome: LoadOutcome) -> None:
        self.counted.append(outcome.is_ok)

    def _count_refused(self) -> None:
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"old")
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow at once, and retries as if minutes were milliseconds."""
    monkeypatch.setattr(config_loader, "POLL_PERIOD_S", 0.0)
    monkeypatch.setattr(config_loader, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(config_loader, "LAST_RETRY_S", 0.004)


def following(path: Path, then: Callable[[Loader], Coroutine[None, None, None]]) -> Loader:
    """Load once, follow, and do something meanwhile."""

    async def run() -> Loader:
        loader = Loader(path)
        await loader.load("start")
        watching = asyncio.create_task(loader.watch())
        try:
            async with asyncio.timeout(60):
                await then(loader)
        finally:
            watching.cancel()
        return loader

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    while not condition():
        await asyncio.sleep(0)


def taken() -> NotHereError:
    """An address that is somebody else's."""
    return NotHereError([Problem("f.yaml", 1, 1, "outbound.listen", "cannot listen on it")])


@pytest.mark.parametrize("place", ["no process", "an address", "a header"])
def test_what_is_not_in_the_file_is_tried_again(path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """Again and again, later each time, until it works; the file has not changed."""
    caplog.set_level(logging.INFO, "sidecar")

    async def then(loader: Loader) -> None:
        if place == "no process":
            loader.compiler.failures = [PlanSourceError("no memory")] * 4
        elif place == "an address":
            loader.refusals = [taken()] * 4
        else:
            loader.compiler.header = {"is_ok": False, "error": "not enough memory", "is_transient": True}
        path.write_bytes(b"new")
        if place == "a header":
            await until(lambda: len(loader.counted) >= 5)
            loader.compiler.header = {"is_ok": True}
        await until(lambda: loader.generation == 2)
        assert loader.shown()["retries"] == 0
        assert loader.shown()["retry_in_s"] is None

    loader = following(path, then)
    assert loader.compiler.triggers[:6] == ["start", "file", "retry", "retry", "retry", "retry"]
    said = [record.getMessage() for record in caplog.records]
    waits = [line.rpartition("in_s=")[2] for line in said if line.startswith("config_load_retry ")]
    assert waits[:4] == ["0.001", "0.002", "0.004", "0.004"]


def test_what_is_in_the_file_is_not_tried_again(path: Path) -> None:
    """Before it changes."""

    async def then(loader: Loader) -> None:
        loader.compiler.header = {"is_ok": False, "error": "workers: expected 1"}
        path.write_bytes(b"new")
        await until(lambda: len(loader.counted) == 2)
        assert loader.shown()["retry_in_s"] is None
        loader.compiler.header = {"is_ok": True}
        path.write_bytes(b"newer")
        await until(lambda: loader.generation == 2)

    assert following(path, then).compiler.triggers == ["start", "file", "file"]


def test_a_change_ends_the_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next content may need nothing that is missing."""
    monkeypatch.setattr(config_loader, "FIRST_RETRY_S", 3600.0)
    monkeypatch.setattr(config_loader, "LAST_RETRY_S", 3600.0)

    async def then(loader: Loader) -> None:
        loader.compiler.failures = [PlanSourceError("no memory")]
        path.write_bytes(b"new")
        await until(lambda: len(loader.counted) == 2)
        assert loader.shown()["retries"] == 1
        path.write_bytes(b"newer")
        await until(lambda: loader.generation == 2)
        path.write_bytes(b"new")  # once more what failed before
        await until(lambda: loader.generation == 3)

    assert following(path, then).compiler.triggers == ["start", "file", "file", "file"]


def test_what_changes_while_the_compiler_reads_it_is_not_put_in_force(path: Path) -> None:
    """Two looks had agreed on something else; it is no failure either."""

    async def then(loader: Loader) -> None:
        loader.compiler.content = b"half of the next"
        path.write_bytes(b"new")
        await until(lambda: len(loader.compiler.triggers) >= 2)
        assert (loader.generation, loader.counted) == (1, [True])
        loader.compiler.content = None
        await until(lambda: loader.generation == 2)

    assert following(path, then).counted == [True, True]


def test_a_load_that_takes_long_is_told_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, and on the page."""
    monkeypatch.setattr(config_loader, "SLOW_S", 0.0)
    gate = asyncio.Event()

    class Hangs(Loader):
        async def _install(self, trigger: str, header: Header, frames: Sequence[bytes]) -> None:
            await gate.wait()

    async def run() -> None:
        loader = Hangs(path)
        loading = asyncio.create_task(loader.load("signal"))
        await until(lambda: "config_load_slow" in caplog.text)
        assert loader.shown()["loading_for_s"] is not None
        gate.set()
        await loading
        assert loader.shown()["loading_for_s"] is None

    asyncio.run(run())


def test_a_look_that_hangs_is_told_and_so_is_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody starts a second one meanwhile."""
    monkeypatch.setattr(config_loader, "SLOW_S", 0.0)
    gate = asyncio.Event()
    looks = []

    async def then(loader: Loader) -> None:
        async def hangs() -> None:
            looks.append(1)
            await gate.wait()

        monkeypatch.setattr(loader._watch, "changed", hangs)
        await until(lambda: "config_watch_hangs" in caplog.text)
        assert len(looks) == 1
        gate.set()
        await until(lambda: "config_watch_recovered" in caplog.text)

    following(path, then)


GUARD = (20.0, 100)
TOO_MUCH = {"moved_share": 0.25, "moved": 50}


def test_a_guard_refuses_a_file_that_moves_too_much(path: Path) -> None:
    """With the report, and not tried again by itself: as a file with problems is refused."""

    async def scenario() -> None:
        loader = Loader(path)
        loader.compiler.header["guard"] = GUARD
        assert (await loader.load("start")).is_ok
        loader.compiler.said = TOO_MUCH
        outcome = await loader.load("file")
        assert (outcome.is_ok, outcome.is_transient, loader.generation) == (False, False, 1)
        assert "25.0% of the last 200 requests would go elsewhere, and `reload.guard` allows 20%" in outcome.error
        assert outcome.shown()["preview"] == {"requests": 200, "problems": [], **TOO_MUCH}
        assert loader.shown()["retry_in_s"] is None
        assert [len(question.new) for question in loader.compiler.questions] == [2]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (FORCE, TOO_MUCH),
        ("start", TOO_MUCH),
        ("file", {"moved_share": 0.2, "moved": 40}),
        ("signal", {**TOO_MUCH, "requests": 99}),
    ],
    ids=["forced", "at the start", "as much as is allowed", "too few requests"],
)
def test_a_guard_lets_through(path: Path, trigger: str, said: dict[str, Any]) -> None:
    """Who forces it, and what is within its bounds."""

    async def scenario() -> None:
        loader = Loader(path)
        loader.compiler.header["guard"] = GUARD
        await loader.load("start")
        loader.compiler.said = said
        assert (await loader.load(trigger)).is_ok

    asyncio.run(scenario())


def test_the_guard_in_force_is_asked_and_not_that_of_the_new_file(path: Path) -> None:
    """A file cannot let itself through, nor stop itself."""

    async def scenario() -> None:
        loader = Loader(path)
        await loader.load("start")
        loader.compiler.header["guard"] = GUARD
        loader.compiler.said = TOO_MUCH
        assert (await loader.load("file")).is_ok
        loader.compiler.header["guard"] = None
        assert not (await loader.load("file")).is_ok

    asyncio.run(scenario())


def test_a_preview_is_of_what_is_in_force(path: Path) -> None:
    """Before there is anything, it says so."""

    async def scenario() -> None:
        loader = Loader(path)
        with pytest.raises(PlanSourceError, match="no configuration is in force yet"):
            await loader.preview("new.yaml", b"service: x")
        await loader.load("start")
        await loader.preview("new.yaml", b"service: x")
        (question,) = loader.compiler.questions
        assert (question.name, question.text, question.rings, len(question.live)) == (
            "new.yaml", b"service: x", [[b"ring"]], 2
        )  # fmt: skip

    asyncio.run(scenario())
