"""
What a certificate proves that somebody shows. *Pure; takes a thread, for it verifies signatures.*

Who still has a certificate that holds shows it by TLS. One that has ended TLS refuses, whatever the client asks for;
and where TLS ends in between, nobody sees it. So a certificate is also proven by a signature of its key:

    signed text   `text_to_sign` of the nonce and the signing request
    algorithm     by the key: ECDSA with SHA-256 (P-256) or SHA-384 (P-384), Ed25519, RSA-PSS with SHA-256

The nonce is the control plane's, of any replica, and holds for `NONCE_S`:
it is a time and a MAC over it, by a key that the replicas share. Whoever repeats what was seen gets a certificate for
the same new key, which is of no use without that key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from sidecar.control.authority import certificates as pki
from sidecar.control.authority.certificates import BadCertificate
from sidecar.control.authority.names import parts_of
from sidecar.control.authority.record import Record
from sidecar.link.identity.messages import EXPIRED_GRACE_S, text_to_sign

NONCE_S: Final = 300.0
_MAC_BYTES: Final = 16


class ProofRefused(Exception):  # noqa: N818
    """
    It proves nothing.

    Attributes:
        code: `certificate_invalid`, `nonce_invalid` or `root_unknown`.
        chain: What was shown, where its root is not known.
    """

    def __init__(self, code: str, text: str, chain: tuple[x509.Certificate, ...] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.chain = chain


@dataclass(frozen=True, slots=True)
class Proven:
    """
    Who somebody was.

    Attributes:
        instance: Which joined first, if the certificate says it.
        begins_s: Since the Unix epoch, when the certificate began.
    """

    identity: str
    instance: str
    begins_s: float


def new_nonce(key: str, now_s: float) -> str:
    """A nonce that is good for a while."""
    said = int(now_s).to_bytes(8, "big") + secrets.token_bytes(8)
    return base64.urlsafe_b64encode(said + _mac(key, said)).decode()


def is_nonce(nonce: str, key: str, now_s: float) -> bool:
    """Whether it is one of ours, and still good."""
    try:
        raw = base64.b64decode(nonce.encode("ascii"), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    said, mac = raw[:16], raw[16:]
    # Of a replica whose clock is ahead of ours, too.
    return hmac.compare_digest(mac, _mac(key, said)) and abs(now_s - int.from_bytes(said[:8], "big")) <= NONCE_S


def by_signature(record: Record, chain: str, nonce: str, signature: str, request: str, now_s: float) -> Proven:
    """
    A certificate and a signature of its key.

    Args:
        chain: PEM, leaf first.
        signature: base64url, with or without `=`.
        request: The signing request in PEM that came with it, read before.

    Raises:
        ProofRefused: It proves nothing.
    """
    try:
        shown = tuple(pki.read_certificates(chain))
    except BadCertificate as error:
        raise ProofRefused("certificate_invalid", str(error)) from None
    if len(shown) > 4:
        raise ProofRefused("certificate_invalid", "expected a leaf and what is between it and the root")
    if not is_nonce(nonce, record.nonce_key, now_s):
        raise ProofRefused("nonce_invalid", "expected a nonce of `GET /v1/join/nonce` that is not older than 5 minutes")
    request_der = x509.load_pem_x509_csr(request.encode()).public_bytes(serialization.Encoding.DER)
    signed = text_to_sign(nonce, request_der)
    if not _is_signed(shown[0], _octets(signature), signed):
        raise ProofRefused("certificate_invalid", "the signature is not of the certificate's key")
    proven = of_leaf(record, shown[0], now_s)
    roots = [one.own for one in record.roots]
    if pki.root_of(shown, roots, record.intermediate.chain) is None:
        raise ProofRefused("root_unknown", "the certificate chains to no root that is trusted here", shown)
    return proven


def by_tls(record: Record, der: bytes, now_s: float) -> Proven:
    """The certificate of a client of TLS, which has verified it. Raises ProofRefused."""
    try:
        leaf = pki.read_der(der)
    except BadCertificate as error:
        raise ProofRefused("certificate_invalid", str(error)) from None
    return of_leaf(record, leaf, now_s)


def of_leaf(record: Record, leaf: x509.Certificate, now_s: float) -> Proven:
    """Whom it names, if it is of this mesh and may still be renewed. Raises ProofRefused."""
    identity = pki.identity_of(leaf)
    parts = parts_of(identity)
    if parts is None or parts[0] != record.trust_domain:
        raise ProofRefused("certificate_invalid", f"expected a certificate of the mesh `{record.trust_domain}`")
    if pki.begins(leaf) > now_s:
        raise ProofRefused("certificate_invalid", f"it begins at {leaf.not_valid_before_utc.isoformat()}")
    if pki.ends(leaf) + EXPIRED_GRACE_S <= now_s:
        raise ProofRefused("certificate_invalid", "it ended more than 7 days ago: join by a token")
    return Proven(identity, pki.common_name_of(leaf), pki.begins(leaf))


def _is_signed(leaf: x509.Certificate, signature: bytes, signed: bytes) -> bool:
    key = leaf.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(_digest(key.curve)))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, _padding(), hashes.SHA256())
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _digest(curve: ec.EllipticCurve) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if curve.key_size > 256 else hashes.SHA256()


def _padding() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def _octets(written: str) -> bytes:
    try:
        return base64.b64decode((written + "=" * (-len(written) % 4)).encode("ascii"), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _mac(key: str, said: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), b"sidecar.mesh/v1/join nonce\0" + said, "sha256")[:_MAC_BYTES]
