"""Whatever comes as a token or as a set of keys: it is told what it is, and nothing is raised."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.tokens.library import KeySet, read_keys
from sidecar.security.tokens.remembered import OUTCOMES, Tokens
from sidecar.security.tokens.rules import KeySource, make_token_rule
from tests.support.thoroughness import examples
from tests.support.tokens import ISSUER, NOW_S, claims, jwk, jwks, segment, signed
from tests.unit.security.authorization.support import head

KEYS = KeySource(file="k")
RULES = [make_token_rule(ISSUER, ["shop"], {"a.b": ["x", 1]}, KEYS), make_token_rule(ISSUER, [], {}, KEYS)]
HELD = read_keys(jwks(jwk("p256", "1"), jwk("ed25519")), "k")

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["1", ISSUER])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
algorithms = st.sampled_from(["ES256", "EdDSA", "RS256", "none", "HS256", "", 7, None])
headers = st.fixed_dictionaries(
    {"alg": algorithms}, optional={"kid": values, "crit": values, "b64": values, "typ": values, "jku": values}
)
payloads = st.one_of(
    values,
    st.fixed_dictionaries(
        {"iss": st.just(ISSUER)}, optional=dict.fromkeys(("aud", "exp", "nbf", "iat", "a", "a.b", "scope"), values)
    ),
)
parts = st.one_of(st.binary(max_size=80).map(segment), st.text("AB-_=.", max_size=9).map(str.encode))
tokens = st.one_of(
    st.binary(max_size=200).map(lambda octets: bytes(one for one in octets if 32 < one < 127)),
    st.builds(lambda one, two, three: b".".join((segment(one), segment(two), three)), headers, payloads, parts),
)


class Ring:
    def key_set(self, source: KeySource) -> KeySet:
        return HELD

    def miss(self, source: KeySource) -> None:
        pass


def told(content: bytes) -> str:
    """What is said of a set of keys that cannot be used."""
    try:
        return f"k: {read_keys(content, 'k')}"
    except TroubleError as error:
        return str(error)


def outcome(token: bytes) -> str:
    counts: dict[str, int] = {}
    judge = Tokens(RULES, Ring(), counts, lambda: float(NOW_S))
    for _ in range(2):
        found = judge.of(head("/", "GET", f"authorization: Bearer {token.decode('latin-1') or 'x'}"))
        assert found is not None
    assert counts == {found.outcome: 2}
    assert bool(found.words) is (found.outcome == "accepted")
    return found.outcome


@settings(max_examples=examples(400), deadline=None)
@given(tokens)
def test_no_token_that_nobody_has_signed_is_accepted_and_none_raises(token: bytes) -> None:
    """Each has one of the outcomes."""
    assert outcome(token) in set(OUTCOMES) - {"accepted"}


@settings(max_examples=examples(150), deadline=None)
@given(payloads)
def test_what_is_signed_may_claim_anything(said: Any) -> None:
    """And is accepted only if it says who made it and that it is not over."""
    if not isinstance(said, dict):
        return
    token = signed("p256", "ES256", **{**claims(), **said})
    counts: dict[str, int] = {}
    found = Tokens(RULES, Ring(), counts, lambda: float(NOW_S)).of(
        head("/", "GET", f"authorization: Bearer {token.decode()}")
    )
    assert found is not None
    if found.outcome == "accepted":
        assert said.get("iss", ISSUER) == ISSUER
        assert RULES[1].word in found.words


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.binary(max_size=60), values.map(lambda one: json.dumps({"keys": one}).encode())))
def test_a_set_of_keys_is_one_or_is_told_to_be_none(content: bytes) -> None:
    """By the one error that there is for it."""
    assert told(content).startswith("k: ")


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from([jwk("p256", "1"), jwk("ed25519"), jwk("rsa")]),
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "d"]), values),
)
def test_a_key_may_have_anything_in_it(key: dict[str, Any], other: dict[str, Any]) -> None:
    """The same."""
    assert told(jwks({**key, **other})).startswith("k: ")
