"""Weights and keys that stick. `tests/property/test_routing_split.py` proves what must hold for any weights."""

from __future__ import annotations

import gc
import random

import pytest

from sidecar.routing.split import Split, key_reader, make_split
from tests.unit.routing import head_of

PEER = "192.0.2.1"


def shares(split_names: list[str], weights: list[float], sticky: tuple[str, str] | None, count: int) -> list[int]:
    """How often each target is chosen, by seeded chance or by `count` different keys."""
    split = make_split(split_names, weights, sticky, random.Random(7).random)
    assert split is not None
    tally = [0] * len(weights)
    for number in range(count):
        tally[split.choose(head_of(b"/", b"X-User: user-%d" % number), PEER)] += 1
    return tally


@pytest.mark.parametrize("sticky", [None, ("header", "x-user")])
@pytest.mark.parametrize("weights", [[95, 5], [1, 1], [5, 3, 2], [1, 0, 3], [0, 1], [0.5, 0.25, 0.25], [7, 1, 1, 1]])
def test_each_target_gets_its_share(weights: list[float], sticky: tuple[str, str] | None) -> None:
    """Pearson's chi-squared of 4,000 choices stays below the 99.9th percentile; weight 0 gets none."""
    count = 4000
    tally = shares([f"upstream-{n}" for n in range(len(weights))], weights, sticky, count)
    expected = [count * weight / sum(weights) for weight in weights]
    assert all(number == 0 for number, weight in zip(tally, weights, strict=True) if weight == 0)
    chi_squared = sum((n - e) ** 2 / e for n, e in zip(tally, expected, strict=True) if e)
    percentile = {1: 0.0, 2: 10.83, 3: 13.82, 4: 16.27}[sum(weight > 0 for weight in weights)]
    assert chi_squared <= percentile


@pytest.mark.parametrize("number", [0.0, 0.3, 0.5, 0.949999, 0.95, 1 - 2**-53])
@pytest.mark.parametrize("weights", [[95, 5], [0, 1], [1, 0], [0, 3, 0], [0.1] * 10, [1, 1, 0]])
def test_no_number_at_random_chooses_a_target_without_weight(weights: list[float], number: float) -> None:
    """Not at the edges either, where sums of floats are rounded."""
    split = make_split([str(n) for n in range(len(weights))], weights, None, lambda: number)
    assert split is not None
    assert weights[split.choose(head_of(), PEER)] > 0


def test_two_targets_divide_the_numbers_at_their_weights() -> None:
    """95 to 5."""
    for number, side in ((0.0, 0), (0.9499, 0), (0.95, 1), (0.9999, 1)):
        split = make_split(["a", "b"], [95, 5], None, lambda number=number: number)
        assert split is not None
        assert split.choose(head_of(), PEER) == side


def test_the_side_of_a_key_never_changes_between_processes_and_releases() -> None:
    """Written down here once; a different result would move users at an upgrade."""
    split = make_split(["recommendations", "recommendations-beta"], [50, 50], ("cookie", "uid"))
    assert split is not None
    assert [split.side(b"user-%d" % number) for number in range(16)] == [0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1]


def test_a_request_without_the_key_is_shared_out_at_random() -> None:
    """An empty key is no key: all that have one would be on one side."""
    split = make_split(["a", "b"], [1, 1], ("cookie", "uid"), lambda: 0.9)
    other = make_split(["a", "b"], [1, 1], ("cookie", "uid"), lambda: 0.1)
    assert split is not None
    assert other is not None
    for head in (head_of(), head_of(b"/", b"Cookie: uid="), head_of(b"/", b"Cookie: x=1")):
        assert (split.choose(head, PEER), other.choose(head, PEER)) == (1, 0)


def test_two_targets_of_one_upstream_share_its_keys() -> None:
    """They may differ by header edits; neither gets them all."""
    split = make_split(["a", "a"], [1, 1], ("header", "x"))
    assert split is not None
    assert {split.side(b"%d" % number) for number in range(50)} == {0, 1}


def test_a_single_target_needs_no_split() -> None:
    """Even with a key."""
    assert make_split(["a"], [5]) is None
    assert make_split(["a"], [5], ("cookie", "uid")) is None


@pytest.mark.parametrize(
    ("names", "weights", "sticky"),
    [
        ([], [], None), (["a"], [0], None), (["a", "b"], [0, 0], None), (["a", "b"], [1, -1], None),
        (["a", "b"], [1, float("nan")], None), (["a", "b"], [1, float("inf")], None), (["a", "b"], [1], None),
        (["a", "b"], [1e308, 1e308], None), (["a", "b"], [1, 1], ("body", "x")), (["a", "b"], [1, 1], ("cookie", "")),
        (["a", "b"], [1, 1], ("header", "a b")), (["a"], [1], ("header", "")),
    ],
)  # fmt: skip
def test_what_is_no_split_is_refused(names: list[str], weights: list[float], sticky: tuple[str, str] | None) -> None:
    """Weights that sum to nothing, numbers that are none, keys that no request has."""
    with pytest.raises(ValueError):
        make_split(names, weights, sticky)


