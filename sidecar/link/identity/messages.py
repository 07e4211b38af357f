"""
What a sidecar and the control plane say to each other when the one joins the mesh (docs/mesh-protocol.md). *Pure.*

    GET  /v1/trust         the mesh's roots; nothing is proved and nothing is asked for: a sidecar that was given the
                           SHA-256 of one takes that one, and no other
    GET  /v1/join/nonce    for who proves by a signature that a certificate is his
    POST /v1/join          a signing request and a proof; a certificate

Who it is follows from the proof, never from the request. Texts that prove something are not in any `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.link.fields import Fields, MessageError, decode, encode, refusal

JOIN: Final = "/v1/join"
NONCE: Final = "/v1/join/nonce"
TRUST: Final = "/v1/trust"

MAX_PEM_CHARS: Final = 64 * 1024
"""Of a chain or a bundle: some fifty certificates."""
MAX_REQUEST_CHARS: Final = 16 * 1024
MAX_TOKEN_CHARS: Final = 16 * 1024
MAX_SIGNATURE_CHARS: Final = 4096
MAX_ROOTS: Final = 128
EXPIRED_GRACE_S: Final = 7 * 86_400
"""For so long after its end a certificate may still be renewed by who has its key."""

_CONTEXT: Final = b"sidecar.mesh/v1/join: renewal by an old key\0"
"""No message of TLS begins so: what is signed here is of use nowhere else."""


@dataclass(frozen=True, slots=True)
class TokenProof:
    """A join token."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceAccountProof:
    """A service-account token of Kubernetes."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """The certificate that this connection's client has shown."""


@dataclass(frozen=True, slots=True)
class SignedProof:
    """
    A certificate that a handshake does not take, such as one that has ended.

    Attributes:
        certificate: PEM, the leaf first.
        nonce: As the server gave it.
        signature: Of `text_to_sign`, by the certificate's key: ECDSA with SHA-256, in base64url.
    """

    certificate: str
    nonce: str
    signature: str = field(repr=False)


Proof = TokenProof | ServiceAccountProof | CertificateProof | SignedProof


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """
    Attributes:
        csr: PKCS#10 in PEM (RFC 2986); it proves that its sender has the key, and names nobody.
        service: That the sender takes itself for; the proof must be of the same.
        instance: The name of this one among the service's.
        lifetime_s: That is asked for; 0 leaves it to the authority, which also has bounds for it.
    """

    csr: str
    service: str
    instance: str
    proof: Proof
    lifetime_s: float = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """
    Attributes:
        certificate: PEM: the leaf, then who signed it, up to and without the root.
        trust: PEM: all roots of the mesh.
        trust_domain: Of the mesh.
        identity: The SPIFFE ID in the certificate.
        not_after_s: When it ends; since the Unix epoch, by the server's clock. So for `renew_after_s`.
        renew_after_s: When it is to be renewed.
    """

    certificate: str
    trust: str
    trust_domain: str
    identity: str
    not_after_s: int
    renew_after_s: int


@dataclass(frozen=True, slots=True)
class Trust:
    """
    Attributes:
        trust: PEM: all roots of the mesh.
        roots: SHA-256 of each in hexadecimal, for people; who asks goes by the roots themselves.
    """

    trust: str
    trust_domain: str
    roots: tuple[str, ...] = ()


def text_to_sign(nonce: str, csr_der: bytes) -> bytes:
    """What the old key signs: it is good for this request alone."""
    return _CONTEXT + nonce.encode("utf-8", "replace") + b"\0" + csr_der


def write_join(request: JoinRequest) -> bytes:
    """As JSON."""
    shown: dict[str, object] = {"csr": request.csr, "service": request.service, "instance": request.instance}
    match request.proof:
        case TokenProof(token):
            shown["proof"] = {"token": token}
        case ServiceAccountProof(token):
            shown["proof"] = {"service_account_token": token}
        case CertificateProof():
            shown["proof"] = {"certificate": True}
        case SignedProof(certificate, nonce, signature):
            shown["proof"] = {"certificate": certificate, "nonce": nonce, "signature": signature}
    if request.lifetime_s:
        shown["lifetime_s"] = request.lifetime_s
    return encode(shown)


def read_join(raw: bytes) -> JoinRequest:
    """
    Understand a request to join. It is of anybody.

    Raises:
        MessageError: With the place that is wrong, or because there is not exactly one proof. What was found at the
            place is not in its text.
    """
    try:
        fields = decode(raw)
        return JoinRequest(
            fields.text("csr", None, MAX_REQUEST_CHARS),
            fields.text("service"),
            fields.text("instance", ""),
            _proof(fields.part("proof") or Fields({})),
            fields.number("lifetime_s", 0),
        )
    except MessageError as error:
        # What was found may be the secret itself, by another type or too long.
        raise MessageError(str(error).partition(", found ")[0]) from None


def _proof(fields: Fields) -> Proof:
    """The one proof that there is: of two, nobody could say which it was that counted."""
    token = fields.text("token", "", MAX_TOKEN_CHARS)
    account_token = fields.text("service_account_token", "", MAX_TOKEN_CHARS)
    certificate = fields.all().get("certificate")
    proofs: list[Proof] = []
    if token:
        proofs.append(TokenProof(token))
    if account_token:
        proofs.append(ServiceAccountProof(account_token))
    if certificate is True:
        proofs.append(CertificateProof())
    elif certificate:
        proofs.append(
            SignedProof(
                fields.text("certificate", None, MAX_PEM_CHARS),
                fields.text("nonce"),
                fields.text("signature", None, MAX_SIGNATURE_CHARS),
            )
        )
    if len(proofs) != 1:
        raise MessageError("proof: expected one of `token`, `service_account_token` and `certificate`")
    return proofs[0]


def write_joined(joined: Joined) -> bytes:
    """As JSON."""
    return encode({
        "certificate": joined.certificate, "trust": joined.trust, "trust_domain": joined.trust_domain,
        "identity": joined.identity, "not_after": joined.not_after_s, "renew_after": joined.renew_after_s,
    })  # fmt: skip


def read_joined(raw: bytes) -> Joined:
    """
    Understand the answer to it.

    Raises:
        MessageError: With the place that is wrong.
    """
    fields = decode(raw)
    joined = Joined(
        fields.text("certificate", None, MAX_PEM_CHARS),
        fields.text("trust", None, MAX_PEM_CHARS),
        fields.text("trust_domain"),
        fields.text("identity"),
        fields.integer("not_after"),
        fields.integer("renew_after"),
    )
    if not joined.renew_after_s < joined.not_after_s:
        raise refusal("renew_after", "a time before not_after", joined.renew_after_s)
    return joined


def write_trust(trust: Trust) -> bytes:
    """As JSON."""
    return encode({"trust_domain": trust.trust_domain, "trust": trust.trust, "roots": trust.roots})


def read_trust(raw: bytes) -> Trust:
    """
    Understand the mesh's roots.

    Raises:
        MessageError: With the place that is wrong.
    """
    fields = decode(raw)
    return Trust(
        fields.text("trust", None, MAX_PEM_CHARS),
        fields.text("trust_domain", ""),
        tuple(fields.texts("roots", MAX_ROOTS)),
    )


def write_nonce(nonce: str) -> bytes:
    """As JSON."""
    return encode({"nonce": nonce})


def read_nonce(raw: bytes) -> str:
    """
    Understand what is to be signed.

    Raises:
        MessageError: With the place that is wrong.
    """
    return decode(raw).text("nonce")
