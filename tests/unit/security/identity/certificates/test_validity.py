"""How much is left of a certificate's life, and when that is told."""

from __future__ import annotations

import pytest

from sidecar.security.identity.certificates.validity import (
    AUTHORITY_NOTICE_S,
    DAY_S,
    Life,
    Told,
    is_to_tell,
    life_of,
)


@pytest.mark.parametrize(
    ("day", "life"),
    [
        (-0.01, "not_yet"),
        (0, "fine"),
        (3.2, "due"),
        (5.2, "due"),
        (5.25, "last_quarter"),
        (7, "expired"),
        (9, "expired"),
    ],
)
def test_a_leaf_of_a_week_that_is_renewed_from_its_first_day_on(day: float, life: Life) -> None:
    """Due when half of the time for it is over, serious in the last quarter."""
    assert life_of(0, 7 * DAY_S, day * DAY_S, renew_after_s=DAY_S) == life


def test_renewal_is_not_due_as_soon_as_it_may_be() -> None:
    """It comes with jitter, and may be tried more than once."""
    assert life_of(0, 7 * DAY_S, 3 * DAY_S, renew_after_s=DAY_S) == "fine"


@pytest.mark.parametrize(
    ("days", "day", "life"),
    [
        (3, 1.99, "fine"), (3, 2, "due"), (3, 2.25, "last_quarter"), (3, 3, "expired"),
        (90, 59, "fine"), (90, 60, "due"), (90, 68, "last_quarter"),
        (365, 324, "fine"), (365, 325, "due"), (365, 335, "last_quarter"), (365, 365, "expired"),
    ],
)  # fmt: skip
def test_without_a_word_about_renewal_two_thirds_are_on_time(days: int, day: float, life: Life) -> None:
    """As cert-manager does it; of a year that is no earlier than forty days before the end."""
    assert life_of(0, days * DAY_S, day * DAY_S) == life


@pytest.mark.parametrize(("years_left", "life"), [(2, "fine"), (0.6, "due"), (0.49, "last_quarter"), (0, "expired")])
def test_of_a_root_half_a_year_before_its_end(years_left: float, life: Life) -> None:
    """Not for the last quarter of ten years, and not only weeks before."""
    now_s = (10 - years_left) * 365 * DAY_S
    assert life_of(0, 3650 * DAY_S, now_s, notice_s=AUTHORITY_NOTICE_S) == life


def test_renewal_that_is_said_for_the_last_quarter_is_never_due() -> None:
    """It is in its last quarter by then."""
    assert life_of(0, 100, 74, renew_after_s=90) == "fine"
    assert life_of(0, 100, 75, renew_after_s=90) == "last_quarter"


def test_a_change_is_told_at_once_and_what_is_not_well_once_a_day() -> None:
    """And what is fine only when it becomes so."""
    told = Told("due", 1000.0)
    assert is_to_tell(told, "last_quarter", 1001.0)
    assert is_to_tell(told, "fine", 1001.0)
    assert not is_to_tell(told, "due", 1000.0 + DAY_S - 1)
    assert is_to_tell(told, "due", 1000.0 + DAY_S)
    assert not is_to_tell(Told("fine", 0.0), "fine", 100 * DAY_S)


def test_a_clock_that_was_set_back_does_not_silence() -> None:
    """By a year, say: the next line would come in a year."""
    assert is_to_tell(Told("expired", 365 * DAY_S), "expired", 10.0)
