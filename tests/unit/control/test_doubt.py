"""Every rule of "endpoints are doubted", by a clock that the test holds."""

from __future__ import annotations

import pytest

from sidecar.control.doubt import Candidate, Doubt, Swept, usable


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def many(doubt: Doubt[str], number: int) -> list[str]:
    keys = [f"i{index}" for index in range(number)]
    for key in keys:
        doubt.heard(key)
    return keys


def test_lost_one_is_fresh_for_thirty_seconds_and_then_stale(clock: Clock) -> None:
    """A lost stream is doubted after 30 s, not before, and told once."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 10)
    doubt.lost("i3")
    clock.now_s += 29.9
    assert doubt.sweep() == Swept()
    assert not doubt.is_stale("i3")
    clock.now_s += 0.1
    assert doubt.sweep().stale == ("i3",)
    assert doubt.is_stale("i3")
    assert doubt.sweep().stale == ()
    assert (doubt.fresh, doubt.stale) == (9, 1)


def test_goodbye_is_a_fact_at_once(clock: Clock) -> None:
    """Who said goodbye counts nowhere any more, neither as fresh nor as stale."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 3)
    doubt.forget("i0")
    assert (doubt.fresh, doubt.stale) == (2, 0)
    clock.now_s += 10_000
    assert doubt.sweep() == Swept()


def test_stale_one_is_removed_after_ten_minutes_while_most_are_fresh(clock: Clock) -> None:
    """With 80 % fresh, exactly, what is lost for 10 min is removed."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 10)
    doubt.lost("i0")
    doubt.lost("i1")
    clock.now_s += 599.9
    assert doubt.sweep().removed == ()
    clock.now_s += 0.1
    assert doubt.sweep().removed == ("i0", "i1")
    assert (doubt.fresh, doubt.stale) == (8, 0)


def test_nothing_is_removed_while_less_than_most_are_fresh(clock: Clock) -> None:
    """With three of ten lost the fault is taken to be ours, for as long as it lasts; as they return, it ends."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 10)
    for key in ("i0", "i1", "i2"):
        doubt.lost(key)
    clock.now_s += 100_000
    swept = doubt.sweep()
    assert (swept.removed, swept.kept) == ((), 3)
    assert not doubt.is_removing
    assert doubt.heard("i0")
    assert doubt.sweep().removed == ("i1", "i2")
    assert doubt.is_removing


@pytest.mark.parametrize(
    ("all_of_them", "lost", "are_removed"),
    [
        (1, 1, False),
        (2, 1, False), (2, 2, False),
        (3, 1, False), (3, 2, False), (3, 3, False),
        (4, 1, False), (4, 2, False),
        (5, 1, True), (5, 2, False), (5, 5, False),
        (6, 1, True), (9, 1, True), (9, 2, False), (10, 2, True),
    ],
)  # fmt: skip
def test_small_meshes_remove_nothing_by_doubt_before_they_are_five(
    clock: Clock, all_of_them: int, lost: int, are_removed: bool
) -> None:
    """
    80 % of all, as it is written: of fewer than five one is more than a fifth. Nothing is used of it but where no
    fresh one is left; it goes when it returns and says goodbye, or when others make it one of five.
    """
    doubt: Doubt[str] = Doubt(clock)
    keys = many(doubt, all_of_them)
    for key in keys[:lost]:
        doubt.lost(key)
    clock.now_s += 30
    assert doubt.sweep().stale == tuple(keys[:lost])
    fresh = keys[lost:]
    assert usable([Candidate(key, doubt.is_stale(key)) for key in keys]) == (fresh or keys)
    clock.now_s += 570
    swept = doubt.sweep()
    assert (len(swept.removed), swept.kept, doubt.is_removing) == ((lost, 0, True) if are_removed else (0, lost, False))
    for number in range(5 * lost - all_of_them):
        doubt.heard(f"new{number}")
    assert doubt.sweep().removed == (() if are_removed else tuple(keys[:lost]))


def test_one_that_returns_is_fresh_and_its_time_begins_anew(clock: Clock) -> None:
    """A loss that ended counts for nothing at the next."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 10)
    doubt.lost("i0")
    clock.now_s += 400
    doubt.sweep()
    doubt.heard("i0")
    doubt.lost("i0")
    clock.now_s += 29
    assert doubt.sweep().stale == ()
    clock.now_s += 400
    assert doubt.sweep().removed == ()


def test_a_second_loss_does_not_put_off_the_first(clock: Clock) -> None:
    """Who is lost already is lost since then."""
    doubt: Doubt[str] = Doubt(clock)
    many(doubt, 10)
    doubt.lost("i0")
    clock.now_s += 20
    doubt.lost("i0")
    clock.now_s += 10
    assert doubt.sweep().stale == ("i0",)


def test_after_a_restart_nothing_is_removed_until_everyone_had_time_to_return(clock: Clock) -> None:
    """What is known from before is lost since the restart; with none back nothing is removed, however old it is."""
    doubt: Doubt[str] = Doubt(clock)
    for index in range(10):
        doubt.lost(f"i{index}")
    assert doubt.sweep() == Swept()
    clock.now_s += 29
    assert doubt.sweep().stale == ()
    clock.now_s += 1_000_000
    assert doubt.sweep().removed == ()
    for index in range(8):
        doubt.heard(f"i{index}")
    assert doubt.sweep().removed == ("i8", "i9")


def test_stale_ones_are_used_only_where_no_fresh_one_is_left() -> None:
    """Of one upstream."""
    assert usable([Candidate("a"), Candidate("b", is_stale=True)]) == ["a"]
    assert usable([Candidate("a", is_stale=True), Candidate("b", is_stale=True)]) == ["a", "b"]
    assert usable([]) == []


def test_ill_ones_are_left_out_unless_most_are_ill() -> None:
    """As a sidecar's own health checks: below half, health is not believed."""
    ill = Candidate("ill", is_healthy=False)
    assert usable([Candidate("a"), ill]) == ["a"]
    assert usable([Candidate("a"), ill, Candidate("ill2", is_healthy=False)]) == ["a", "ill", "ill2"]
    assert usable([ill]) == ["ill"]


def test_a_fresh_ill_one_comes_before_a_healthy_stale_one() -> None:
    """It was heard of; the other was not."""
    assert usable([Candidate("old", is_stale=True), Candidate("ill", is_healthy=False)]) == ["ill"]
