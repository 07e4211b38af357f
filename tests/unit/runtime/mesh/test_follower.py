"""What is run, by what a control plane says and what came of each load: without processes, files or a link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sidecar.compile.frames import ControlSettings
from sidecar.config.problems import Problem
from sidecar.link.known_endpoints import endpoint_set
from sidecar.link.messages import Config, Current, EndpointEntry
from sidecar.link.report import Counted, Refused
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import MeshRequest, Pushed
from sidecar.net.tls.settings import ControlIdentity
from sidecar.runtime.mesh import follower as follower_module
from sidecar.runtime.mesh.candidate import Candidate, read_hand_over, refused_by, write_hand_over
from sidecar.runtime.mesh.crashes import Record
from sidecar.runtime.mesh.follower import Follower
from sidecar.runtime.mesh.last_good import Kept
from sidecar.upstream.discovery.endpoint_set import EndpointSet

SETTINGS = ControlSettings(("http://127.0.0.1:1",), "shop", "v1", "z", instance="shop-1", state="off")


def config(revision: int, file: str = "good") -> Config:
    """A file that is pushed."""
    return Config(revision, f"{revision:x}" * 32, file)


class AppWatch:
    """An app that is well."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None

    def health(self) -> str:
        return "healthy"


@dataclass
class Host:
    """
    A process whose loads come to what the pushed text says: `good`, `bad`, or `taken`, which is not now.

    Attributes:
        is_local_good: Whether the local file fits.
        loaded: Trigger and pushed text of every load.
    """

    follower: Follower = field(init=False)
    app_watch: Any = field(default_factory=AppWatch)
    views: Any = None
    is_local_good: bool = True
    loaded: list[tuple[str, str]] = field(default_factory=list)
    told: dict[str, EndpointSet] = field(default_factory=dict)
    gate: asyncio.Event | None = None

    @property
    def endpoint_sink(self) -> Any:
        return self

    def tell(self, name: str, found: EndpointSet) -> None:
        self.told[name] = found

    def identity_report(self) -> None:
        return None

    async def read_edges(self) -> Counted:
        return Counted()

    async def load(self, trigger: str) -> LoadOutcome:
        pushed = self.follower.request(trigger).pushed
        text = (pushed.text or pushed.name) if pushed is not None else ""
        self.loaded.append((trigger, text))
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        problems = () if text in ("good", "") and self.is_local_good else (Problem("pushed", 3, 5, "a", "no good"),)
        outcome = LoadOutcome(
            trigger, time.time(), 0.0, not problems, "", 1, problems, is_transient=bool(problems) and text == "taken"
        )
        self.follower.on_outcome(outcome)
        return outcome


class FakeLink:
    """Neither hears nor tells."""

    def __init__(self, *_: object, **__: object) -> None:
        self.state = follower_module.LinkState(address="http://c:1")
        self.changes = 0
        self.is_closed = False

    async def run(self) -> None:
        await asyncio.Event().wait()

    def changed(self) -> None:
        self.changes += 1

    def endpoints(self) -> dict[str, tuple[EndpointEntry, ...]]:
        return {}

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is heard but what a test says."""
    monkeypatch.setattr(follower_module, "Link", FakeLink)
    monkeypatch.setattr(follower_module, "FIRST_PUSH_S", 0.01)


def follow(
    script: Callable[[Host, Follower], Awaitable[None]], settings: ControlSettings = SETTINGS, handed_over: bytes = b""
) -> Host:
    """A life: what is known from before, the link, then the script."""

    async def run() -> Host:
        host = Host()
        host.follower = Follower(settings, MeshRequest({"zone": "z"}), host, {})
        await host.follower.recover(handed_over)
        await host.follower.connect()
        await script(host, host.follower)
        await host.follower.stop()
        return host

    return asyncio.run(run())


async def settle(condition: Callable[[], bool]) -> None:
    """Until this is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_what_is_pushed_is_run_and_told() -> None:
    """With revision, hash and source."""

    async def script(host: Host, follower: Follower) -> None:
        assert not follower.has_file.is_set()
        assert (follower.health(), follower.ports("h")) == ("starting", {})
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        running = follower.running()
        assert (running.hash, running.revision, running.source) == ("1" * 32, 1, "pushed")
        assert follower.watch().config == "1" * 32
        assert (follower.watch().service, follower.watch().version, follower.watch().zone) == ("shop", "v1", "z")

    assert follow(script).loaded == [("control", "good")]


