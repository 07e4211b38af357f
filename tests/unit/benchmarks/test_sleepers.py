"""Which latencies are the machine's: those of requests that ran while a core stood still."""

from __future__ import annotations

import pytest

from benchmarks.harness.load import Stream
from benchmarks.harness.sleepers import Stalls

MS = 1_000_000


def test_wakings_of_all_cores_are_one_row_of_spans() -> None:
    """In order, and where two cores stood still at once, one."""
    stalls = Stalls.of([(50 * MS, 5 * MS), (10 * MS, 3 * MS), (12 * MS, 4 * MS)])
    assert stalls.spans == [(10 * MS, 16 * MS), (50 * MS, 55 * MS)]
    assert stalls.longest_ms() == 6.0
    assert Stalls.of([]).longest_ms() == 0.0


@pytest.mark.parametrize(
    ("begin", "end", "touches"),
    [(0, 9, False), (0, 11, True), (12, 13, True), (16, 20, False), (15, 20, True), (56, 99, False), (0, 99, True)],
)
def test_a_request_is_the_machines_if_it_ran_in_one(begin: int, end: int, touches: bool) -> None:
    """Or in part of one."""
    stalls = Stalls.of([(10 * MS, 6 * MS), (50 * MS, 5 * MS)])
    assert stalls.touch(begin * MS, end * MS) is touches


def test_the_longest_latency_is_that_of_the_others() -> None:
    """A failed one is none."""
    latencies = [0.001, 0.020, float("nan"), 0.004]
    stream = Stream(
        latencies_s=latencies,
        start_ns=0,
        period_ns=10 * MS,
        failed=1,
        unanswered=0,
        reopened=0,
        cpu_s=0.0,
        lag_p50_s=0.0,
        lag_p99_s=0.0,
        lag_max_s=0.0,
    )
    assert stream.awake_max_ms(Stalls.of([(15 * MS, 2 * MS)])) == 4.0
    assert stream.awake_max_ms(Stalls()) == 20.0
    assert stream.awake_max_ms(Stalls.of([(0, 100 * MS)])) is None
