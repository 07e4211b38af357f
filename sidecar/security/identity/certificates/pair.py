"""A leaf with its key and those who signed it: read from PEM, and proved to fit. *Cold.*"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

from sidecar.security.identity.certificates import pem, proof
from sidecar.security.identity.certificates.facts import Facts, authorities
from sidecar.security.identity.certificates.trouble import Code, TroubleError

# What OpenSSL calls it (`SSLError.reason`), and what it is to us.
_NOT_OF_THE_KEY: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
_TOO_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})


@dataclass(frozen=True, slots=True)
class KeyPair:
    """
    Attributes:
        chain: In DER, the leaf first.
        key_pem: Never shown.
        leaf: What it says.
        authorities: What those of the chain that may sign say, in its order.
        is_for_servers, is_for_clients: What the leaf may be used for.
        is_authority: It may sign others, too: what is signed by itself often may.
        at: Where the certificate is from.
    """

    chain: tuple[bytes, ...] = field(repr=False)
    key_pem: bytes = field(repr=False)
    leaf: Facts
    authorities: tuple[Facts, ...]
    is_for_servers: bool
    is_for_clients: bool
    is_authority: bool
    at: str

    def show_by(self, context: ssl.SSLContext) -> None:
        """Have a context show it."""
        proof.show(context, self.chain, self.key_pem)


def read_pair(certificate: bytes, key: bytes, certificate_at: str, key_at: str) -> KeyPair:
    """
    A certificate and its key that fit. Of its chain only what concerns the leaf is judged, of its times nothing.

    Args:
        certificate, key: In PEM.
        certificate_at, key_at: Where they are from, for sentences.

    Raises:
        TroubleError: They cannot be used.
        OSError: Not now.
    """
    chain = pem.certificates(certificate, certificate_at)
    key_pem = pem.private_key(key, key_at)
    signers = authorities(chain, certificate_at)
    try:
        leaf, is_for_servers, is_for_clients = _use(chain, key_pem, certificate_at)
    except ssl.SSLError as error:
        raise _misfit(error.reason or "", chain, key_pem, certificate_at, key_at) from None
    above = tuple(signers[der] for der in chain[1:] if der in signers)
    return KeyPair(chain, key_pem, leaf, above, is_for_servers, is_for_clients, chain[0] in signers, certificate_at)


def _use(chain: tuple[bytes, ...], key_pem: bytes, at: str) -> tuple[Facts, bool, bool]:
    """What the leaf says, and whether it is for servers and for clients; `ssl.SSLError` if it does not fit its key."""
    number, why = 0, ""
    for is_server, is_client in ((True, True), (True, False), (False, True)):
        try:
            # Believed for itself, so that nothing but its use is in question.
            leaf = proof.prove(chain, key_pem, chain[:1], is_server=is_server, is_client=is_client)
        except proof.RefusedError as error:
            number, why = error.code, error.why
        else:
            return leaf, is_server, is_client
    code: Code = "wrong_purpose" if number == proof.WRONG_PURPOSE else "malformed"
    raise TroubleError(
        code,
        f"{at}: neither servers nor clients may show this certificate ({why}); its key usage must be "
        "digitalSignature, and its extended key usage serverAuth, clientAuth or both",
    )


def _misfit(reason: str, chain: tuple[bytes, ...], key_pem: bytes, certificate_at: str, key_at: str) -> TroubleError:
    """About what OpenSSL does not load, for this reason of its."""
    if reason in _NOT_OF_THE_KEY:
        for number, der in enumerate(chain[1:], 2):
            if _fits(der, key_pem):
                return TroubleError(
                    "key_mismatch",
                    f"{certificate_at}: the key in {key_at} belongs to certificate {number} in this file; "
                    "the leaf must come first, then who signed it",
                )
        return TroubleError(
            "key_mismatch",
            f"{key_at}: this key does not belong to the certificate in {certificate_at}; if both are being replaced, "
            "the other one is still to come",
        )
    if reason in _TOO_WEAK:
        return TroubleError(
            "too_weak",
            f"{certificate_at}: too weak for TLS today ({reason.replace('_', ' ').lower()}); have it signed by SHA-256 "
            "or better, with keys of at least 2048 bits (RSA) or 224 (EC)",
        )
    return TroubleError("malformed", f"{key_at}: expected a private key in PEM, got one that cannot be read")


def _fits(der: bytes, key_pem: bytes) -> bool:
    try:
        proof.show(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), (der,), key_pem)
    except ssl.SSLError:
        return False
    return True
