"""Connections that are turned away: many of them are told together."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.telemetry.refusals import TOLD_PER_SECOND, Refusals


def refused(second: int, reason: Reason = errors.OVERLOADED) -> Exchange:
    """A connection that was turned away in this second of a clock."""
    exchange = Exchange(Direction.INBOUND, 0, None, ("10.0.0.1", 1))
    exchange.end_ns = second * 1_000_000_000 + 5
    exchange.reason, exchange.detail = reason, "limits.max_connections"
    return exchange


def test_a_few_are_told_each_and_the_rest_together(caplog: pytest.LogCaptureFixture) -> None:
    """One line, a second after the first that was left out, says how many there were; the last are told, too."""
    caplog.set_level(logging.WARNING)
    due: list[Callable[[], None]] = []
    refusals = Refusals(lambda _, tell: due.append(tell))
    for second, times in ((1, 100), (2, 50), (3, 10), (4, 11)):
        left_out = sum(refusals.leaves_out(refused(second)) for _ in range(times))
        assert left_out == times - TOLD_PER_SECOND
        if left_out:
            due.pop()()
    assert not due
    assert refusals.left_out == 90 + 40 + 1
    assert [record.getMessage() for record in caplog.records] == [
        "connections_refused untold=90 reason=limits.max_connections",
        "connections_refused untold=40 reason=limits.max_connections",
        "connections_refused untold=1 reason=limits.max_connections",
    ]


def test_what_is_untold_at_the_end_is_told_then(caplog: pytest.LogCaptureFixture) -> None:
    """A process that ends does not wait for the second; what was told is not told again."""
    refusals = Refusals(lambda _, tell: None)
    for _ in range(TOLD_PER_SECOND + 7):
        refusals.leaves_out(refused(1))
    refusals.tell()
    refusals.tell()
    assert [record.getMessage() for record in caplog.records] == [
        "connections_refused untold=7 reason=limits.max_connections"
    ]


def test_what_a_client_did_wrong_is_told_as_any_request_is() -> None:
    """A line for each: it may be an attack, or a client to be mended."""
    refusals = Refusals()
    assert not any(refusals.leaves_out(refused(1, errors.BAD_REQUEST)) for _ in range(100))
