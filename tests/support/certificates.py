"""
Certificates of every right and wrong kind, made by `cryptography`, which only tests and the control plane import.

    shop = Authority("shop root")
    middle = shop.authority("shop issuer", ends=NOW + 90 * DAY)
    leaf = middle.workload("spiffe://shop/storefront")
    leaf.chain_pem, leaf.key_pem, shop.pem

Times are seconds since the Unix epoch. `NOW` is when a test's world begins; what is not said otherwise began an hour
before it, and ends a week after it (leaves) or in ten years (authorities).
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR: Final = 3600
DAY: Final = 24 * HOUR
NOW: Final = int(time.time())

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

FOR_SERVERS: Final = ExtendedKeyUsageOID.SERVER_AUTH
FOR_CLIENTS: Final = ExtendedKeyUsageOID.CLIENT_AUTH
FOR_CODE: Final = ExtendedKeyUsageOID.CODE_SIGNING


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of P-256."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def weak_key() -> rsa.RSAPrivateKey:
    """A key of RSA that is shorter than TLS takes today."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def key_pem_of(key: Key, password: bytes | None = None) -> bytes:
    """In PKCS 8."""
    by: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, by)


def name_of(common_name: str) -> x509.Name:
    """A subject; empty if the name is."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def at(seconds: float) -> datetime.datetime:
    """As `cryptography` wants times."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


@dataclass
class Leaf:
    """A certificate that signs nothing, its key, and those above it without the root."""

    certificate: x509.Certificate
    key: Key
    above: Sequence[x509.Certificate] = ()

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        """And who signed it."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        """The key."""
        return key_pem_of(self.key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, folder: Path, certificate: str = "tls.crt", key: str = "tls.key") -> None:
        """Into two files."""
        (folder / key).write_bytes(self.key_pem)
        (folder / certificate).write_bytes(self.chain_pem)


@dataclass
class Authority:
    """
    Who signs: a root, or by `authority` one below.

    Args:
        name: Its common name.
        begins, ends: Its life.
        key: Its own; two of one name and different keys are what a rotation has.
    """

    name: str
    begins: float = NOW - HOUR
    ends: float = NOW + 3650 * DAY
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    parent: Authority | None = None
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        signer = self.parent or self
        self.certificate = (
            _begun(self.name, signer.name, self.key, self.begins, self.ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What who is signed by it has above: it and those above it, without the root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    def authority(self, name: str, begins: float = NOW - HOUR, ends: float = NOW + 90 * DAY) -> Authority:
        """One below it."""
        return Authority(name, begins, ends, parent=self)

    def workload(self, *identities: str, begins: float = NOW - HOUR, ends: float = NOW + 7 * DAY) -> Leaf:
        """An SVID; one with no identity, or several, is a wrong one."""
        return self.leaf(uris=identities, begins=begins, ends=ends)

    def leaf(
        self,
        names: Sequence[str] = (),
        uris: Sequence[str] = (),
        *,
        common_name: str = "",
        begins: float = NOW - HOUR,
        ends: float = NOW + 7 * DAY,
        uses: Sequence[x509.ObjectIdentifier] = (FOR_SERVERS, FOR_CLIENTS),
        key: Key | None = None,
    ) -> Leaf:
        """A certificate for these DNS names, addresses and URIs."""
        key = key or new_key()
        others: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        for name in names:
            try:
                others.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                others.append(x509.DNSName(name))
        builder = (
            _begun(common_name, self.name, key, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=not common_name)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key, self.chain)


def _begun(subject: str, issuer: str, key: Key, begins: float, ends: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at(begins))
        .not_valid_after(at(ends))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def identity_of(folder: Path, leaf: Leaf, *roots: Authority) -> str:
    """Certificate, key and roots in a folder; the value of a file's `identity`."""
    folder.mkdir(exist_ok=True, parents=True)
    leaf.write(folder)
    (folder / "ca.crt").write_bytes(b"".join(one.pem for one in roots))
    paths = {"certificate": f"{folder}/tls.crt", "key": f"{folder}/tls.key", "trust": f"{folder}/ca.crt"}
    return json.dumps({"from": {"files": paths}})
