"""How much of a certificate's life is left, and when that is told. *Pure, cold.*"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.security.identity.certificates.facts import Facts
from sidecar.security.identity.certificates.trouble import TroubleError, moment, span

Life = Literal["not_yet", "fine", "due", "last_quarter", "expired"]
"""
`due`: it should have been renewed by now, and nobody has. `last_quarter`: and now it is serious.
"""

DAY_S: Final = 86400.0
TELL_AGAIN_S: Final = DAY_S

CLOCKS_APART_S: Final = 600.0
"""A certificate that begins within this is taken for one of an authority whose clock is ahead of ours, or ours behind,
as after a virtual machine's sleep: twice what Kerberos lets clocks differ by."""

LEAF_NOTICE_S: Final = 30 * DAY_S
"""The last quarter of a leaf begins no earlier before its end: one for a year is renewed by hand, and not in summer."""
AUTHORITY_NOTICE_S: Final = 180 * DAY_S
"""And that of an issuer or a root, whose replacement is three pushes and somebody's plan."""

_ON_TIME: Final = 2 / 3
"""Of its life, after which a leaf is renewed where nobody says when: cert-manager's default, Let's Encrypt's advice."""


def life_of(
    not_before_s: float,
    not_after_s: float,
    now_s: float,
    renew_after_s: float | None = None,
    notice_s: float = LEAF_NOTICE_S,
) -> Life:
    """
    Args:
        not_before_s, not_after_s, now_s: Since the Unix epoch.
        renew_after_s: From when on it is renewed, if that is known: it is due half of the time from then to its last
            quarter later. Else after two thirds of its life, or 4/3 of `notice_s` before its end if that is later.
        notice_s: The last quarter of its life is no longer than this.
    """
    if now_s >= not_after_s:
        return "expired"
    if now_s < not_before_s:
        return "not_yet"
    life_s = not_after_s - not_before_s
    last_s = not_after_s - min(life_s / 4, notice_s)
    if now_s >= last_s:
        return "last_quarter"
    if renew_after_s is None:
        due_s = not_after_s - min(life_s * (1 - _ON_TIME), notice_s * 4 / 3)
    else:
        # Whoever renews does so at some time in the days that follow, and may have to try more than once.
        due_s = renew_after_s + max(0.0, last_s - renew_after_s) / 2
    return "due" if now_s >= due_s else "fine"


@dataclass(frozen=True, slots=True)
class Told:
    """
    What was told last of a certificate or a trouble.

    Attributes:
        state: Of it; a `Life`, or a sentence.
        at_s: When, since the Unix epoch.
    """

    state: str = "fine"
    at_s: float = 0.0


def is_to_tell(told: Told, state: str, now_s: float) -> bool:
    """Whether it is time for a line: at each change, and once a day while all is not well."""
    if state != told.state:
        return True
    # A clock that was set back is no reason to be silent for as long.
    return state != "fine" and not 0 <= now_s - told.at_s < TELL_AGAIN_S


def judge_times(certificates: Iterable[Facts], at: str, now_s: float) -> None:
    """
    Whether it is the time of a leaf and of all above it.

    Args:
        certificates: The leaf first.
        at: Where the leaf is from.

    Raises:
        TroubleError: `expired` or `not_yet_valid`, of the first whose time it is not.
    """
    for place, one in enumerate(certificates):
        which = f"the certificate of {one.name}, signed by {one.issuer or 'nobody'},"
        if place:
            which = (
                f"{one.name}, who signed what is above the leaf," if place > 1 else f"{one.name}, who signed the leaf,"
            )
        clock = f"by our clock, which says {moment(now_s)}"
        if now_s >= one.not_after_s:
            raise TroubleError(
                "expired",
                f"{at}: {which} ended at {moment(one.not_after_s)}, {span(now_s - one.not_after_s)} ago {clock}; "
                "renew it, or set the clock",
            )
        if now_s < one.not_before_s:
            wait_s = one.not_before_s - now_s
            advice = "it is taken when it begins"
            if wait_s <= CLOCKS_APART_S:
                advice = (
                    "the clock here and that of the authority differ: have both follow the same time (NTP); " + advice
                )
            raise TroubleError(
                "not_yet_valid",
                f"{at}: {which} begins at {moment(one.not_before_s)}, {span(wait_s)} from now {clock}; {advice}",
                until_s=one.not_before_s,
            )
