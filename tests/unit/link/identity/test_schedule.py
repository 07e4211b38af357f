"""When a certificate is asked for."""

from __future__ import annotations

import pytest

from sidecar.link.identity.schedule import (
    LEAST_RETRY_S,
    MAX_RETRY_S,
    RETRY_S,
    SOON_S,
    first_renewal,
    next_try,
)

DAY = 86_400.0
ALMOST_ONE = 0.999999


def test_the_first_renewal_is_when_the_authority_says_but_for_jitter() -> None:
    """A tenth to either side."""
    times = [first_renewal(0, DAY, 7 * DAY, 0, chance) for chance in (0.0, 0.5, ALMOST_ONE)]
    assert times == pytest.approx([0.9 * DAY, DAY, 1.1 * DAY], abs=1)


@pytest.mark.parametrize("renew_after_s", [-5.0, 0.0, 7 * DAY, 9 * DAY])
def test_a_time_outside_of_its_life_is_none(renew_after_s: float) -> None:
    """Of an authority whose clock is another: a seventh of its life, by ours."""
    assert first_renewal(0, renew_after_s, 7 * DAY, 0, 0.5) == DAY


def test_a_renewal_that_is_overdue_is_soon() -> None:
    """And not that of all at once."""
    now_s = 3 * DAY
    times = [first_renewal(0, DAY, 7 * DAY, now_s, chance) - now_s for chance in (0.0, 0.5, ALMOST_ONE)]
    assert times == pytest.approx([0, SOON_S / 2, SOON_S], abs=0.01)


def test_what_has_ended_is_renewed_at_once() -> None:
    """Nothing else is held, as at a first start."""
    assert first_renewal(0, DAY, 7 * DAY, 7 * DAY, 0.5) == 7 * DAY
    assert first_renewal(0, DAY, 7 * DAY, 9 * DAY, ALMOST_ONE) == 9 * DAY


def test_tries_wait_longer_each_time_but_for_a_part_of_what_is_left() -> None:
    """An hour at most, a minute in the end."""
    far = [next_try(0, 6 * DAY, failures, ALMOST_ONE) for failures in (1, 2, 3, 50, 10_000)]
    assert far == pytest.approx([RETRY_S, 2 * RETRY_S, 4 * RETRY_S, MAX_RETRY_S, MAX_RETRY_S], rel=0.001)
    near = [next_try(0, left_s, 50, ALMOST_ONE) for left_s in (DAY, DAY / 4, 600.0, 0.0, -DAY)]
    assert near == pytest.approx([3600, 900, LEAST_RETRY_S, LEAST_RETRY_S, LEAST_RETRY_S], rel=0.001)
    assert next_try(5, 6 * DAY, 1, 0.0) == 5 + RETRY_S / 2
    assert next_try(0, 20.0, 50, ALMOST_ONE) == 20.0, "at its end there is another way, and no other certificate"
