"""
What the certificates of a mesh look like (SPIFFE X.509-SVID; RFC 5280). *Pure: keys and time are given.*

    root          P-256, 10 years, path length 2
    cross         a new root's name and key, signed by the old one: who trusts only that one verifies what the new signs
    intermediate  P-256, 90 days, path length 0
    leaf          the key that was asked for; one URI, for both ends of TLS; no authority

Beside these stand those of the webhook, which the API server of Kubernetes must believe and nobody else: a root and
servers' leaves for one name of DNS (`make_host_root`, `make_host_leaf`), apart from the mesh's.

Both authorities may sign names of their trust domain alone (name constraints on URIs, RFC 5280, 4.2.1.10), which
OpenSSL and BoringSSL enforce. Everything begins `BACKDATED_S` before it is made, for clocks that are behind, and
nothing ends after who signed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.link.identity.messages import MAX_PEM_CHARS, MAX_REQUEST_CHARS

DAY_S: Final = 86_400.0
ROOT_S: Final = 3650 * DAY_S
INTERMEDIATE_S: Final = 90 * DAY_S
BACKDATED_S: Final = 600.0
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 4096
"""Larger ones cost every peer's handshakes, and ours to verify."""
_MAX_COMMON_NAME_CHARS: Final = 64
"""RFC 5280, appendix A: ub-common-name."""


class BadRequest(ValueError):  # noqa: N818
    """A signing request that is not signed for; why."""


class BadCertificate(ValueError):  # noqa: N818
    """A certificate, a chain or a key that cannot be used; why."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """For an authority, or the control plane itself."""
    return ec.generate_private_key(ec.SECP256R1())


def make_root(trust_domain: str, key: ec.EllipticCurvePrivateKey, now_s: float) -> x509.Certificate:
    """Signed by itself. Its name tells it from others of the same mesh."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    name = _name(f"{trust_domain} root {identifier}")
    builder = _authority(trust_domain, name, name, key.public_key(), key.public_key(), path_length=2)
    return _between(builder, now_s - BACKDATED_S, now_s + ROOT_S).sign(key, hashes.SHA256())


def make_cross(
    trust_domain: str, root: x509.Certificate, old: x509.Certificate, old_key: CertificateIssuerPrivateKeyTypes
) -> x509.Certificate:
    """A root, signed by the one before it; it outlives neither."""
    builder = _authority(
        trust_domain, root.subject, old.subject, _issuing(root.public_key()), old.public_key(), path_length=1
    )
    begins_s, ends_s = max(begins(root), begins(old)), min(ends(root), ends(old))
    return _between(builder, begins_s, ends_s).sign(old_key, _digest(old_key))


def make_intermediate(
    trust_domain: str,
    public_key: CertificatePublicKeyTypes,
    root: x509.Certificate,
    root_key: CertificateIssuerPrivateKeyTypes,
    now_s: float,
) -> x509.Certificate:
    """Signed by a root, which it does not outlive."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()[:8]
    name = _name(f"{trust_domain} intermediate {identifier}")
    builder = _authority(trust_domain, name, root.subject, public_key, root.public_key(), path_length=0)
    ends_s = min(now_s + INTERMEDIATE_S, ends(root))
    return _between(builder, max(now_s - BACKDATED_S, begins(root)), ends_s).sign(root_key, _digest(root_key))


def make_leaf(
    identity: str,
    common_name: str,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    now_s: float,
    lifetime_s: float,
) -> x509.Certificate:
    """
    Of a workload.

    Args:
        identity: Its SPIFFE ID, the only name that peers look at.
        common_name: For people; empty for none.
    """
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _leaf(x509.UniformResourceIdentifier(identity), common_name, public_key, issuer, both)
    begins_s, ends_s = max(now_s - BACKDATED_S, begins(issuer)), min(now_s + lifetime_s, ends(issuer))
    return _between(builder, begins_s, ends_s).sign(issuer_key, _digest(issuer_key))


def make_host_root(host: str, key: ec.EllipticCurvePrivateKey, now_s: float, lifetime_s: float) -> x509.Certificate:
    """Signed by itself, and believed for this name of DNS alone."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    name = _name(f"{host[: _MAX_COMMON_NAME_CHARS - 14]} root {identifier}")
    builder = _constrained(x509.DNSName(host), name, name, key.public_key(), key.public_key(), path_length=0)
    return _between(builder, now_s - BACKDATED_S, now_s + lifetime_s).sign(key, hashes.SHA256())


