"""
What the token of a request costs: remembered, verified anew, and refused.

    python -m benchmarks.micro.tokens

Prints microseconds per `Tokens.of`, on a head of nine fields: the best of many short rounds, so that other work on the
machine counts little. Measured on a 2-core virtual machine with Python 3.11, interpreted, beside much other work
(`Table.find` of an exact host took 1.7 to 2.6 there):

    Tokens.of, microseconds
    signed by     bytes  remembered  verified  forged, anew
    ES256           392        1.86     181.3         182.5
    RS256           648        2.05     128.1         126.6
    EdDSA           392        1.90     211.3         206.2
    garbage, each another: 6.9
"""

from __future__ import annotations

import json
from collections.abc import Callable
from timeit import repeat
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.security.tokens.library import KeySet, read_keys
from sidecar.security.tokens.remembered import Tokens
from sidecar.security.tokens.rules import KeySource, make_token_rule

_NOW_S = 1_800_000_000
_ISSUER = "https://id.example.com/"
_KEYS = KeySource(file="keys.json")
_CALLS, _ROUNDS = 5, 400
"""Few at a time, so that some rounds are not interrupted by what else runs."""


class _Ring:
    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def key_set(self, source: KeySource) -> KeySet:
        return self._keys

    def miss(self, source: KeySource) -> None:
        pass


def _head(token: str) -> RequestHead:
    fields = [f"x-field-{number}: {number}" for number in range(7)]
    lines = ["GET /v1/orders HTTP/1.1", "host: shop", *fields, f"authorization: Bearer {token}"]
    return parse_request_head("\r\n".join(lines).encode(), 100)


def _best_us(act: Callable[[], object], calls: int = _CALLS) -> float:
    return min(repeat(act, number=calls, repeat=_ROUNDS)) / calls * 1e6


def main() -> None:
    """Print the table."""
    kinds: dict[str, tuple[Any, Any]] = {
        "ES256": (ECAlgorithm, ec.generate_private_key(ec.SECP256R1())),
        "RS256": (RSAAlgorithm, rsa.generate_private_key(65537, 2048)),
        "EdDSA": (OKPAlgorithm, ed25519.Ed25519PrivateKey.generate()),
    }
    claims = {
        "iss": _ISSUER, "aud": ["shop", "other"], "sub": "0123456789", "iat": _NOW_S, "exp": _NOW_S + 3600,
        "scope": "openid profile read write", "realm_access": {"roles": ["manager", "owner"]},
    }  # fmt: skip
    rules = [make_token_rule(_ISSUER, ["shop"], {"scope": ["read"]}, _KEYS)]
    print("Tokens.of, microseconds")
    print(f"{'signed by':<12}{'bytes':>7}{'remembered':>12}{'verified':>10}{'forged, anew':>14}")
    for name, (algorithm, key) in kinds.items():
        public = {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": "1"}
        public.pop("key_ops", None)
        keys = read_keys(f'{{"keys": [{json.dumps(public)}]}}'.encode(), "keys")
        token = jwt.encode(claims, key, name, headers={"kid": "1"})
        tokens = Tokens(rules, _Ring(keys), {}, lambda: float(_NOW_S))
        head, forged = _head(token), _head(token[:-12] + "AAAAAAAAAAAA")
        found, other = tokens.of(head), tokens.of(forged)
        assert found is not None
        assert found.outcome == "accepted"
        assert other is not None
        assert other.outcome in ("signature", "malformed")

        def anew(one: RequestHead = head, tokens: Tokens = tokens) -> None:
            tokens.forget()
            tokens.of(one)

        remembered = _best_us(lambda tokens=tokens, head=head: tokens.of(head), 100)
        verified = _best_us(anew)
        refused = _best_us(lambda anew=anew, forged=forged: anew(forged))
        print(f"{name:<12}{len(token):>7}{remembered:>12.2f}{verified:>10.1f}{refused:>14.1f}")
    many = Tokens(rules, _Ring(keys), {}, lambda: float(_NOW_S))
    heads = [_head(f"garbage-{number}") for number in range(4000)]
    each = iter(heads * 1000)
    print(f"garbage, each another: {_best_us(lambda: many.of(next(each))):.1f}")


if __name__ == "__main__":
    main()
