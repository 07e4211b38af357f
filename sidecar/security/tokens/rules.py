"""
What rules ask of tokens: who made them, for whom, and what they claim. *Pure, cold.*

    issuer      `iss` is exactly that
    audiences   `aud`, a text or a list, has any of them; without any, it is not looked at
    claims      each of them: a claim that is a list has any of the values, another is one of them. A name is that of a
                claim, or where there is none of that name, its way down by dots: `realm_access.roles`. `scope` and
                `scp` that are texts are lists, parted by spaces (RFC 8693, 4.2)
    times       `exp` must be there and not be over; `nbf` and `iat` must not be to come; both with leeway
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from sidecar.peer import Token

SYSTEM: Final = "system"
"""In place of a file of roots: those that the machine trusts."""
LEEWAY_S: Final = 60.0

Scalar = str | int | float | bool

_LISTS_OF_WORDS: Final = ("scope", "scp")
_MAX_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class KeySource:
    """
    Where keys come from: a file, or an address.

    Attributes:
        file: Its path, or empty.
        url: The address, or empty.
        trust: Roots by which the address's server is believed: a file, or `system`.
    """

    file: str = ""
    url: str = ""
    trust: str = SYSTEM

    def __str__(self) -> str:
        return self.file or self.url


@dataclass(frozen=True, slots=True)
class TokenRule:
    """
    Which tokens are meant. Made by `make_token_rule`.

    Attributes:
        issuer: Who made them.
        audiences: For whom.
        claims: Names and values.
        keys: By which they are signed.
        leeway_s: By how much clocks may differ.
        word: Stands for this in the index of rules.
        text: As a person reads it, without the values of claims.
    """

    issuer: str
    audiences: frozenset[str]
    claims: tuple[tuple[str, tuple[Scalar, ...]], ...]
    keys: KeySource
    leeway_s: float
    word: str = field(compare=False)
    text: str = field(compare=False)

    def admits(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token that claims this is meant, whenever it is."""
        if claims.get("iss") != self.issuer:
            return False
        if self.audiences:
            said = claims.get("aud")
            if not any(isinstance(one, str) and one in self.audiences for one in _listed(said)):
                return False
        return all(_meets(name, values, claims) for name, values in self.claims)


def make_token_rule(
    issuer: str,
    audiences: Iterable[str],
    claims: Mapping[str, Sequence[Scalar]],
    keys: KeySource,
    leeway_s: float = LEEWAY_S,
) -> TokenRule:
    """The same of the same, with the same word."""
    wanted = frozenset(audiences)
    asked = tuple(sorted((name, tuple(values)) for name, values in claims.items()))
    parts = repr((issuer, sorted(wanted), asked, keys, leeway_s))
    text = f"a token of {issuer}"
    if wanted:
        text += f" for {' or '.join(sorted(wanted))}"
    if asked:
        text += f" with {' and '.join(name for name, _ in asked)}"
    word = f"jwt:{hashlib.sha256(parts.encode()).hexdigest()[:24]}"
    return TokenRule(issuer, wanted, asked, keys, leeway_s, word, text)


class Window:
    """
    When a token holds, in seconds since the Unix epoch, as it says itself.

    Attributes:
        begins_s: Not before.
        ends_s: And from then on not.
    """

    __slots__ = ("begins_s", "ends_s")

    def __init__(self, begins_s: float, ends_s: float) -> None:
        self.begins_s = begins_s
        self.ends_s = ends_s


def window_of(claims: Mapping[str, Any]) -> Window | None:
    """When a token holds; None if it does not say it as it must (RFC 7519, 4.1), or not when it ends."""
    times: list[float] = []
    for name in ("exp", "nbf", "iat"):
        found = claims.get(name)
        if found is None and name != "exp":
            times.append(0.0)
            continue
        # An integer may have four thousand digits.
        if isinstance(found, bool) or not isinstance(found, int | float) or not -1e15 < found < 1e15:
            return None
        if not isfinite(found):
            return None
        times.append(float(found))
    return Window(max(times[1], times[2]), times[0])


def supposed(rules: Sequence[TokenRule], claims: Mapping[str, Any]) -> Token:
    """What a token with these claims comes to if its signature and its times are good: for tests of a file."""
    words = tuple(sorted({rule.word for rule in rules if rule.admits(claims)}))
    issuer = claims.get("iss")
    return Token("accepted", issuer if isinstance(issuer, str) else "", words)


def _meets(name: str, wanted: tuple[Scalar, ...], claims: Mapping[str, Any]) -> bool:
    found = claims.get(name)
    if found is None:
        found = _below(claims, name.split("."))
    if name in _LISTS_OF_WORDS and isinstance(found, str):
        found = found.split(" ")
    return any(_is_same(one, value) for one in _listed(found) for value in wanted)


def _below(claims: object, way: list[str]) -> object:
    if len(way) < 2 or len(way) > _MAX_DEPTH:
        return None
    for step in way:
        if not isinstance(claims, dict):
            return None
        claims = claims.get(step)
    return claims


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else (value,)


def _is_same(one: object, other: Scalar) -> bool:
    """`true` is not `1`, nor is `"1"`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return isinstance(one, int | float) and one == other