def test_the_newest_wins_and_what_was_between_is_left_out() -> None:
    """One load at a time."""

    async def script(host: Host, follower: Follower) -> None:
        host.gate = asyncio.Event()
        follower.on_config(config(1))
        await settle(lambda: len(host.loaded) == 1)
        for revision in (2, 3, 4):
            follower.on_config(config(revision))
        host.gate.set()
        await settle(lambda: follower.running().revision == 4)

    assert len(follow(script).loaded) == 2


def test_a_file_that_is_wanted_again_while_another_one_is_prepared_is_run_in_the_end() -> None:
    """A rollout that is taken back in the middle."""

    async def script(host: Host, follower: Follower) -> None:
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        host.gate = asyncio.Event()
        follower.on_config(config(2))
        await settle(lambda: len(host.loaded) == 2)
        follower.on_config(Config(3, config(1).hash, "good"))
        host.gate.set()
        await settle(lambda: len(host.loaded) == 3)
        await settle(lambda: follower.running().revision == 3)
        assert follower.running().hash == config(1).hash

    follow(script)


def test_the_same_file_by_another_revision_is_not_loaded_again() -> None:
    """Whether it is sent or only named."""

    async def script(host: Host, follower: Follower) -> None:
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        follower.on_current(Current(5, config(1).hash))
        assert follower.running().revision == 5
        follower.on_config(Config(6, config(1).hash, "good"))
        await settle(lambda: follower.running().revision == 6)

    assert len(follow(script).loaded) == 1


def test_a_refused_file_is_reported_and_neither_asked_for_nor_tried_again() -> None:
    """Until the local file has changed, with which it did not fit."""

    async def script(host: Host, follower: Follower) -> None:
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        host.is_local_good = False
        follower.on_config(config(2))
        await settle(lambda: follower.refused() is not None)
        refused = follower.refused()
        assert refused is not None
        assert (refused.hash, refused.revision) == (config(2).hash, 2)
        assert (refused.problems[0].line, refused.problems[0].message) == (3, "no good")
        assert follower.running().revision == 1
        assert follower.watch().config == config(2).hash
        follower.on_config(config(2))
        await asyncio.sleep(0.01)
        assert len(host.loaded) == 2
        assert follower.numbers.refused == 1
        host.is_local_good = True
        await host.load("file")
        await settle(lambda: follower.running().revision == 2)
        assert follower.refused() is None

    assert [trigger for trigger, _ in follow(script).loaded] == ["control", "control", "file", "control"]


def test_a_local_file_that_changes_is_judged_with_the_file_in_force() -> None:
    """Not with one that was refused."""

    async def script(host: Host, follower: Follower) -> None:
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        follower.on_config(config(2, "bad"))
        await settle(lambda: follower.refused() is not None)
        assert follower.request("file").pushed == Pushed("pushed", config(1).hash, "good")

    follow(script)


def test_what_cannot_be_had_now_is_what_is_tried_again() -> None:
    """By whoever loads next, for whatever reason."""

    async def script(host: Host, follower: Follower) -> None:
        follower.on_config(config(1))
        await settle(follower.has_file.is_set)
        follower.on_config(config(2, "taken"))
        await settle(lambda: follower.refused() is not None)
        pushed = follower.request("retry").pushed
        assert pushed is not None
        assert pushed.hash == config(2).hash

    follow(script)


def test_nothing_is_put_in_force_any_more_by_who_leaves() -> None:
    """The process drains."""

    async def script(host: Host, follower: Follower) -> None:
        follower.leave()
        follower.on_config(config(1))
        await asyncio.sleep(0.01)

    assert follow(script).loaded == []


