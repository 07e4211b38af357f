"""
Whether some instances fail more often than others, or too few requests say so. *Pure.*

Only whole reports inside a window count: one that began before it would mix in what the old file did.

A share is an estimate. Of 50 requests where 1 % fail anyway, two or more fail one time in eleven, and that is 4 %. So a
difference is held to be worse only if it is more than `worse_by` after two standard errors have been taken off: those
50 requests then halt a wave for seven failures, which chance gives less than once in 100,000 times, and a wave of which
everything fails is halted by its first `minimum` requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from sidecar.control.rollout.record import Counts
from sidecar.control.rollout.view import Instance, Period

MAX_PERIODS = 64
"""Of one instance that are kept: ten minutes of reports that come every 10 s, each as it came."""
LOOK_BACK_S = 3600.0
"""For which what was counted is kept."""
_STANDARD_ERRORS = 2.0


def minimum(worse_by: float) -> int:
    """How many requests are enough: so many that one failure among them is not yet worse by itself."""
    return math.ceil(1 / worse_by - 1e-9)


def noted(periods: Sequence[Period], newest: Period) -> list[Period]:
    """
    Periods that follow each other, with one more. Where there are too many, the two neighbours are joined that are the
    shortest together: a report comes with every change, so that a minute may bring as many as the ten before it.
    """
    kept = [one for one in periods if one.end_s > newest.end_s - LOOK_BACK_S] + [newest]
    if len(kept) <= MAX_PERIODS:
        return kept
    lengths = [other.end_s - one.start_s for one, other in pairwise(kept)]
    at = lengths.index(min(lengths))
    one, other = kept[at : at + 2]
    kept[at : at + 2] = [Period(one.start_s, other.end_s, one.requests + other.requests, one.failures + other.failures)]
    return kept


def counted(instances: Iterable[Instance], since_s: float, until_s: float) -> Counts:
    """What these instances counted in reports that lie wholly within the window."""
    within = [
        period
        for instance in instances
        for period in instance.periods
        if period.start_s >= since_s and period.end_s <= until_s
    ]
    return Counts(sum(one.requests for one in within), sum(one.failures for one in within))


def is_worse(counts: Counts, than: Counts, worse_by: float) -> bool:
    """
    Whether the share of failures is worse by more than `worse_by`, and more than chance explains.

    Args:
        counts: At least one request.
        than: What to compare with; no request counts as no failure, with certainty.
    """
    error = math.sqrt(_variance(counts) + _variance(than))
    return counts.share - than.share - _STANDARD_ERRORS * error > worse_by


def _variance(counts: Counts) -> float:
    return counts.share * (1 - counts.share) / counts.requests if counts.requests else 0.0
