"""Plain words by YAML 1.2's core schema."""

from __future__ import annotations

import math

import pytest

from sidecar.config.yaml.scalars import Spelled, resolve_plain


@pytest.mark.parametrize("word", ["", "~", "null", "Null", "NULL"])
def test_null_words_are_none(word: str) -> None:
    """The five spellings of null, the empty one included."""
    assert resolve_plain(word) is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("FALSE", False),
        ("0", 0), ("-12", -12), ("+7", 7), ("0123", 123), ("0o17", 15), ("0xFf", 255),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-2.5E-1", -0.25),
    ],
)  # fmt: skip
def test_booleans_and_numbers_keep_their_spelling(word: str, value: float) -> None:
    """What is a boolean or a number has its value and is still the text that was written."""
    resolved = resolve_plain(word)
    assert isinstance(resolved, Spelled)
    assert (resolved.value, type(resolved.value), str(resolved)) == (value, type(value), word)


@pytest.mark.parametrize("word", [".inf", "-.INF", "+.Inf", ".nan"])
def test_infinities_and_nan_are_floats_that_are_not_finite(word: str) -> None:
    """They are numbers, and every setting refuses them as not finite."""
    resolved = resolve_plain(word)
    assert isinstance(resolved, Spelled)
    assert not math.isfinite(resolved.value)


@pytest.mark.parametrize(
    "word",
    [
        "yes", "no", "on", "off", "y", "N", "tRue", "12:30", "190:20:30", "2024-01-01", "1_000", "0b11", "017x", "0x",
        "0o8", "1e", ".", "-", "+", "..", "1.2.3", "inf", "nan", "٣", "1" * 33,
    ],
)  # fmt: skip
def test_words_of_yaml_1_1_are_strings(word: str) -> None:
    """What YAML 1.1 read as booleans, base 60, dates and digits with underscores are words."""
    assert resolve_plain(word) == word
    assert not isinstance(resolve_plain(word), Spelled)
