"""What is kept of what an instance counted, and what of it lies in a window."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sidecar.control.rollout.statistics import LOOK_BACK_S, MAX_PERIODS, counted, noted
from sidecar.control.rollout.view import Instance, Period


def kept(count: int, every_s: float) -> list[Period]:
    """After so many reports of ten requests each."""
    periods: list[Period] = []
    for number in range(count):
        periods = noted(periods, Period(number * every_s, (number + 1) * every_s, 10, 1))
        assert len(periods) <= MAX_PERIODS
    return periods


def test_few_reports_are_kept_as_they_came() -> None:
    """A window that begins with one of them is exact."""
    periods = kept(MAX_PERIODS, 10.0)
    assert [(one.start_s, one.requests) for one in periods] == [(10.0 * number, 10) for number in range(MAX_PERIODS)]


@pytest.mark.parametrize("every_s", [0.2, 1.0, 10.0])
def test_many_reports_reach_back_as_far(every_s: float) -> None:
    """Nothing between is lost: they follow each other, and of a window only its edge may be missing."""
    count = int(600 / every_s)
    periods = kept(count, every_s)
    assert (periods[0].start_s, periods[-1].end_s) == (0.0, count * every_s)
    assert all(one.end_s == other.start_s for one, other in pairwise(periods))
    assert sum(one.requests for one in periods) == 10 * count
    since_s = count * every_s / 2
    found = counted([Instance("i", "s", periods=tuple(periods))], since_s, count * every_s)
    first = next(one for one in periods if one.start_s >= since_s)
    assert found.requests == round((count * every_s - first.start_s) / every_s) * 10
    assert found.failures * 10 == found.requests
    assert first.start_s < since_s + 30.0


def test_what_is_long_ago_is_forgotten() -> None:
    """An hour is more than any wave is looked at."""
    periods = kept(2000, 10.0)
    assert periods[-1].end_s - LOOK_BACK_S <= periods[0].end_s
