"""The figures of the comparison: medians, ratios and percentiles say what their names say."""

from __future__ import annotations

import math

import pytest

from benchmarks.harness.figures import Spread, percentile, percentiles_ms, ratio


def test_spread_gives_the_median_and_the_range_it_stands_in() -> None:
    """An outlier moves the range and not the median."""
    assert Spread.of([3.0, 1.0, 900.0]) == Spread(3.0, 1.0, 900.0)
    assert Spread.of([3.0, 1.0, 900.0]).text(1) == "3.0 (1.0-900.0)"
    assert Spread.of([-2.0, -1.0, 3.0]).text(0) == "-1 (-2 to 3)"


def test_spread_of_nothing_is_refused() -> None:
    """A figure without a round is no figure."""
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_ratio_is_taken_within_a_round_first() -> None:
    """A round in which the machine was half as fast for both changes nothing; the ratio of medians would move."""
    assert ratio({1: 10.0, 2: 20.0, 3: 11.0}, {1: 20.0, 2: 40.0, 3: 22.0}) == Spread(0.5, 0.5, 0.5)


def test_ratio_leaves_out_rounds_that_one_of_both_does_not_have() -> None:
    """A round that ended early is not compared with another's."""
    assert ratio({1: 10.0, 2: 20.0}, {2: 10.0, 3: 1.0}) == Spread(2.0, 2.0, 2.0)


@pytest.mark.parametrize("base", [{}, {2: 5.0}, {1: 0.0}], ids=["nobody", "other rounds", "nothing"])
def test_ratio_without_a_common_round_is_none(base: dict[int, float]) -> None:
    """No division by zero, and no ratio out of thin air."""
    assert ratio({1: 10.0}, base) is None


@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100), (0.001, 1), (0.011, 2)],
)
def test_percentile_is_the_nearest_rank(share: float, wanted: int) -> None:
    """Of 1 to 100: the smallest value that at least this share do not exceed, never one in between."""
    assert percentile(range(1, 101), share) == wanted


def test_percentile_of_a_single_value_is_that_value() -> None:
    """One latency is its own p50 and p99.9."""
    assert {percentile([7.0], share) for share in (0.001, 0.5, 0.999, 1.0)} == {7.0}


def test_percentiles_keep_the_slowest_and_leave_out_only_what_failed() -> None:
    """999 fast answers, one of two seconds and a failure: the two seconds are the maximum, the failure is nowhere."""
    found = percentiles_ms([0.001] * 998 + [2.0, math.nan, 0.001])
    assert found == {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "p999_ms": 1.0, "max_ms": 2000.0}


def test_percentiles_of_failures_alone_are_none() -> None:
    """What nobody answered has no latency."""
    assert percentiles_ms([math.nan, math.nan]) == {}
