"""`--fail-if`: what a condition says, and that one which is none is told with its place."""

from __future__ import annotations

from typing import Any

import click
import pytest

from sidecar.cli.insight.fail_if import limits

REPORT = {
    "requests": 200, "moved": 3, "moved_share": 0.0149, "unknown": 2, "refused": 1, "not_found": 1, "warnings": ["w"],
}  # fmt: skip


def of(text: str) -> Any:
    (limit,) = limits(None, None, (text,))  # type: ignore[arg-type]
    return limit


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("moved > 1%", True),
        ("moved > 1.5%", False),
        ("moved>=3", True),
        ("  moved  ==  3 ", True),
        ("unknown > 0", True),
        ("unknown > 1%", False),
        ("unknown >= 1 %", None),
        ("refused != 1", False),
        ("404 > 0", True),
        ("404 < 1", False),
        ("warnings <= 1", True),
    ],
)
def test_a_condition_compares_a_number_or_a_share(text: str, is_met: bool | None) -> None:
    """A percentage is one of the requests that were asked about."""
    if is_met is None:
        with pytest.raises(click.BadParameter):
            of(text)
        return
    assert of(text).is_met(REPORT) is is_met


def test_nothing_seen_moves_nothing() -> None:
    """No request is no share."""
    assert not of("unknown > 0%").is_met({**REPORT, "requests": 0, "unknown": 0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "``, column 1: expected one of moved, unknown, refused, 404, warnings, found the end"),
        ("moves > 1", "`moves > 1`, column 1: expected one of moved, unknown, refused, 404, warnings, found `moves`"),
        ("moved", "`moved`, column 6: expected one of > >= < <= == !=, found the end"),
        ("moved = 1", "`moved = 1`, column 7: expected one of > >= < <= == !=, found `=`"),
        ("moved > x", "`moved > x`, column 9: expected a number or a percentage such as `1%`, found `x`"),
        ("moved > -1", "`moved > -1`, column 9: expected a number or a percentage such as `1%`, found `-1`"),
        ("moved > 1% or 404 > 0", "`moved > 1% or 404 > 0`, column 12: expected the end; give --fail-if again for"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place(text: str, message: str) -> None:
    """What was expected there, and what was found."""
    with pytest.raises(click.BadParameter) as error:
        of(text)
    assert message in error.value.message
