"""What a rule asks of a token: issuer, audience, claims, and the times that it says itself."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.security.tokens.rules import KeySource, make_token_rule, supposed, window_of
from tests.support.tokens import ISSUER, NOW_S, claims

KEYS = KeySource(file="k.json")


@pytest.mark.parametrize(
    ("wanted", "said", "is_met"),
    [
        ([], None, True),
        (["shop"], "shop", True),
        (["shop"], ["other", "shop"], True),
        (["shop", "api"], "api", True),
        (["shop"], "shops", False),
        (["shop"], ["other"], False),
        (["shop"], [], False),
        (["shop"], None, False),
        (["shop"], {"shop": 1}, False),
        (["shop"], [["shop"]], False),
        (["1"], 1, False),
    ],
)
def test_any_audience_is_enough(wanted: list[str], said: Any, is_met: bool) -> None:
    """A text or a list (RFC 7519, 4.1.3); none is asked where the rule names none."""
    assert make_token_rule(ISSUER, wanted, {}, KEYS).admits(claims(aud=said)) is is_met


def test_the_issuer_is_exactly_that() -> None:
    """No slash more, no case less."""
    rule = make_token_rule(ISSUER, [], {}, KEYS)
    assert [rule.admits({"iss": one}) for one in (ISSUER, f"{ISSUER}/", ISSUER.upper(), [ISSUER], None)] == [
        True, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "said", "is_met"),
    [
        ({"role": ["admin"]}, {"role": "admin"}, True),
        ({"role": ["admin", "ops"]}, {"role": "ops"}, True),
        ({"role": ["admin"]}, {"role": ["x", "admin"]}, True),
        ({"role": ["admin"]}, {"role": "administrator"}, False),
        ({"role": ["admin"]}, {}, False),
        ({"role": ["admin"]}, {"role": None}, False),
        ({"role": ["admin"], "team": ["a"]}, {"role": "admin"}, False),
        ({"role": ["admin"], "team": ["a"]}, {"role": "admin", "team": "a"}, True),
        ({"realm_access.roles": ["admin"]}, {"realm_access": {"roles": ["admin"]}}, True),
        ({"a.b.c": ["x"]}, {"a": {"b": {"c": "x"}}}, True),
        ({"a.b.c": ["x"]}, {"a": {"b": "x"}}, False),
        ({"a.b": ["x"]}, {"a": [{"b": "x"}]}, False),
        # Auth0's claims have addresses for names: a name that is there is taken as it is.
        ({"https://example.com/roles": ["admin"]}, {"https://example.com/roles": ["admin"]}, True),
        ({"a.b": ["x"]}, {"a.b": "y", "a": {"b": "x"}}, False),
        ({"scope": ["read"]}, {"scope": "write read"}, True),
        ({"scp": ["read"]}, {"scp": ["write", "read"]}, True),
        ({"scope": ["rea"]}, {"scope": "write read"}, False),
        ({"name": ["read"]}, {"name": "write read"}, False),
        ({"admin": [True]}, {"admin": True}, True),
        ({"admin": [True]}, {"admin": 1}, False),
        ({"admin": [True]}, {"admin": "true"}, False),
        ({"level": [3]}, {"level": 3}, True),
        ({"level": [3]}, {"level": 3.0}, True),
        ({"level": [3]}, {"level": "3"}, False),
        ({"level": [1]}, {"level": True}, False),
        ({".".join("a" * 20): ["x"]}, {"a": "x"}, False),
    ],
)
def test_claims(asked: dict[str, Any], said: dict[str, Any], is_met: bool) -> None:
    """All names, any of a name's values; lists have them, and names lead into claims."""
    assert make_token_rule(ISSUER, [], asked, KEYS).admits(claims(**said)) is is_met


def test_the_same_question_has_one_word_and_others_have_others() -> None:
    """However it is written."""
    one = make_token_rule(ISSUER, ["a", "b"], {"x": [1], "y": [2]}, KEYS)
    assert one == make_token_rule(ISSUER, ["b", "a"], {"y": [2], "x": [1]}, KEYS)
    others = {
        make_token_rule(ISSUER, ["a"], {}, KEYS).word,
        make_token_rule(ISSUER, [], {"a": [1]}, KEYS).word,
        make_token_rule(ISSUER, [], {"a": [True]}, KEYS).word,
        make_token_rule(ISSUER, [], {"a": ["1"]}, KEYS).word,
        make_token_rule(ISSUER, ["a"], {}, KeySource(file="other.json")).word,
        make_token_rule(ISSUER, ["a"], {}, KEYS, leeway_s=5.0).word,
        make_token_rule(f"{ISSUER}/", ["a"], {}, KEYS).word,
        one.word,
    }
    assert len(others) == 8


def test_a_rule_reads_without_the_values_of_claims() -> None:
    """They may be somebody's."""
    text = make_token_rule(ISSUER, ["b", "a"], {"email": ["someone@example.com"]}, KEYS).text
    assert text == f"a token of {ISSUER} for a or b with email"


@pytest.mark.parametrize("exp", [None, True, "1800000000", [], float("nan"), float("inf"), 10**400, -(10**20)])
def test_a_token_says_when_it_ends(exp: Any) -> None:
    """As a number of seconds."""
    assert window_of({"exp": exp}) is None
    assert window_of({"exp": NOW_S, "nbf": exp}) is None or exp is None


def test_it_begins_when_all_say_so() -> None:
    """`nbf` and `iat` may be missing."""
    found = window_of({"exp": NOW_S + 0.5, "nbf": NOW_S - 5, "iat": NOW_S - 9})
    assert found is not None
    assert (found.begins_s, found.ends_s) == (NOW_S - 5, NOW_S + 0.5)
    assert window_of({"exp": NOW_S}).begins_s == 0.0  # type: ignore[union-attr]


def test_a_test_of_a_file_says_what_its_token_claims() -> None:
    """And it is taken as verified: what rules it is of, and nothing more."""
    rules = [make_token_rule(ISSUER, ["shop"], {}, KEYS), make_token_rule(ISSUER, ["other"], {}, KEYS)]
    token = supposed(rules, {"iss": ISSUER, "aud": "shop"})
    assert (token.outcome, token.issuer, token.words) == ("accepted", ISSUER, (rules[0].word,))
    assert supposed(rules, {"iss": 1}).words == ()
