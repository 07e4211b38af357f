"""How a problem is shown."""

from __future__ import annotations

import pytest

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError, Problem, did_you_mean


def test_a_problem_is_one_line_of_place_path_message_and_hint() -> None:
    """Without a path or a hint their separators go, too."""
    assert str(Problem("f", 1, 2, "a.b", "wrong", "fix it")) == "f:1:2: a.b: wrong; fix it"
    assert str(Problem("f", 1, 2, "", "wrong")) == "f:1:2: wrong"


def test_what_was_found_breaks_neither_a_log_nor_a_terminal() -> None:
    """Line breaks and escape sequences in the file's keys and values are shown escaped."""
    text = b'service: s\noutbound: {"a\\e[31m\\nroot: x": 1, unmatched: "deny\\e[0m\\u2028"}'
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f", {})
    assert len(caught.value.problems) == 2
    assert all(str(problem).isprintable() for problem in caught.value.problems)


def test_long_values_are_shortened() -> None:
    """A key of a mebibyte does not fill the log."""
    with pytest.raises(ConfigError) as caught:
        load_text(b"service: s\noutbound: {? " + b"x" * 2**20 + b": 1}", "f", {})
    assert len(str(caught.value)) < 2000


def test_the_nearest_word_is_suggested_and_a_far_one_is_not() -> None:
    """A hint that is no help is none."""
    assert did_you_mean("wieght", ["upstream", "weight"]) == "did you mean `weight`?"
    assert did_you_mean("zzz", ["upstream", "weight"]) == ""
