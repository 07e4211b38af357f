"""Issuers of tokens with keys of their own, made once for all tests: an RSA key takes a tenth of a second."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NOW_S = 1_800_000_000
ISSUER = "https://id.example.com"


@cache
def private_key(kind: str) -> Any:
    """`rsa`, `rsa-2`, `rsa-small`, `p256`, `p384`, `p521`, `ed25519`, `ed448`; the same for the same name."""
    curves = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, 1024 if kind == "rsa-small" else 2048)
    name = kind.partition("-")[0]
    if name in curves:
        return ec.generate_private_key(curves[name]())
    return ed448.Ed448PrivateKey.generate() if name == "ed448" else ed25519.Ed25519PrivateKey.generate()


def jwk(kind: str, kid: str | None = None, *, is_private: bool = False, **members: Any) -> dict[str, Any]:
    """A key as a set has it."""
    key = private_key(kind) if is_private else private_key(kind).public_key()
    algorithm: Any = RSAAlgorithm if kind.startswith("rsa") else ECAlgorithm if kind[0] == "p" else OKPAlgorithm
    found: dict[str, Any] = algorithm.to_jwk(key, as_dict=True)
    found.pop("key_ops", None)
    return {**found, **({"kid": kid} if kid is not None else {}), **members}


def jwks(*keys: dict[str, Any]) -> bytes:
    """A set of keys."""
    return json.dumps({"keys": keys}).encode()


def claims(**some: Any) -> dict[str, Any]:
    """What an ordinary token claims around `NOW_S`; a claim that is None is left out."""
    found = {"iss": ISSUER, "aud": "shop", "sub": "somebody", "iat": NOW_S - 10, "exp": NOW_S + 3600, **some}
    return {name: value for name, value in found.items() if value is not None}


def signed(kind: str = "rsa", algorithm: str = "RS256", kid: str | None = "1", **some: Any) -> bytes:
    """A token."""
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(claims(**some), private_key(kind), algorithm, headers=headers).encode()


def segment(value: Any) -> bytes:
    """A part of a token, of JSON or octets."""
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def resigned(token: bytes, header: dict[str, Any]) -> bytes:
    """The token with another header, and the signature that it had."""
    return b".".join((segment(header), *token.split(b".")[1:]))
