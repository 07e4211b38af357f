"""`Date` (RFC 9110, 6.6.1 and 5.6.7)."""

from __future__ import annotations

import email.utils
from random import Random

from sidecar.http1.date import DateField, http_date

SECOND = 1_000_000_000


def test_it_is_an_imf_fixdate() -> None:
    """RFC 9110, 5.6.7: its own example."""
    assert http_date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_it_is_the_date_that_others_write() -> None:
    """Over two centuries, leap days and ends of years included."""
    chance = Random(1)
    some = [chance.randrange(0, 2**33) for _ in range(500)]
    for seconds in [0, 951782399, 951782400, 951868800, 4107542399, 4107542400, *some]:
        assert http_date(seconds).decode() == email.utils.formatdate(seconds, usegmt=True)


def test_it_changes_with_the_second_and_is_made_once_for_it() -> None:
    """Forwards and, when a clock is set back, backwards."""
    date = DateField()
    first = date.at(5 * SECOND)
    assert first.wire == b"date: Thu, 01 Jan 1970 00:00:05 GMT"
    assert date.at(6 * SECOND - 1) is first
    assert date.at(6 * SECOND).value == b"Thu, 01 Jan 1970 00:00:06 GMT"
    assert date.at(4 * SECOND).value == b"Thu, 01 Jan 1970 00:00:04 GMT"
    assert DateField().at(0).value == b"Thu, 01 Jan 1970 00:00:00 GMT"
