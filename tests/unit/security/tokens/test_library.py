"""Sets of keys, and signatures: what proves something, and what does not whatever it says of itself."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.tokens.library import KeySet, UnreadableError, is_signed, read_keys, read_token
from tests.support.tokens import jwk, jwks, private_key, resigned, segment, signed

ALL = (
    ("rsa", "RS256"), ("rsa", "RS384"), ("rsa", "RS512"), ("rsa", "PS256"), ("rsa", "PS384"), ("rsa", "PS512"),
    ("p256", "ES256"), ("p384", "ES384"), ("p521", "ES512"), ("ed25519", "EdDSA"), ("ed448", "EdDSA"),
)  # fmt: skip


def held(*keys: dict[str, Any]) -> KeySet:
    return read_keys(jwks(*keys), "keys.json")


def is_good(keys: KeySet, token: bytes) -> bool:
    """Whether some key of these has signed it, as the data path looks for it."""
    read = read_token(token)
    return any(is_signed(read, key) for key in keys.candidates(read.algorithm, read.kid))


@pytest.mark.parametrize(("kind", "algorithm"), ALL)
def test_every_algorithm_of_two_keys(kind: str, algorithm: str) -> None:
    """By its own key, and by no other of its kind."""
    token = signed(kind, algorithm)
    assert is_good(held(jwk(kind, "1")), token)
    assert is_good(held(jwk("rsa-2"), jwk(kind)), token)
    assert not is_good(held(jwk(f"{kind}-2", "1")), token)


def test_a_token_that_was_changed_is_not_signed() -> None:
    """Any part of it."""
    keys = held(jwk("p256", "1"))
    header, payload, signature = signed("p256", "ES256").split(b".")
    other = signed("p256", "ES256", sub="another").split(b".")
    assert not is_good(keys, b".".join((header, other[1], signature)))
    assert not is_good(keys, b".".join((header, payload, other[2])))
    assert not is_good(keys, b".".join((header, payload, b"")))
    assert not is_good(keys, b".".join((header, payload, segment(bytes(64)))))
    assert not is_good(keys, b".".join((header, payload, segment(bytes(63)))))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS1", "ES256K"])
def test_other_algorithms_prove_nothing(algorithm: str) -> None:
    """`none` in any spelling (RFC 8725, 3.2), and by secrets."""
    with pytest.raises(UnreadableError, match="algorithm"):
        read_token(resigned(signed(), {"alg": algorithm, "kid": "1"}))


def test_a_public_key_is_no_secret_of_a_mac() -> None:
    """Whoever can read a set of keys could sign by HMAC with what is in it: no such token is even looked at."""
    public = private_key("rsa").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(jwk("rsa", "1")).encode()):
        signing = b".".join((segment({"alg": "HS256", "kid": "1"}), signed().split(b".")[1]))
        forged = b".".join((signing, segment(hmac.new(secret, signing, hashlib.sha256).digest())))
        with pytest.raises(UnreadableError, match="algorithm"):
            read_token(forged)
    read = read_token(signed())
    read.algorithm = "HS256"
    assert not is_signed(read, held(jwk("rsa", "1")).keys[0])


def test_an_algorithm_must_fit_its_key() -> None:
    """Its type, its curve, and what the key says that it is for."""
    keys = held(jwk("rsa", "1"), jwk("p256", "1"), jwk("ed25519", "1"))
    assert [key.kid for key in keys.candidates("ES384", "1")] == []
    assert [next(iter(key.algorithms)) for key in keys.candidates("ES256", "1")] == ["ES256"]
    only = held(jwk("rsa", "1", alg="PS256"))
    assert is_good(only, signed("rsa", "PS256"))
    assert not is_good(only, signed("rsa", "RS256"))
    assert not is_signed(read_token(signed("rsa", "RS256")), only.keys[0])


def test_a_name_chooses_the_key() -> None:
    """A key without one may be any; a token without one is tried by all that fit, of which there are not many."""
    keys = held(jwk("rsa-2", "2"), jwk("rsa", "1"), jwk("p256"))
    assert [key.kid for key in keys.candidates("RS256", "1")] == ["1"]
    assert [key.kid for key in keys.candidates("RS256", None)] == ["2", "1"]
    assert [key.kid for key in keys.candidates("ES256", "3")] == [""]
    assert keys.candidates("RS256", "3") == []
    assert is_good(keys, signed(kid=None))
    many = held(*[jwk("p256", str(number)) for number in range(50)])
    assert len(many.candidates("ES256", None)) == 8


@pytest.mark.parametrize(
    "token",
    [
        b"", b".", b"..", b"...", b"a.b.c", b"\xff.\xff.\xff", b"e30.e30.", b"bnVsbA.e30.", b"W10.e30.",
        segment({"alg": "RS256"}) + b"." + segment([1]) + b".AA",
        segment({"alg": "RS256"}) + b"." + segment(b"{") + b".AA",
        segment({"alg": "RS256"}) + b"." + segment(b"[" * 5000) + b".AA",
        segment({"alg": "RS256"}) + b"." + segment(b'{"a":' * 3000) + b".AA",
        segment({"alg": "RS256", "kid": 1}) + b"." + segment({}) + b".AA",
        segment({"alg": "RS256", "crit": ["b64"], "b64": False}) + b".." + b"AA",
        segment({"alg": "RS256", "crit": ["x"], "x": 1}) + b"." + segment({}) + b".AA",
        segment({"alg": "RS256", "crit": []}) + b"." + segment({}) + b".AA",
        segment({"alg": "RSA-OAEP", "enc": "A256GCM"}) + b".AA.AA.AA.AA",
        b" ".join(signed().split(b".")),
    ],
)  # fmt: skip
def test_what_is_no_token_is_told_as_that(token: bytes) -> None:
    """Encrypted ones, and such as are critical in a way that nobody knows, among them."""
    with pytest.raises(UnreadableError):
        read_token(token)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "k: expected a set of keys in JSON"),
        (b"<html>", "k: expected a set of keys in JSON"),
        (b"[" * 100_000, "k: expected a set of keys in JSON"),
        (b"[]", "k: expected a set of keys, .*, found other JSON"),
        (b'{"keys": {}}', "found other JSON"),
        (b'{"keys": []}', "none of 0 keys can verify a token"),
        (b'{"keys": [7]}', r"k: keys\[0\]: expected an object"),
        (jwks(*[{}] * 101), "expected at most 100 keys, found 101"),
        (jwks({"kty": "oct", "k": "c2VjcmV0"}), "none of 1 keys can verify a token"),
        (jwks(jwk("rsa", use="enc")), "none of 1 keys"),
        (jwks(jwk("rsa", key_ops=["encrypt"])), "none of 1 keys"),
        (jwks(jwk("rsa", alg="ES256")), "none of 1 keys"),
        (jwks({"kty": "RSA", "n": "AQ", "e": "AQAB"}), r"k: keys\[0\]: "),
        (jwks({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), r"k: keys\[0\]: no EC key can be made of it"),
        (jwks({"kty": "EC", "crv": "P-256"}), "no EC key can be made of it"),
        (jwks({"kty": "OKP", "crv": "Ed25519", "x": 7}), "no OKP key can be made of it"),
        (jwks(jwk("rsa-small")), r"k: keys\[0\]: expected at least 2048 bits, found 1024"),
        (jwks(jwk("p256", is_private=True)), r"k: keys\[0\]: a private key"),
        (jwks(jwk("rsa", is_private=True)), r"k: keys\[0\]: a private key"),
    ],
)
def test_a_set_that_cannot_be_used_is_told(content: bytes, said: str) -> None:
    """With its place, and nothing of what is in it."""
    with pytest.raises(TroubleError, match=said) as caught:
        read_keys(content, "k")
    assert len(str(caught.value)) < 200


def test_what_is_for_something_else_is_left_out() -> None:
    """As RFC 7517, 5 asks."""
    keys = held(
        jwk("rsa", "1"), {"kty": "oct", "k": "c2VjcmV0"}, jwk("rsa", use="enc"), {"kty": "new"}, jwk("p256", use="sig")
    )
    assert (len(keys.keys), keys.ignored) == (2, 3)
    assert repr(keys) == "<KeySet of 2>"
    assert repr(keys.keys[1]) == "<Key '' for ES256>"
