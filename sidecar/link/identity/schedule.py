"""
When a certificate is asked for next. *Pure.*

    none held        at once, and again and again: Rota says when (a start waits for it)
    held             from the time that the authority says (a seventh of its life), with jitter; then, as long as it
                     fails, after RETRY_S, twice that and so on, up to a part of what is left of its life, and at its
                     end
    expired          as if none were held: nothing else holds, and nobody is spared by waiting

So a fleet that was started together spreads out, a control plane that was away for an hour is not asked by all at
once, and near the end it is asked often. All times are seconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Final

JITTER: Final = 0.1
"""Of the time until the first renewal, to either side."""
SOON_S: Final = 60.0
"""A renewal that was due while no process ran is spread over so long, if what is held still holds."""
RETRY_S: Final = 30.0
MAX_RETRY_S: Final = 3600.0
LEAST_RETRY_S: Final = 60.0
PART_OF_REST: Final = 24
"""A wait is at most such a part of what is left."""


def first_renewal(obtained_s: float, renew_after_s: float, not_after_s: float, now_s: float, chance: float) -> float:
    """
    When a certificate is to be renewed first.

    Args:
        obtained_s: When it came, by our clock.
        renew_after_s: As the authority has it.
        chance: From 0 to below 1.
    """
    if now_s >= not_after_s:
        return now_s
    # The authority's clock may be another: a time that is not within the life is none.
    if not obtained_s < renew_after_s < not_after_s:
        renew_after_s = obtained_s + (not_after_s - obtained_s) / 7
    at_s = obtained_s + (renew_after_s - obtained_s) * (1 - JITTER + 2 * JITTER * chance)
    return at_s if at_s > now_s else now_s + SOON_S * chance


def next_try(now_s: float, not_after_s: float, failures: int, chance: float) -> float:
    """
    When a renewal is tried again that has failed so often in a row.

    Args:
        failures: 1 or more.
        chance: From 0 to below 1.
    """
    ceiling_s = min(max((not_after_s - now_s) / PART_OF_REST, LEAST_RETRY_S), MAX_RETRY_S)
    wait_s = min(ceiling_s, RETRY_S * 2.0 ** min(failures - 1, 16))
    at_s = now_s + wait_s * (0.5 + 0.5 * chance)
    return min(at_s, not_after_s) if now_s < not_after_s else at_s
