"""An authority in memory with a clock that the test holds, and what a sidecar's helper does: keys, requests, proofs."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.control.authority.authority import NAME, Authority
from sidecar.control.authority.issued import IssuedRecord
from sidecar.control.authority.joining import Joining
from sidecar.control.authority.tokens import JoinTokens
from sidecar.control.engines.interface import Accounts, Secrets
from sidecar.control.engines.secrets.disk import MemorySecrets
from sidecar.link.identity.messages import text_to_sign

BEGAN_S = 1_800_000_000.0
DAY_S = 86_400.0


class Clock:
    """Seconds since the Unix epoch, and monotonic ones: the same."""

    def __init__(self, now_s: float = BEGAN_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def new_key(kind: str = "P-256") -> Any:
    """A private key."""
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def request(key: Any, common_name: str = "", uri: str = "") -> str:
    """A signing request in PEM, with names that nobody heeds."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if uri:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()


def request_der(pem: str) -> bytes:
    """The same in DER."""
    return x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER)


def signature(key: Any, nonce: str, request_der: bytes) -> str:
    """Of an old key, for a request with a new one, as docs/mesh-protocol.md has it for each kind of key."""
    signed = text_to_sign(nonce, request_der)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.sign(signed)
    elif isinstance(key, rsa.RSAPrivateKey):
        raw = key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        raw = key.sign(signed, ec.ECDSA(hashes.SHA384() if key.curve.name == "secp384r1" else hashes.SHA256()))
    return base64.urlsafe_b64encode(raw).decode()


class World:
    """
    Args:
        accounts: Know service accounts.
        secrets: Shared by worlds that are replicas of one mesh.
    """

    def __init__(
        self, accounts: Accounts | None = None, secrets: Secrets | None = None, clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.secrets: Secrets = secrets or MemorySecrets()
        self.authority = Authority(self.secrets, self.clock, lambda: self.mesh_name)
        self.tokens = JoinTokens(self.secrets, self.clock)
        self.issued = IssuedRecord(self.secrets, self.clock)
        self.services: dict[str, tuple[str, ...]] = {}
        self.mesh_name = ""
        self.joining = Joining(
            self.authority, self.tokens, self.issued, accounts, lambda identity: self.services.get(identity, ()),
            self.clock, self.clock,
        )  # fmt: skip

    async def open(self) -> steps.Record:
        """With an authority of the mesh `shop`."""
        return await self.authority.create("shop")

    @property
    def record(self) -> steps.Record:
        """As it was read last."""
        assert self.authority.record is not None
        return self.authority.record

    async def change(self, step: Any) -> None:
        """As a command does it, and this replica reads it."""
        found = await self.secrets.read(NAME)
        assert found is not None
        after = step(steps.read_record(found.value))
        await self.secrets.swap(NAME, steps.written(after), found.version)
        await self.authority.refresh()


def read(pem: str) -> list[x509.Certificate]:
    """All certificates in a text."""
    return pki.read_certificates(pem)


def write(folder: Path, **texts: str) -> dict[str, str]:
    """Files with these texts; their paths."""
    for name, text in texts.items():
        (folder / f"{name}.pem").write_text(text)
    return {name: str(folder / f"{name}.pem") for name in texts}
