"""
The one place that reads key sets and verifies signatures, by PyJWT and `cryptography`. *Cold: each token once.*

Only algorithms of two keys, and only one that fits its key: a set that anybody can read holds no secrets, so a token
by HMAC proves nothing, whatever it says of itself, nor does one that says it needs no signature (RFC 8725, 3.1, 3.2).
Both are imported at the first call, for they cost some 11 MiB.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sidecar.security.identity.certificates.trouble import TroubleError

if TYPE_CHECKING:
    from jwt.api_jws import PyJWS

MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_FITTING: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""By type of key and curve: algorithms (RFC 7518, 3.1; RFC 8037, 3.1)."""
ALGORITHMS: Final = frozenset(name for names in _FITTING.values() for name in names)
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_MAX_TRIED: Final = 8
"""Keys for a token that does not name its own."""


class Key:
    """A key that was read: what it is called, what it may verify, and itself, which is public."""

    __slots__ = ("algorithms", "kid", "public")

    def __init__(self, kid: str, algorithms: Sequence[str], public: Any) -> None:
        self.kid = kid
        self.algorithms = frozenset(algorithms)
        self.public = public

    def __repr__(self) -> str:
        return f"<Key {self.kid!r} for {', '.join(sorted(self.algorithms))}>"


class KeySet:
    """
    Attributes:
        keys: Those that can verify something.
        ignored: How many others there were: of other types or curves, or for encryption.
    """

    __slots__ = ("ignored", "keys")

    def __init__(self, keys: Sequence[Key], ignored: int) -> None:
        self.keys = tuple(keys)
        self.ignored = ignored

    def __repr__(self) -> str:
        return f"<KeySet of {len(self.keys)}>"

    def candidates(self, algorithm: str, kid: str | None) -> list[Key]:
        """Those that may have signed it: by name where both have one."""
        found = [
            key for key in self.keys if algorithm in key.algorithms and (not key.kid or kid is None or key.kid == kid)
        ]
        return found[:_MAX_TRIED]


def why_missing() -> str | None:
    """Why tokens cannot be verified in this installation, or None."""
    for name in ("jwt", "cryptography"):
        if importlib.util.find_spec(name) is None:
            return "tokens are verified by PyJWT and cryptography, which are not installed: install `sidecar-mesh[jwt]`"
    return None


def read_keys(content: bytes, at: str) -> KeySet:
    """
    A set of keys (RFC 7517, 5). Takes some 50 us a key; the first time a tenth of a second.

    Args:
        at: Where it is from, for people.

    Raises:
        TroubleError: It is none, it has no key that is of use, or one that it must not have.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise TroubleError("malformed", f'{at}: expected a set of keys in JSON, `{{"keys": [...]}}`') from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise TroubleError("malformed", f'{at}: expected a set of keys, `{{"keys": [...]}}`, found other JSON')
    if len(listed) > MAX_KEYS:
        raise TroubleError("malformed", f"{at}: expected at most {MAX_KEYS} keys, found {len(listed)}")
    keys: list[Key] = []
    for index, one in enumerate(listed):
        key = _key(one, f"{at}: keys[{index}]")
        if key is not None:
            keys.append(key)
    if not keys:
        raise TroubleError("malformed", f"{at}: none of {len(listed)} keys can verify a token; RSA, EC and OKP can")
    return KeySet(keys, len(listed) - len(keys))


def _key(said: object, at: str) -> Key | None:
    """None: it is for something else (RFC 7517, 5: "implementations SHOULD ignore")."""
    if not isinstance(said, dict):
        raise TroubleError("malformed", f"{at}: expected an object")
    kty, curve, kid = (_text(said.get(name)) for name in ("kty", "crv", "kid"))
    fitting = _FITTING.get((kty, "" if kty == "RSA" else curve), ())
    algorithm = said.get("alg")
    if algorithm is not None:
        fitting = (algorithm,) if algorithm in fitting else ()
    operations = said.get("key_ops")
    is_other = said.get("use") not in (None, "sig") or (isinstance(operations, list) and "verify" not in operations)
    if not fitting or is_other:
        return None
    if any(name in said for name in _PRIVATE):
        raise TroubleError("malformed", f"{at}: a private key; leave in it what is public, and make another key")
    from jwt import PyJWK, PyJWTError

    try:
        public = PyJWK(said, fitting[0]).key
    except (PyJWTError, ValueError, TypeError, ArithmeticError):
        raise TroubleError("malformed", f"{at}: no {kty} key can be made of it") from None
    if kty == "RSA" and public.key_size < MIN_RSA_BITS:
        raise TroubleError("too_weak", f"{at}: expected at least {MIN_RSA_BITS} bits, found {public.key_size}")
    return Key(kid, fitting, public)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# --- tokens ----------------------------------------------------------------------------------------------------


class Read:
    """
    A token as it was read, and not believed yet.

    Attributes:
        algorithm: One of `ALGORITHMS`.
        kid: Which key it names, or None.
        claims: What it claims.
        signed: What its signature is of.
        signature: As octets.
    """

    __slots__ = ("algorithm", "claims", "kid", "signature", "signed")

    def __init__(
        self, algorithm: str, kid: str | None, claims: dict[str, Any], signed: bytes, signature: bytes
    ) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.claims = claims
        self.signed = signed
        self.signature = signature


class UnreadableError(Exception):
    """A token cannot be read, or asks for what is not done: `malformed` or `algorithm`."""


def read_token(token: bytes) -> Read:
    """
    What a token says, before anything of it is verified.

    Raises:
        UnreadableError: It is none, or by an algorithm that proves nothing.
    """
    from jwt import PyJWTError

    try:
        found = _jws().decode_complete(token, options={"verify_signature": False})
        header: dict[str, Any] = found["header"]
        claims = json.loads(found["payload"])
    except (PyJWTError, ValueError, RecursionError):
        raise UnreadableError("malformed") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    # What is critical and not understood must be refused (RFC 7515, 4.1.11), and we understand nothing of the kind.
    if not isinstance(claims, dict) or "crit" in header or not isinstance(kid, str | None):
        raise UnreadableError("malformed")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise UnreadableError("algorithm")
    return Read(algorithm, kid, claims, token.rpartition(b".")[0], found["signature"])


def is_signed(read: Read, key: Key) -> bool:
    """Whether this key has signed it; takes 50 to 150 us."""
    if read.algorithm not in key.algorithms:
        return False
    try:
        # What `decode_complete` does with it, without reading the token a second time.
        return _jws().get_algorithm_by_name(read.algorithm).verify(read.signed, key.public, read.signature)
    except Exception:  # what cannot be verified is not signed, say by an OpenSSL that does not have this algorithm
        return False


@cache
def _jws() -> PyJWS:
    from jwt.api_jws import PyJWS

    return PyJWS(algorithms=sorted(ALGORITHMS))
