"""Variables in values."""

from __future__ import annotations

import pytest

from sidecar.config.yaml import environment
from sidecar.config.yaml.environment import Environment, SubstitutionError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "a"),
        ("x${A}y${B:-b}z", "xaybz"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${NONE:-}", ""),
        ("${NONE:-a:b-c $x}", "a:b-c $x"),
        ("$${A}", "${A}"),
        ("$A $$ $ {A} ^/v[0-9]+$", "$A $$ $ {A} ^/v[0-9]+$"),
        ("${DOLLAR}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    """A value is put in as it is: neither looked at again nor read as YAML."""
    assert Environment({"A": "a", "EMPTY": "", "DOLLAR": "${A}"}).substitute(text) == expected


@pytest.mark.parametrize("text", ["${NONE}", "${", "${}", "${1A}", "${A-b}", "${A", "${SURROGATE}"])
def test_what_cannot_be_replaced_is_refused(text: str) -> None:
    """An unset variable without a default, a malformed reference, and a value that is not UTF-8."""
    with pytest.raises(SubstitutionError):
        Environment({"A": "a", "SURROGATE": "\udcff"}).substitute(text)


@pytest.mark.parametrize("name", ["A", "NONE", "EMPTY"])
@pytest.mark.parametrize("default", ["${B:-zz}", "x${B}", "${", "$${B}", "${NONE:-${B:-zz}}"])
def test_a_default_that_holds_a_reference_is_refused(name: str, default: str) -> None:
    """Whether it is needed or not: a default ends at the first brace, so half of it would stay in the value."""
    env = Environment({"A": "val", "EMPTY": "", "B": "b"})
    with pytest.raises(SubstitutionError, match=f"in the default of `{name}`"):
        env.substitute(f"x${{{name}:-{default}}}")


def test_substituted_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many references to a large variable cannot make a small file fill the memory."""
    monkeypatch.setattr(environment, "MAX_SUBSTITUTED_CHARS", 10)
    env = Environment({"A": "aaaaa"})
    assert env.substitute("${A}${A}") == "a" * 10
    with pytest.raises(SubstitutionError, match="larger"):
        env.substitute("${A}")
