"""What the token of a request comes to, by a clock that is held: verified once, then looked up, as long as it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.peer import Token
from sidecar.security.tokens import remembered
from sidecar.security.tokens.library import KeySet, read_keys
from sidecar.security.tokens.remembered import MAX_ACCEPTED, MAX_REFUSED, OUTCOMES, Tokens
from sidecar.security.tokens.rules import KeySource, TokenRule, make_token_rule
from tests.support.tokens import ISSUER, NOW_S, jwk, jwks, resigned, segment, signed
from tests.unit.security.authorization.support import head

FILE = KeySource(file="keys.json")
OTHER = KeySource(file="other.json")


class Keys:
    """A ring of keys, and who asked for one that it does not have."""

    def __init__(self) -> None:
        self.held: dict[KeySource, KeySet] = {FILE: read_keys(jwks(jwk("p256", "1")), "k")}
        self.missed: list[KeySource] = []

    def key_set(self, source: KeySource) -> KeySet | None:
        return self.held.get(source)

    def miss(self, source: KeySource) -> None:
        self.missed.append(source)


class Room:
    """Tokens of some rules, and a clock."""

    def __init__(self, *rules: TokenRule, bounds: tuple[int, int] = (MAX_ACCEPTED, MAX_REFUSED)) -> None:
        self.now_s = float(NOW_S)
        self.keys = Keys()
        self.counts: dict[str, int] = {}
        self.tokens = Tokens(rules, self.keys, self.counts, lambda: self.now_s, *bounds)

    def of(self, token: bytes) -> Token:
        found = self.tokens.of(head("/", "GET", f"authorization: Bearer {token.decode()}"))
        assert found is not None
        return found

    def outcome(self, token: bytes) -> str:
        return self.of(token).outcome


def rule(*audiences: str, keys: KeySource = FILE, leeway_s: float = 60.0, **asked: Any) -> TokenRule:
    return make_token_rule(ISSUER, audiences, {name: [value] for name, value in asked.items()}, keys, leeway_s)


def token(**some: Any) -> bytes:
    return signed("p256", "ES256", **some)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An item for each signature that is verified."""
    done: list[int] = []
    real = remembered.is_signed

    def is_signed(*arguments: Any) -> bool:
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(remembered, "is_signed", is_signed)
    return done


def test_a_good_token_is_of_the_rules_that_mean_it() -> None:
    """Each by itself."""
    shop, other, reader = rule("shop"), rule("other"), rule("shop", "api", scope="read")
    room = Room(shop, other, reader)
    found = room.of(token(scope="read write"))
    assert (found.outcome, found.issuer, found.why) == ("accepted", ISSUER, "")
    assert found.words == tuple(sorted((shop.word, reader.word)))
    assert room.of(token()).words == (shop.word,)
    assert repr(found) == f"<Token accepted of {ISSUER}>"


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (lambda: token(exp=NOW_S - 61), "expired"),
        (lambda: token(exp=NOW_S - 60), "expired"),
        (lambda: token(exp=NOW_S - 59), "accepted"),
        (lambda: token(nbf=NOW_S + 61), "not_yet_valid"),
        (lambda: token(nbf=NOW_S + 60), "accepted"),
        (lambda: token(iat=NOW_S + 61), "not_yet_valid"),
        (lambda: token(iat=None), "accepted"),
        (lambda: token(exp=None), "no_expiry"),
        (lambda: token(exp=10**30), "no_expiry"),
        (lambda: token(aud="other"), "unmatched"),
        (lambda: token(aud=None), "unmatched"),
        (lambda: token(iss="https://evil.example.com"), "issuer"),
        (lambda: token(iss=None), "issuer"),
        (lambda: token(kid="2"), "unknown_key"),
        (lambda: signed("rsa", "RS256"), "unknown_key"),
        (lambda: signed("p256-2", "ES256"), "signature"),
        (lambda: resigned(token(), {"alg": "none", "kid": "1"}), "algorithm"),
        (lambda: resigned(token(), {"alg": "HS256", "kid": "1"}), "algorithm"),
        (lambda: resigned(token(), {"alg": "ES256"}), "signature"),
        (lambda: token()[:-8] + b"AAAAAAAA", "signature"),
        (lambda: b"x.y.z", "malformed"),
        (lambda: b"x" * 8192, "malformed"),
        (lambda: b"x" * 8193, "too_long"),
    ],
)
def test_what_a_token_comes_to(made: Callable[[], bytes], outcome: str) -> None:
    """The same the second time, and counted both times; a token that proves nothing is of no rule."""
    room = Room(rule("shop"))
    one = made()
    found = room.of(one)
    assert found.outcome == outcome
    assert room.outcome(one) == outcome
    assert room.counts == {outcome: 2}
    if outcome != "accepted":
        assert found.words == ()
        assert found.why == OUTCOMES[outcome] != ""
    # Who made it is said only of what was signed by a key of theirs.
    genuine = ("accepted", "expired", "not_yet_valid", "no_expiry", "unmatched")
    assert found.issuer == (ISSUER if outcome in genuine else "")


