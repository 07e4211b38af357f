"""How fresh a registration is that another replica holds: as fresh as that replica. The clock is the test's."""

from __future__ import annotations

import pytest

from sidecar.control.discovery.registry import Registry, doubt_key
from sidecar.control.doubt import REMOVE_AFTER_S, STALE_AFTER_S, Doubt
from sidecar.control.engines.interface import Registration, RegistrationChange
from sidecar.link.report import Port


class World:
    """The registry of replica `b`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.doubt = Doubt[tuple[str, str]](lambda: self.now_s)
        self.changes: list[str] = []
        self.registry = Registry(self.doubt, self.changes.append)

    def living(self, *names: str) -> None:
        self.registry.living(names, "b")

    def apply(self, *put: Registration, is_snapshot: bool = False) -> None:
        self.registry.apply(RegistrationChange(put, is_snapshot=is_snapshot), "b")

    def stale_after(self, seconds: float) -> set[str]:
        self.now_s += seconds
        for key in self.doubt.sweep().removed:
            self.registry.remove(key[1])
        return {one.instance for one in self.registry if self.doubt.is_stale(doubt_key(one.instance))}


@pytest.fixture
def world() -> World:
    return World()


def held(holder: str, *names: str, lost_s: float | None = None) -> tuple[Registration, ...]:
    ports = {"http": Port("10.0.0.1:15000")}
    return tuple(Registration("s", name, ports=ports, holder=holder, lost_s=lost_s) for name in names)


def test_what_a_living_replica_holds_is_fresh_for_one_that_starts_beside_it(world: World) -> None:
    """However long nothing changes; what that one lost, what nobody holds and what we held is lost since the start."""
    world.living("a", "b")
    every = (*held("a", "1", "2", "3"), *held("a", "lost", lost_s=5.0), *held("gone", "4"), *held("b", "5"))
    world.apply(*every, is_snapshot=True)
    assert world.stale_after(STALE_AFTER_S - 1) == set()
    assert world.stale_after(1) == {"lost", "4", "5"}
    assert world.stale_after(100 * REMOVE_AFTER_S) == {"lost", "4", "5"}, "more than a fifth: nothing is removed"


def test_what_a_replica_held_that_is_gone_is_lost_since_then(world: World) -> None:
    """Until it is heard of elsewhere; who is not is stale, and removed in the end."""
    world.living("a", "b")
    world.apply(is_snapshot=True)
    world.apply(*held("a", "1", "2", "3", "4", "5", "6"))
    assert world.stale_after(5000) == set()
    world.living("b")
    assert world.stale_after(STALE_AFTER_S - 1) == set()
    world.apply(*held("b", "1", "2", "3", "4", "5"))
    assert world.stale_after(1) == {"6"}
    assert world.stale_after(REMOVE_AFTER_S) == set()
    assert world.registry.get("6") is None


def test_replica_that_is_announced_late_or_again_says_that_it_hears(world: World) -> None:
    """What it lost stays lost; who was stale is told to those concerned."""
    world.living("b")
    world.apply(*held("a", "1"), *held("a", "lost", lost_s=5.0), is_snapshot=True)
    assert world.stale_after(STALE_AFTER_S) == {"1", "lost"}
    world.changes.clear()
    world.living("a", "b")
    assert world.stale_after(0) == {"lost"}
    assert world.changes == ["s"]
    world.living("a", "b", "c")
    world.living("a", "b")
    assert world.stale_after(5000) == {"lost"}


def test_list_says_no_more_of_what_nobody_holds_than_the_one_before_it(world: World) -> None:
    """A watch that has to begin anew is no sign of life; a change is, though its holder is not known yet."""
    world.living("b")
    world.apply(*held("gone", "1", "2"), is_snapshot=True)
    for _ in range(2):
        world.stale_after(STALE_AFTER_S / 2)
        world.apply(*held("gone", "1", "2"), is_snapshot=True)
    assert world.stale_after(0) == {"1", "2"}
    world.apply(*held("new", "1"))
    assert world.stale_after(0) == {"2"}
    world.living("b", "new")
    assert world.stale_after(5000) == {"2"}


def test_what_a_list_does_not_have_any_more_is_lost_though_its_holder_lives(world: World) -> None:
    """Others that come and go are no sign of it."""
    world.living("a", "b")
    world.apply(*held("a", "1", "2"), is_snapshot=True)
    world.apply(*held("a", "1"), is_snapshot=True)
    world.living("a", "b", "c")
    assert world.stale_after(STALE_AFTER_S) == {"2"}


def test_store_that_begins_with_nothing_is_no_copy_of_what_was_before(world: World) -> None:
    """It is new, or lost everything: what is written into it since then says nothing of who has not come yet."""
    world.apply(*held("a", "1"))
    assert not world.registry.has_copy
    world.living("a", "b")
    world.apply(*held("a", "1", "2"), is_snapshot=True)
    assert not world.registry.has_copy
    world.apply(*held("a", "2"), is_snapshot=True)
    assert world.stale_after(STALE_AFTER_S) == {"1"}, "who is missing in a later list is doubted all the same"
