"""Durations, sizes, percentages, weights and numbers."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from sidecar.config.values.base import Reads
from sidecar.config.values.units import (
    choice,
    integer,
    parse_boolean,
    parse_duration,
    parse_percent,
    parse_positive_duration,
    parse_positive_weight,
    parse_ratio,
    parse_weight,
    size,
)
from sidecar.config.yaml.scalars import resolve_plain


def hint_of(parse: object, written: str) -> str:
    """The hint with which a plain scalar is refused."""
    with pytest.raises(PydanticCustomError) as caught:
        parse(resolve_plain(written))  # type: ignore[operator]
    assert caught.value.context is not None
    return str(caught.value.context["hint"])


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("168h", 604800.0), ("0", 0.0),
     ("0s", 0.0)],
)  # fmt: skip
def test_durations_are_seconds(written: str, seconds: float) -> None:
    """A number and one of four units; a bare zero is zero."""
    assert parse_duration(resolve_plain(written)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("30", "did you mean `30s`?"), ("1.5", "did you mean `1.5s`?"), ("5 s", "did you mean `5s`?"),
        ("5min", "did you mean `5m`?"), ("10sec", "did you mean `10s`?"), ("2H", "did you mean `2h`?"),
        ("-1s", ""), ("1d", ""), ("1h30m", ""), ("s", ""), ("true", ""), ("٣s", ""), ("1e3s", ""),
        (".5s", ""),
    ],
)  # fmt: skip
def test_other_durations_are_refused_with_the_likely_spelling(written: str, hint: str) -> None:
    """A unit is never guessed, but it is suggested."""
    assert hint_of(parse_duration, written) == hint


@pytest.mark.parametrize("written", ["0", "0s", "0.5ms", "169h", "99999999999999h"])
def test_positive_durations_have_bounds(written: str) -> None:
    """At least a millisecond and at most a week."""
    with pytest.raises(PydanticCustomError):
        parse_positive_duration(resolve_plain(written))


@pytest.mark.parametrize(
    ("written", "expected"),
    [("1024", 1024), ("64KiB", 65536), ("10KB", 10000), ("1MiB", 1048576), ("1MB", 1000000), ("2000B", 2000)],
)
def test_sizes_are_bytes(written: str, expected: int) -> None:
    """Powers of two and of ten are spelled differently."""
    assert size(1024, 2**20).parse(resolve_plain(written)) == expected


@pytest.mark.parametrize(
    ("written", "hint"),
    [("64k", "did you mean `64KiB`?"), ("64 kb", "did you mean `64KiB`?"), ("1m", "did you mean `1MiB`?"),
     ("1.5MiB", ""), ("-1", ""), ("1", ""), ("1GiB", ""), ("true", "")],
)  # fmt: skip
def test_other_sizes_are_refused(written: str, hint: str) -> None:
    """Unknown units, fractions and what is out of bounds."""
    assert hint_of(size(1024, 2**20).parse, written) == hint


def test_percentages_and_ratios() -> None:
    """A percentage is 0 to 100, a ratio 0 to 1, and both may be written with a percent sign."""
    assert [parse_percent(resolve_plain(word)) for word in ("5%", "0.5%", "100", "0")] == [5.0, 0.5, 100.0, 0.0]
    assert [parse_ratio(resolve_plain(word)) for word in ("1.0", "0.25", "10%")] == [1.0, 0.25, 0.1]


@pytest.mark.parametrize("word", ["101%", "-1", "5 %", "x", "true", ".nan", ".inf", '"5"'])
def test_other_percentages_and_ratios_are_refused(word: str) -> None:
    """Out of bounds, not finite, or no number."""
    for parse in (parse_percent, parse_ratio):
        with pytest.raises(PydanticCustomError):
            parse(resolve_plain(word))


def test_ratio_over_one_suggests_a_percentage() -> None:
    """`sample: 10` most likely means ten percent."""
    assert hint_of(parse_ratio, "10") == "did you mean `10%`?"


def test_weights() -> None:
    """Numbers that are not negative, or percentages; positive ones also refuse zero."""
    assert [parse_weight(resolve_plain(word)) for word in ("95", "0", "0.5", "5%")] == [95.0, 0.0, 0.5, 5.0]
    for word in ("-1", ".inf", "x", "true", "1e10"):
        with pytest.raises(PydanticCustomError):
            parse_weight(resolve_plain(word))
    with pytest.raises(PydanticCustomError):
        parse_positive_weight(resolve_plain("0"))


def test_only_true_and_false_are_booleans() -> None:
    """`yes` is a word, and the hint says which boolean it may have meant."""
    assert parse_boolean(resolve_plain("true")) is True
    assert parse_boolean(resolve_plain("FALSE")) is False
    assert hint_of(parse_boolean, "yes") == "did you mean `true`?"
    assert hint_of(parse_boolean, "off") == "did you mean `false`?"
    assert hint_of(parse_boolean, "1") == ""


def test_integers_are_not_strings_fractions_or_booleans() -> None:
    """No silent conversion."""
    reads: Reads = integer(1, 10)
    assert reads.parse(resolve_plain("10")) == 10
    for value in ("10", resolve_plain("1.5"), resolve_plain("true"), resolve_plain("11"), resolve_plain("0"), None, []):
        with pytest.raises(PydanticCustomError):
            reads.parse(value)


def test_choices_suggest_the_nearest_word() -> None:
    """A typo gets the word that is meant."""
    assert choice("deny", "passthrough").parse("deny") == "deny"
    assert hint_of(choice("deny", "passthrough").parse, "passtrough") == "did you mean `passthrough`?"
