"""A configuration is in force in all workers or in none, whoever refuses it or dies over it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sidecar.workers import group as module
from sidecar.workers.group import Group
from sidecar.workers.member import MemberGoneError
from sidecar.workers.sockets import Sockets


class FakeMember:
    """
    A worker that does as it is told.

    Args:
        answer: To a configuration: what is wrong with it, an error, or None to never answer.
    """

    def __init__(self, index: int, answer: list[str] | Exception | None, state: str = "LIVE") -> None:
        self.index = index
        self.pid = 100 + index
        self.state = state
        self.is_answering = True
        self.events: list[Any] = []
        self.answer = answer

    async def prepare(self, trigger: str, frames: Sequence[bytes], sockets: Sequence[Any]) -> list[str]:
        self.events.append(("prepare", trigger, list(frames)))
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def commit(self) -> list[str]:
        self.events.append("commit")
        return []

    async def abandon(self, why: str) -> None:
        self.events.append(f"abandon: {why}")

    def kill(self, why: str = "died") -> None:
        self.events.append(f"kill: {why}")

    @property
    def last(self) -> Any:
        return self.events[-1] if self.events else None


def load(*members: FakeMember, is_first: bool = False) -> tuple[list[str], list[str]]:
    """Load a file in these; gives what is wrong, and when the swap was among the workers' own events."""

    async def run() -> tuple[list[str], list[str]]:
        group = Group("f.yaml", {}, len(members), Sockets(len(members)))
        group.members = list(members)  # type: ignore[arg-type]
        group._frames = () if is_first else (b"old",)
        swaps: list[str] = []

        async def swap() -> None:
            assert "commit" not in [event for member in members for event in member.events]
            swaps.append("swap")

        problems = await group.load("file", [b"new"], {}, swap)
        await group.stop()
        return problems, swaps

    return asyncio.run(run())


def test_what_all_could_prepare_all_put_in_force() -> None:
    """After the swap, and only then."""
    members = [FakeMember(index, []) for index in range(3)]
    assert load(*members) == ([], ["swap"])
    assert [member.events for member in members] == [[("prepare", "file", [b"new"]), "commit"]] * 3


def test_what_one_could_not_prepare_none_puts_in_force() -> None:
    """The others forget it, and are told why; who refused has forgotten it already."""
    good, bad = FakeMember(0, []), FakeMember(1, ["no such thing"])
    assert load(good, bad) == (["no such thing"], [])
    assert good.last == "abandon: another worker could not prepare it: no such thing"
    assert bad.last == ("prepare", "file", [b"new"])


def test_the_same_refusal_is_told_once() -> None:
    """However many say it."""
    assert load(FakeMember(0, ["a", "b"]), FakeMember(1, ["a"]))[0] == ["a", "b"]


def test_a_worker_that_dies_meanwhile_has_no_say() -> None:
    """Its successor gets what is in force then."""
    gone, other = FakeMember(0, MemberGoneError()), FakeMember(1, [])
    assert load(gone, other) == ([], ["swap"])
    assert other.last == "commit"


def test_a_file_that_ends_every_worker_is_refused() -> None:
    """Or their successors would end over it, too."""
    problems, swaps = load(FakeMember(0, MemberGoneError()), FakeMember(1, MemberGoneError()))
    assert problems == ["f.yaml: every worker ended while it prepared this file; nothing was changed"]
    assert swaps == []


def test_a_worker_that_is_not_ready_in_time_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others do not wait for it for ever."""
    monkeypatch.setattr(module, "READY_LIMIT_S", 0.01)
    late, other = FakeMember(0, None), FakeMember(1, [])
    assert load(late, other) == ([], ["swap"])
    assert late.last == "kill: not_ready"
    assert other.last == "commit"


def test_a_worker_that_is_being_replaced_is_not_asked() -> None:
    """It gets all of the file in force when its turn comes; at the start, though, all are new."""
    starting, other = FakeMember(0, [], state="STARTING"), FakeMember(1, [])
    assert load(starting, other) == ([], ["swap"])
    assert starting.events == []
    first = FakeMember(0, [], state="STARTING")
    assert load(first, is_first=True) == ([], ["swap"])
    assert first.last == "commit"


def test_without_a_live_worker_a_file_is_for_those_to_come() -> None:
    """It may be the one that they do not die of."""
    assert load(FakeMember(0, [], state="ENDED")) == ([], ["swap"])
