"""A reloader and whatever may come from its source, without processes."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest

from sidecar.compile import time_slices
from sidecar.compile.frames import FrameError, Header, Kind, make_frame, problem_frames, read_header
from sidecar.compile.listener_spec import ListenerSpec
from sidecar.compile.time_slices import in_slices
from sidecar.config.problems import Problem
from sidecar.loader import config_loader
from sidecar.loader.file_watch import FileWatch
from sidecar.loader.plan_source import PlanSourceError
from sidecar.net.timers import Timers
from sidecar.runtime.listeners import ConnectionHandler
from sidecar.runtime.reload import Reloader
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream.registry import Registry
from tests.support.compiling import frames_of

END = make_frame(Kind.END)
TEXT = """
service: s
outbound: {listen: "127.0.0.1:0", routes: [%s]}
upstreams: {a: {endpoints: ["10.0.0.1:80"]}}
admin: {listen: "127.0.0.1:0"}
telemetry: {metrics: {listen: "127.0.0.1:0"}, access_log: {format: off}}
"""


class Given:
    """A source that gives what it was given."""

    def __init__(self, frames: Sequence[bytes] = (), error: Exception | None = None) -> None:
        self.given = frames
        self.error = error

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        for frame in self.given:
            yield frame
        if self.error is not None:
            raise self.error


class NoHandler:
    """Behind a listener that nobody connects to."""

    def protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()

    def update(self, spec: ListenerSpec) -> None: ...

    def announce(self) -> None: ...

    def drain(self, patience_s: float = 0.0) -> None: ...


def reloading(source: Given, then: Callable[[Reloader], object]) -> None:
    """Run `then` (maybe a coroutine function) with a reloader, and give everything back."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        registry = Registry()
        telemetry = Telemetry(TelemetrySettings(access_log_path=None), environment={})

        def handler(spec: ListenerSpec) -> ConnectionHandler:
            return NoHandler()

        reloader = Reloader("f.yaml", {}, source, loop, telemetry, registry, Timers(loop), handler)
        try:
            result = then(reloader)
            if asyncio.iscoroutine(result):
                await result
        finally:
            reloader.close()
            for opened in reloader.listeners.current.values():
                opened.close("test")
            await registry.stop()
            await telemetry.stop(0)

    asyncio.run(run())


def good(routes: int = 1, upstream: str = "a") -> list[bytes]:
    """The frames of a file of so many routes to this upstream."""
    listed = ", ".join(f"{{match: {{path: /{n}}}, to: {upstream}}}" for n in range(routes))
    return frames_of((TEXT % listed).replace("{a:", f"{{{upstream}:"))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (Given(error=PlanSourceError("f.yaml: no compiler; nothing was changed")), "no compiler"),
        (Given(good()[:3], PlanSourceError("f.yaml: it died; nothing was changed")), "it died"),
        (Given(error=FrameError("expected a frame, found `x`")), "makes no sense: expected a frame"),
        (Given([b"garbage"]), "makes no sense: expected a frame"),
        (Given([END]), "makes no sense: expected a header"),
        (Given([*good()[:1], END]), "makes no sense: expected header, shapes"),
        (Given([*good()[:3], make_frame(Kind.ROUTES, b"garbage"), END]), "makes no sense: expected sections"),
        (Given([Header(False, error="f.yaml: cannot be read").to_frame(), END]), "cannot be read"),
    ],
)
def test_what_is_no_configuration_is_an_error_and_changes_nothing(source: Given, error: str) -> None:
    """With one line that says why; the next good one is put in force."""

    async def then(reloader: Reloader) -> None:
        outcome = await reloader.load("start")
        assert not outcome.is_ok
        assert error in outcome.error
        assert (reloader.live, reloader.config, outcome.generation) == (None, None, 0)
        source.given, source.error = good(), None
        assert (await reloader.load("file")).generation == 1

    reloading(source, then)


def test_problems_are_told_as_they_were_found() -> None:
    """All of them, in order."""
    problems = [Problem("f.yaml", line, 1, "a", "is wrong") for line in range(1, 120)]
    source = Given([Header(False, "ab" * 32).to_frame(), *problem_frames(problems), END])

    async def then(reloader: Reloader) -> None:
        outcome = await reloader.load("start")
        assert (outcome.is_ok, outcome.error, outcome.config_hash) == (False, "", "ab" * 6)
        assert list(outcome.problems) == problems

    reloading(source, then)


