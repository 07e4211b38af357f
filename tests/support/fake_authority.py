"""
Who signs in a mesh, for `fake_control.FakeControl`: the pages by which a sidecar joins, with real certificates.

    authority = FakeAuthority()
    authority.tokens["sct_..."] = "storefront"
    with FakeControl(authority=authority) as control: ...
    authority.joins      what was asked, and how it was proved
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.link.fields import MessageError
from sidecar.link.identity.messages import (
    CertificateProof,
    Joined,
    JoinRequest,
    ServiceAccountProof,
    SignedProof,
    TokenProof,
    Trust,
    read_join,
    text_to_sign,
    write_joined,
    write_nonce,
    write_trust,
)
from tests.support.certificates import DAY, Authority

NONCE = "a-nonce-of-this-server"


class Refused(Exception):  # noqa: N818
    """What is said instead of a certificate."""

    def __init__(self, status: int, code: str, error: str = "no") -> None:
        super().__init__(error)
        self.status = status
        self.code = code


@dataclass
class FakeAuthority:
    """
    Attributes:
        root: Of the mesh; `issuer` signs.
        tokens: Service by join token; `accounts` identity by service-account token.
        joins: Every request that was understood.
        identity: Of the control plane itself.
        lifetime_s, age_s: Of the leaves: how long from now on, and how long before.
        refuses: Instead of what would be said, if it says something.
        revoked: Identities that are not renewed.
        not_after_s, trust: Of leaves, and the roots that are told; default: what is right.
    """

    root: Authority = field(default_factory=lambda: Authority("shop root"))
    trust_domain: str = "shop"
    tokens: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    joins: list[JoinRequest] = field(default_factory=list)
    identity: str = "spiffe://shop/control"
    lifetime_s: float = 7 * DAY
    begins_s: float = 600
    refuses: Callable[[JoinRequest], Refused | None] = lambda request: None
    revoked: set[str] = field(default_factory=set)
    trust: bytes = b""

    def __post_init__(self) -> None:
        self.issuer = self.root.authority("shop issuer")
        self.trust = self.trust or self.root.pem

    @property
    def pin(self) -> str:
        """SHA-256 of the root."""
        return self.root.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path) -> tuple[str, str]:
        """The control plane's own certificate and key, as paths."""
        self.issuer.workload(self.identity).write(folder, "control.crt", "control.key")
        return str(folder / "control.crt"), str(folder / "control.key")

    def answer(self, method: str, path: str, body: bytes, shown: bytes | None) -> tuple[int, bytes] | None:
        """
        Status and body; None for pages that are others'.

        Args:
            shown: DER of the client's certificate, which was verified; None for none.
        """
        if (method, path) == ("GET", "/v1/trust"):
            return 200, write_trust(Trust(self.trust.decode(), self.trust_domain))
        if (method, path) == ("GET", "/v1/join/nonce"):
            return 200, write_nonce(NONCE)
        if (method, path) != ("POST", "/v1/join"):
            return None
        try:
            request = read_join(body)
            self.joins.append(request)
            refused = self.refuses(request)
            if refused is not None:
                raise refused
            return 200, write_joined(self.sign(request, self.proved(request, shown)))
        except MessageError as error:
            return 400, json.dumps({"error": str(error), "code": "csr_invalid"}).encode()
        except Refused as error:
            return error.status, json.dumps({"error": str(error), "code": error.code}).encode()

    def proved(self, request: JoinRequest, shown: bytes | None) -> str:
        """Whose request it is."""
        match request.proof:
            case TokenProof(token):
                if token not in self.tokens:
                    raise Refused(403, "token_unknown")
                if self.tokens[token] != request.service:
                    raise Refused(403, "service_mismatch")
                return f"spiffe://{self.trust_domain}/{self.tokens[token]}"
            case ServiceAccountProof(token):
                if token not in self.accounts:
                    raise Refused(403, "token_unknown")
                return self.accounts[token]
            case CertificateProof():
                if shown is None:
                    raise Refused(403, "certificate_invalid")
                return self._not_revoked(_identity_of(x509.load_der_x509_certificate(shown)))
            case SignedProof(certificate, nonce, signature):
                leaf = x509.load_pem_x509_certificate(certificate.encode())
                key = leaf.public_key()
                assert isinstance(key, ec.EllipticCurvePublicKey)
                csr = x509.load_pem_x509_csr(request.csr.encode())
                leaf.verify_directly_issued_by(self.issuer.certificate)
                signed = text_to_sign(NONCE, csr.public_bytes(Encoding.DER))
                try:
                    key.verify(base64.urlsafe_b64decode(signature), signed, ec.ECDSA(hashes.SHA256()))
                except InvalidSignature:
                    raise Refused(403, "certificate_invalid") from None
                if nonce != NONCE or leaf.not_valid_after_utc.timestamp() < time.time() - 7 * DAY:
                    raise Refused(403, "certificate_invalid")
                return self._not_revoked(_identity_of(leaf))

    def sign(self, request: JoinRequest, identity: str) -> Joined:
        """A leaf for the key of the request."""
        csr = x509.load_pem_x509_csr(request.csr.encode())
        if not csr.is_signature_valid:
            raise Refused(400, "csr_invalid")
        now_s = time.time()
        public_key = csr.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        leaf = self.issuer.leaf(
            uris=[identity], begins=now_s - self.begins_s, ends=now_s + self.lifetime_s, key=_Public(public_key)  # type: ignore[arg-type]
        )  # fmt: skip
        ends_s = int(leaf.certificate.not_valid_after_utc.timestamp())
        renew_s = int(now_s + (ends_s - now_s) / 7) if ends_s > now_s else ends_s - 1
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in (leaf.certificate, *self.issuer.chain))
        return Joined(chain.decode(), self.trust.decode(), self.trust_domain, identity, ends_s, renew_s)

    def _not_revoked(self, identity: str) -> str:
        if identity in self.revoked:
            raise Refused(403, "revoked")
        return identity


@dataclass
class _Public:
    """What stands for a key whose other half is a sidecar's."""

    key: ec.EllipticCurvePublicKey

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.key


def _identity_of(leaf: x509.Certificate) -> str:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