@pytest.mark.parametrize(
    ("source", "name", "key"),
    [("cookie", "uid", b"7"), ("cookie", "none", None), ("header", "X-User", b"a, b"), ("header", "none", None),
     ("query", "q", b"x y"), ("query", "none", None), ("source_ip", "", b"192.0.2.1")],
)  # fmt: skip
def test_a_key_is_read_where_it_is_said_to_be(source: str, name: str, key: bytes | None) -> None:
    """The same readers serve the hash policy of upstreams."""
    head = head_of(b"/?q=x+y", b"Cookie: uid=7", b"x-user: a", b"x-user: b")
    assert key_reader(source, name)(head, PEER) == key


class Side:
    """An upstream that may not have had an endpoint; counts how often that is asked."""

    def __init__(self, has_had_endpoints: bool) -> None:
        self.asked = 0
        self._answer = has_had_endpoints

    @property
    def has_had_endpoints(self) -> bool:
        """As `Awaited`."""
        self.asked += 1
        return self._answer

    @has_had_endpoints.setter
    def has_had_endpoints(self, value: bool) -> None:
        self._answer = value


def tally(split: Split, count: int = 2000) -> list[int]:
    """How often each target is chosen for so many different keys."""
    chosen = [0] * len(split.weights)
    for number in range(count):
        chosen[split.choose(head_of(b"/", b"X-User: user-%d" % number), PEER)] += 1
    return chosen


def awaiting(sides: list[Side | None], weights: list[float], sticky: bool) -> Split:
    """A split among `u0`, `u1` and so on."""
    key = ("header", "x-user") if sticky else None
    names = [f"u{n}" for n in range(len(weights))]
    split = make_split(names, weights, key, random.Random(7).random, sides)
    assert split is not None
    return split


@pytest.mark.parametrize("sticky", [False, True])
def test_a_target_that_never_had_an_endpoint_gets_nothing_until_it_has(sticky: bool) -> None:
    """The others share its part by their weights; its own comes with its first endpoint."""
    sides = [Side(True), Side(False), Side(True)]
    split = awaiting([*sides], [1, 2, 1], sticky)
    assert split.missing() == (1,)
    first, none, third = tally(split)
    assert none == 0
    assert abs(first - third) < 200
    sides[1].has_had_endpoints = True
    assert abs(tally(split)[1] - 1000) < 150
    assert split.missing() == ()


@pytest.mark.parametrize("sticky", [False, True])
def test_nobody_is_asked_once_all_have_had_endpoints(sticky: bool) -> None:
    """The first choice that finds all there is the last to look; and it is the choice of a split that never looked."""
    sides = [Side(False), Side(False)]
    split = awaiting([*sides], [1, 1], sticky)
    tally(split, 5)
    for side in sides:
        side.has_had_endpoints = True
    split.choose(head_of(), PEER)
    before = [side.asked for side in sides]
    after = tally(split)
    assert [side.asked for side in sides] == before
    if sticky:
        assert after == tally(awaiting([], [1, 1], sticky))
    nobody = [Side(True), Side(True)]
    settled = awaiting([*nobody], [1, 1], sticky)
    before = [side.asked for side in nobody]
    tally(settled)
    assert [side.asked for side in nobody] == before


def test_where_none_ever_had_an_endpoint_one_is_chosen_all_the_same() -> None:
    """Its upstream then says that there is no endpoint."""
    split = awaiting([Side(False), Side(False)], [3, 1], True)
    assert tally(split) == tally(awaiting([], [3, 1], True))
    weightless = awaiting([Side(False), Side(True)], [1, 0], True)
    assert tally(weightless) == [2000, 0]
    assert weightless.missing() == (0,)


def test_targets_without_weight_or_that_are_never_missing_are_not_waited_for() -> None:
    """A fixed upstream without endpoints answers 503, as it says."""
    assert awaiting([Side(False), None], [0, 1], False).missing() == ()
    assert tally(awaiting([None, Side(False)], [1, 1], False)) == [2000, 0]


def test_a_settled_split_refers_to_nothing_that_refers_to_it() -> None:
    """Else it would stay for ever: what a load makes is exempt from collection."""
    gc.collect()
    gc.disable()
    try:
        split = awaiting([Side(False), Side(False)], [1, 1], True)
        split.choose(head_of(), PEER)
        split.settle()
        assert split.missing() == ()
        del split
        assert gc.collect() == 0
    finally:
        gc.enable()