def test_a_load_leaves_no_cyclic_garbage(tmp_path: Path) -> None:
    """What is garbage at the end of a load is exempt from collection, and would stay for ever."""

    async def then(reloader: Reloader) -> None:
        for _ in range(3):
            assert (await reloader.load("file")).is_ok
        gc.unfreeze()
        gc.collect()
        gc.disable()
        try:
            for upstream in "ba":
                source.given = files[upstream]
                assert (await reloader.load("file")).is_ok
                gc.disable()
            await asyncio.sleep(0)
            while len(reloader._old_plans):
                await asyncio.sleep(0)
            gc.unfreeze()
            assert gc.collect() == 0
        finally:
            gc.enable()

    files = {upstream: good(50, upstream) for upstream in "ab"}
    source = Given(files["a"])
    reloading(source, then)


def test_a_large_file_is_built_swapped_and_let_go_in_steps_of_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No step between two turns of the loop calls more functions than a few hundred, however many routes there are; calls
    are counted, not time.
    """
    monkeypatch.setattr(time_slices, "LONGEST_SLICE_S", 0.0)
    routes = 1500

    async def then(reloader: Reloader) -> None:
        await reloader.load("start")
        calls = most = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        task = asyncio.get_running_loop().create_task(reloader.load("file"))
        turns = 0
        while not task.done() or len(reloader._old_plans):
            calls = 0
            sys.setprofile(count)
            try:
                await asyncio.sleep(0)
            finally:
                sys.setprofile(None)
            most = max(most, calls)
            turns += 1
        assert task.result().is_ok
        assert turns > 2 * routes
        assert most < 1200

    reloading(Given(good(routes)), then)


def test_slices_give_way_and_hand_on_result_and_error() -> None:
    """As if the work had been done at one go."""

    def work(fails: bool) -> time_slices.Steps[int]:
        for _ in range(10):
            yield
        if fails:
            raise KeyError("x")
        return 7

    async def run() -> None:
        assert await in_slices(work(False)) == 7
        with pytest.raises(KeyError):
            await in_slices(work(True))

    asyncio.run(run())
    assert time_slices.at_once(work(False)) == 7
    with pytest.raises(KeyError):
        time_slices.at_once(work(True))


def test_a_busy_loop_leaves_work_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns of 2 ms get a slice of 1 ms instead of half of one: a clock that is held, a step of 100 us."""
    now = 0.0
    monkeypatch.setattr(time_slices.time, "perf_counter", lambda: now)
    steps_of_slices = [0]

    def work() -> time_slices.Steps[None]:
        nonlocal now
        for _ in range(60):
            now += 0.0001
            steps_of_slices[-1] += 1
            yield

    async def run() -> None:
        nonlocal now
        task = asyncio.create_task(in_slices(work()))
        while not task.done():
            await asyncio.sleep(0)
            steps_of_slices.append(0)
            now += 0.002

    asyncio.run(run())
    assert [count for count in steps_of_slices if count][:3] == pytest.approx([5, 10, 10], abs=1)


def test_a_change_that_a_load_is_reading_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes the file and sends SIGHUP gets one reload, also where that takes longer than two looks at the file."""
    monkeypatch.setattr(config_loader, "POLL_PERIOD_S", 0.01)
    path = tmp_path / "f.yaml"
    path.write_text("old")
    looks: list[str] = []
    is_going_on = asyncio.Event()

    class Slow(Given):
        async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
            looks.append(trigger)
            is_going_on.set()
            if trigger == "signal":
                await asyncio.sleep(0.1)  # ten looks
            async for frame in super().frames(trigger):
                yield frame

    def frames_now() -> list[bytes]:
        header = read_header(good()[0])
        digest_hex = hashlib.sha256(path.read_bytes()).hexdigest()
        return [dataclasses.replace(header, digest_hex=digest_hex).to_frame(), *good()[1:]]

    async def then(reloader: Reloader) -> None:
        reloader.path = str(path)
        reloader._watch = FileWatch(str(path))
        source.given = frames_now()
        await reloader.load("start")
        path.write_text("new")
        source.given = frames_now()
        is_going_on.clear()
        loading = asyncio.create_task(reloader.load("signal"))
        await is_going_on.wait()
        watching = asyncio.create_task(reloader.watch())
        await loading
        await asyncio.sleep(0.1)
        assert looks == ["start", "signal"]
        path.write_text("newer")
        source.given = frames_now()
        while looks != ["start", "signal", "file"]:
            await asyncio.sleep(0.01)
        watching.cancel()

    source = Slow()
    reloading(source, then)
