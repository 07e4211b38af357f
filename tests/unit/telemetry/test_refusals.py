"""Connections that are turned away: many of them are told together."""

from __future__ import annotations

import logging

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
    """One line a second says how many there were since the one before."""
    caplog.set_level(logging.WARNING)
    refusals = Refusals()
    for second, times in ((1, 100), (2, 50), (3, 11)):
        left_out = sum(refusals.leaves_out(refused(second)) for _ in range(times))
        assert left_out == times - TOLD_PER_SECOND
    assert refusals.left_out == 90 + 40 + 1
    assert [record.getMessage() for record in caplog.records] == [
        "connections_refused untold=1 reason=limits.max_connections",
        "connections_refused untold=90 reason=limits.max_connections",
        "connections_refused untold=40 reason=limits.max_connections",
    ]


def test_what_a_client_did_wrong_is_told_as_any_request_is() -> None:
    """A line for each: it may be an attack, or a client to be mended."""
    refusals = Refusals()
    assert not any(refusals.leaves_out(refused(1, errors.BAD_REQUEST)) for _ in range(100))