def make_host_leaf(
    host: str,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    issuer_key: CertificateIssuerPrivateKeyTypes,
    now_s: float,
    lifetime_s: float,
) -> x509.Certificate:
    """Of a server that is called by this name of DNS."""
    builder = _leaf(x509.DNSName(host), host, public_key, issuer, [ExtendedKeyUsageOID.SERVER_AUTH])
    begins_s, ends_s = max(now_s - BACKDATED_S, begins(issuer)), min(now_s + lifetime_s, ends(issuer))
    return _between(builder, begins_s, ends_s).sign(issuer_key, _digest(issuer_key))


def read_request(pem: str) -> CertificatePublicKeyTypes:
    """
    The key for which a certificate is asked. Nothing else in the request counts.

    Raises:
        BadRequest: It is none, is not signed by its own key, or the key is of a kind that is not signed for.
    """
    if len(pem) > MAX_REQUEST_CHARS:
        raise BadRequest(f"expected a signing request of at most {MAX_REQUEST_CHARS} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    # What the library raises for octets of a peer is not all documented: it is no request, whatever it is.
    except Exception:
        raise BadRequest("expected a PKCS#10 signing request in PEM, with a key of a kind that is known") from None
    if not is_signed:
        raise BadRequest("expected a request that is signed by its own key")
    return checked_key(key)


def checked_key(key: object) -> CertificatePublicKeyTypes:
    """A key of a kind that is signed for. Raises BadRequest."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        return key
    raise BadRequest("expected a key of P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits")


# --- reading and writing ------------------------------------------------------------------------------------------


def read_certificates(pem: str) -> list[x509.Certificate]:
    """All in the text, at least one. Raises BadCertificate."""
    if len(pem) > MAX_PEM_CHARS:
        raise BadCertificate(f"expected certificates of at most {MAX_PEM_CHARS} characters")
    try:
        found = [_whole(one) for one in x509.load_pem_x509_certificates(pem.encode())]
    except Exception:  # as of requests
        raise BadCertificate("expected certificates in PEM") from None
    if not found:
        raise BadCertificate("expected certificates in PEM, found none")
    return found


def read_der(der: bytes) -> x509.Certificate:
    """One, as TLS has it. Raises BadCertificate."""
    try:
        return _whole(x509.load_der_x509_certificate(der))
    except Exception:  # as of requests
        raise BadCertificate("expected a certificate") from None


def read_key(pem: str) -> CertificateIssuerPrivateKeyTypes:
    """A private key that is not encrypted. Raises BadCertificate, which says nothing of its text."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except Exception:
        raise BadCertificate("expected a private key in PEM, without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise BadCertificate("expected a key of an elliptic curve, RSA or Ed25519")
    return key


def text_of(certificates: Sequence[x509.Certificate]) -> str:
    """In PEM, in this order."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def text_of_key(key: CertificateIssuerPrivateKeyTypes) -> str:
    """In PEM, as PKCS#8, not encrypted: for the engine and nobody else."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def fingerprint(one: x509.Certificate) -> str:
    """SHA-256 of its DER, 64 lower-case hexadecimal digits, as a token's text has it."""
    return one.fingerprint(hashes.SHA256()).hex()


def begins(one: x509.Certificate) -> float:
    """When it begins, in seconds since the Unix epoch."""
    return one.not_valid_before_utc.timestamp()


def ends(one: x509.Certificate) -> float:
    """When it ends."""
    return one.not_valid_after_utc.timestamp()


def is_pair(one: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> bool:
    """Whether this is the key of this certificate."""
    return _octets(one.public_key()) == _octets(key.public_key())


def key_octets(key: CertificatePublicKeyTypes) -> bytes:
    """A public key, to be compared or hashed."""
    return _octets(key)


def is_authority(one: x509.Certificate) -> bool:
    """Whether it may sign certificates."""
    try:
        constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def identity_of(one: x509.Certificate) -> str:
    """The SPIFFE ID of a leaf; empty without exactly one URI (SPIFFE X.509-SVID, 2), or if it is an authority."""
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return str(uris[0]) if len(uris) == 1 and not is_authority(one) else ""


def common_name_of(one: x509.Certificate) -> str:
    """For people; empty if there is none."""
    found = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def root_of(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], helpers: Sequence[x509.Certificate] = ()
) -> x509.Certificate | None:
    """
    The root to which a leaf chains, as it was when the leaf ended or will be; None if to none of these.

    For the one form that our leaves have: a leaf, one or two authorities, a root that is known. TLS has verified what
    it was shown; this is for what is shown without it. (The library's own verifier refuses name constraints on URIs.)

    Args:
        chain: Leaf first.
        helpers: Authorities that are known besides.
    """
    leaf = chain[0]
    issued, at_s = leaf, ends(leaf)
    # Each step goes up by one; a leaf of ours has at most two authorities below its root.
    for _ in range(3):
        root = next((one for one in roots if _has_signed(one, issued, at_s)), None)
        if root is not None:
            return root
        above = next((one for one in (*chain[1:], *helpers) if one != issued and _has_signed(one, issued, at_s)), None)
        if above is None:
            return None
        issued = above
    return None


def _has_signed(issuer: x509.Certificate, issued: x509.Certificate, at_s: float) -> bool:
    if not is_authority(issuer) or not begins(issuer) <= at_s <= ends(issuer):
        return False
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _whole(one: x509.Certificate) -> x509.Certificate:
    """That can be read in all its parts: the library reads each when it is asked for, and may raise anything then."""
    for extension in one.extensions:
        _ = extension.value
    _ = one.public_key(), one.subject.rfc4514_string(), one.issuer.rfc4514_string(), common_name_of(one)
    _ = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp(), one.serial_number
    return one


# --- parts --------------------------------------------------------------------------------------------------------


def _leaf(
    name: x509.GeneralName,
    common_name: str,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    uses: Sequence[x509.ObjectIdentifier],
) -> x509.CertificateBuilder:
    # RFC 5280, 4.2.1.6: without a subject, the alternative name is critical.
    has_subject = 0 < len(common_name) <= _MAX_COMMON_NAME_CHARS
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name) if has_subject else x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([name]), not has_subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_usage(is_authority=False), True)
        .add_extension(x509.ExtendedKeyUsage(uses), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        .add_extension(_issuer_identifier(issuer), False)
    )


def _authority(
    trust_domain: str,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer_key: CertificatePublicKeyTypes,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    domain = x509.UniformResourceIdentifier(trust_domain)
    return _constrained(domain, subject, issuer, public_key, issuer_key, path_length=path_length)


def _constrained(
    permitted: x509.GeneralName,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer_key: CertificatePublicKeyTypes,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), True)
        .add_extension(_usage(is_authority=True), True)
        .add_extension(x509.NameConstraints([permitted], None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_issuing(issuer_key)), False)
    )


def _issuing(key: CertificatePublicKeyTypes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey)
    return key


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(_issuing(issuer.public_key()))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _between(builder: x509.CertificateBuilder, begins_s: float, ends_s: float) -> x509.CertificateBuilder:
    # Whole seconds, as certificates have them; the end is never later than was said.
    return builder.not_valid_before(datetime.fromtimestamp(int(begins_s), UTC)).not_valid_after(
        datetime.fromtimestamp(int(ends_s), UTC)
    )


def _digest(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return None
    is_large = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if is_large else hashes.SHA256()


def _octets(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
