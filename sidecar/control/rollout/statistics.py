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
from collections.abc import Iterable

from sidecar.control.rollout.record import Counts
from sidecar.control.rollout.view import Instance

_STANDARD_ERRORS = 2.0


def minimum(worse_by: float) -> int:
    """How many requests are enough: so many that one failure among them is not yet worse by itself."""
    return math.ceil(1 / worse_by - 1e-9)


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