def test_what_takes_long_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 KiB are enough."""
    monkeypatch.setattr(remembered, "read_token", pytest.fail)
    assert Room(rule()).outcome(b"x" * 60_000) == "too_long"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([], None),
        (["authorization: Basic eDp5"], None),
        (["authorization: Bearer"], None),
        (["proxy-authorization: Bearer GOOD"], None),
        (["cookie: token=GOOD"], None),
        (["authorization: bearer GOOD"], "accepted"),
        (["Authorization: BEARER   GOOD"], "accepted"),
        (["authorization: Bearer GOOD, Bearer GOOD"], "malformed"),
        (["authorization: Bearer GOOD GOOD"], "malformed"),
        (["authorization: Bearer GOOD", "authorization: Bearer GOOD"], "several"),
        (["authorization: Basic eDp5", "authorization: Bearer GOOD"], "several"),
        (["authorization: Basic eDp5", "authorization: Basic eDp5"], "several"),
    ],
)
def test_a_request_has_one_token_in_one_field(lines: list[str], outcome: str | None) -> None:
    """Of two a server might take the other one."""
    room = Room(rule())
    good = token().decode()
    found = room.tokens.of(head("/", "GET", *(line.replace("GOOD", good) for line in lines)))
    assert (found.outcome if found is not None else None) == outcome


def test_a_token_is_verified_once_for_its_life_at_most_five_minutes(verified: list[int]) -> None:
    """After `exp` and the leeway it is expired on the spot."""
    room = Room(rule())
    long, short = token(), token(exp=NOW_S + 30)
    for _ in range(10):
        assert room.outcome(long) == room.outcome(short) == "accepted"
    assert len(verified) == 2
    room.now_s = NOW_S + 89.9
    assert room.outcome(short) == "accepted"
    assert len(verified) == 2
    room.now_s = NOW_S + 90
    assert room.outcome(short) == "expired"
    assert len(verified) == 3
    room.now_s = NOW_S + 299
    assert room.outcome(long) == "accepted"
    assert len(verified) == 3
    room.now_s = NOW_S + 301
    assert room.outcome(long) == "accepted"
    assert len(verified) == 4


def test_a_refusal_is_remembered_for_seconds(verified: list[int]) -> None:
    """And ends when the token begins."""
    room = Room(rule())
    forged, early = signed("p256-2", "ES256"), token(nbf=NOW_S + 63)
    for _ in range(5):
        assert room.outcome(forged) == "signature"
        assert room.outcome(early) == "not_yet_valid"
    assert len(verified) == 2
    room.now_s = NOW_S + 3
    assert room.outcome(early) == "accepted"
    room.now_s = NOW_S + 11
    assert room.outcome(forged) == "signature"
    assert len(verified) == 4


def test_rules_may_give_clocks_more_and_less(verified: list[int]) -> None:
    """A token is then of one rule, and later of none; what is remembered ends with each."""
    strict, lax = rule(leeway_s=1.0), rule(leeway_s=600.0)
    room = Room(strict, lax)
    one = token(exp=NOW_S + 10)
    assert len(room.of(one).words) == 2
    room.now_s = NOW_S + 11
    assert room.of(one).words == (lax.word,)
    room.now_s = NOW_S + 300
    assert room.of(one).words == (lax.word,)
    room.now_s = NOW_S + 610
    assert room.outcome(one) == "expired"


def test_another_key_of_the_issuer_is_asked_for() -> None:
    """Each time that a token names one, as long as it is not held; not for a key that merely did not sign it."""
    room = Room(rule())
    assert room.outcome(token(kid="2")) == "unknown_key"
    assert room.keys.missed == [FILE]
    room.outcome(signed("p256-2", "ES256"))
    assert room.keys.missed == [FILE]


def test_new_keys_empty_what_is_remembered() -> None:
    """What was refused may be good now, and what was good may not."""
    room = Room(rule())
    old, new = token(), signed("p256-2", "ES256", kid="2")
    assert [room.outcome(old), room.outcome(new)] == ["accepted", "unknown_key"]
    room.keys.held[FILE] = read_keys(jwks(jwk("p256-2", "2")), "k")
    assert [room.outcome(old), room.outcome(new)] == ["accepted", "unknown_key"]
    room.tokens.forget()
    assert [room.outcome(old), room.outcome(new)] == ["unknown_key", "accepted"]


def test_while_there_are_no_keys_a_token_proves_nothing() -> None:
    """And nobody is asked for more."""
    room = Room(rule(keys=OTHER))
    assert room.outcome(token()) == "no_keys"
    assert room.keys.missed == []


def test_keys_of_one_rule_prove_nothing_to_another(verified: list[int]) -> None:
    """Though they are of the same issuer; each source is asked once."""
    here, twice, there = rule("shop"), rule(), rule(keys=OTHER)
    room = Room(here, twice, there)
    room.keys.held[OTHER] = read_keys(jwks(jwk("p256-2", "1")), "o")
    assert room.of(token()).words == tuple(sorted((here.word, twice.word)))
    assert len(verified) == 2
    assert room.of(signed("p256-2", "ES256", kid="1")).words == (there.word,)


def test_of_several_reasons_the_one_that_came_furthest_is_told() -> None:
    """Who has the wrong audience is not told of another rule's keys."""
    room = Room(rule("other"), rule(keys=OTHER))
    assert room.outcome(token()) == "unmatched"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are accepted the one used longest ago goes; those that are refused drive out none of them."""
    room = Room(rule(), bounds=(3, 2))
    some = [token(jti=str(number)) for number in range(4)]
    for one in some[:3]:
        room.outcome(one)
    room.outcome(some[0])  # used again, so the second is the oldest
    room.outcome(some[3])
    for number in range(50):
        room.outcome(b"garbage%d" % number)
    keys = list(room.tokens._accepted.values())
    assert len(keys) == 3
    assert len(room.tokens._refused) == 2
    calls: list[bytes] = []
    real = remembered.read_token

    def read(one: bytes) -> Any:
        calls.append(one)
        return real(one)

    monkeypatch.setattr(remembered, "read_token", read)
    for one in (some[0], some[2], some[3]):
        assert room.outcome(one) == "accepted"
    assert calls == []
    assert room.outcome(some[1]) == "accepted"
    assert calls == [some[1]]


def test_the_bounds_are_what_the_page_says() -> None:
    """See docs/authorization.md."""
    assert (MAX_ACCEPTED, MAX_REFUSED, remembered.MAX_TOKEN_BYTES) == (4096, 1024, 8192)


def test_nothing_of_a_token_is_kept_or_shown() -> None:
    """Neither it nor for whom it is."""
    room = Room(rule())
    one = token(sub="someone-secret", jti="another-secret")
    found = room.of(one)
    everything = f"{found!r} {room.tokens!r} {found.words} {found.why} {list(room.tokens._accepted)!r}"
    for part in (*one.decode().split("."), "someone-secret", "another-secret"):
        assert part not in everything
    said = {name for name in dir(Token) if not name.startswith("_") and getattr(found, name)}
    assert said == {"outcome", "issuer", "words"}


def test_a_payload_in_another_shape_raises_nothing() -> None:
    """Whatever JSON is in it."""
    room = Room(rule("shop", **{"a.b": "x"}))
    for payload in (b"{}", b"[]", b"null", b'"x"', b'{"iss": {}}', b"\xff\xfe", b'{"iss": "' + ISSUER.encode() + b'"}'):
        forged = b".".join((segment({"alg": "ES256", "kid": "1"}), segment(payload), b"AAAA"))
        assert room.outcome(forged) in ("malformed", "issuer", "signature")
