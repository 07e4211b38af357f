"""Claims of an unattended demonstration, and what became of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

Say = Callable[[str], None]

SIGMAS = 5.0
"""A fair split falls outside of it less than once in a million runs."""


class Claims:
    """Says a line for each claim as it is settled, and remembers whether all held."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.failed = 0
        self.held = 0

    def settle(self, is_true: bool, text: str) -> None:
        """One claim, with the numbers that decide it."""
        if is_true:
            self.held += 1
        else:
            self.failed += 1
        self.say(f"{'ok    ' if is_true else 'FAILED'}  {text}")


def split_bound(requests: int, share: float) -> float:
    """How far a fair split may be from its expectation, in requests."""
    return SIGMAS * math.sqrt(requests * share * (1 - share)) + 1


def settle_split(claims: Claims, answers: Counter[str], weights: Mapping[str, int], name: str) -> None:
    """
    How a split fell.

    Args:
        answers: By version, of requests that only the weights decided.
        weights: By version: those of v1 and of beta.
    """
    requests, beta = answers.total(), answers["beta"]
    share = weights["beta"] / sum(weights.values())
    bound = split_bound(requests, share)
    found = beta / requests if requests else 0.0
    claims.settle(
        requests > 0 and abs(beta - requests * share) <= bound,
        f"{name}, {'/'.join(str(weight) for weight in weights.values())}: {requests - beta} to v1, {beta} to beta"
        f" ({found:.1%}; {SIGMAS:g} sigma allow {requests * share:.0f} +- {bound:.0f})",
    )