def test_a_bootstrap_file_is_taken_where_nothing_is_known() -> None:
    """And not where something was handed over."""

    async def script(host: Host, follower: Follower) -> None:
        """Nothing is pushed."""

    settings = ControlSettings(("http://c:1",), "shop", bootstrap="good", state="off")
    assert follow(script, settings).loaded == [("bootstrap", "good")]
    known = write_hand_over(Record(), Candidate(Pushed("pushed", "a" * 32, "good"), "pushed", 3), {})
    assert follow(script, settings, known).loaded == [("last_good", "good")]


def test_why_nothing_runs_is_said() -> None:
    """As far as it is known."""

    async def script(host: Host, follower: Follower) -> None:
        assert follower.why_waiting() == "waiting for a configuration from the control plane at http://c:1"
        follower.on_absent("the mesh has no service `shop`")
        assert "the mesh has no service `shop`" in follower.why_waiting()
        follower.on_config(config(1, "bad"))
        await settle(lambda: follower.refused() is not None)
        assert follower.why_waiting() == "waiting for a file that can be used: no good"

    follow(script)


def test_a_successor_is_the_same_instance_and_knows_what_was_known() -> None:
    """Whatever else was handed over is nothing."""
    entries = {"back": (EndpointEntry("10.0.0.1:80", 1.0, "z"),)}
    raw = write_hand_over(
        Record(instance="shop-7"), Candidate(Pushed("pushed", "a" * 32, "good"), "last_good", 3), entries
    )
    memory = read_hand_over(raw)
    assert memory is not None
    assert (memory.files, memory.record.instance) == ([Kept("a" * 32, 3, "good")], "shop-7")
    for other in (b"", b"{}", b"[]", b'{"file": 1, "record": {}, "endpoints": {}}', raw[:-1]):
        assert read_hand_over(other) is None

    async def script(host: Host, follower: Follower) -> None:
        assert follower.watch().instance == "shop-7"
        assert len(host.told["back"]) == 1

    follow(script, ControlSettings(("http://c:1",), "shop", state="off"), raw)


def test_only_places_in_what_was_pushed_are_told_as_places() -> None:
    """Others mean nothing to the control plane, and are said in words."""
    tried = Candidate(Pushed("pushed", "a" * 32, ""), "pushed", 3)
    problems = (Problem("/l.yaml", 2, 1, "limits", "no", "do"), Problem("pushed", 4, 2, "via", "so"))
    found = refused_by(tried, LoadOutcome("control", 0.0, 0.0, False, "", 0, problems))
    assert [(one.line, one.column, one.message) for one in found.problems] == [(0, 0, "/l.yaml:2:1: no"), (4, 2, "so")]
    error = refused_by(tried, LoadOutcome("control", 0.0, 0.0, False, "", 0, (), "no memory"))
    assert error == Refused("a" * 32, 3, error.problems)
    assert error.problems[0].message == "no memory"


@pytest.mark.parametrize(
    ("address", "has_own_identity", "is_tls"),
    [("http://127.0.0.1:1", False, False), ("http://127.0.0.1:1", True, True), ("https://127.0.0.1:1", False, True)],
)
def test_who_has_nothing_to_join_by_calls_in_clear(
    address: str, has_own_identity: bool, is_tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has an identity, or will have one, never does."""
    host = Host()
    settings = replace(SETTINGS, addresses=(address,))
    follower = Follower(settings, MeshRequest({"zone": "z"}), host, {}, ControlIdentity(), has_own_identity)
    found = endpoint_set("b", [EndpointEntry("10.0.0.1:80", is_tls=True), EndpointEntry("10.0.0.2:80")])
    follower.on_endpoints("b", "1", found)
    follower.on_endpoints("b", "2", found)
    said = [host.told["b"].tls[address] for address in host.told["b"].weights]
    assert said == [is_tls, False]
    assert caplog.text.count("calls_in_clear") == (not is_tls)
