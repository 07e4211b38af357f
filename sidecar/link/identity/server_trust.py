"""
Verifying a control plane by its identity, `spiffe://MESH/control`, and showing it ours. *Cold.*

    Anyone        nobody is verified: only to be given roots, of which one is known by its SHA-256 beforehand
    ServerTrust   by these roots and this identity, perhaps with a certificate of ours
    HeldTrust     the same, by whatever is held at the time: for the stream and the reports
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from sidecar.link.identity.held import Held
from sidecar.link.transport.tls import PROTOCOLS, NoTlsError

CONTROL: Final = "control"
"""The path of the control plane's identity; no service may have the name."""
_END: Final = "-----END CERTIFICATE-----"
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def certificates_of(pem: str) -> list[str]:
    """The certificates of a bundle, each by itself in PEM; what is between them is left out."""
    found = []
    for piece in pem.split(_END)[:-1]:
        _, begin, content = piece.partition(_BEGIN)
        if begin:
            found.append(f"{_BEGIN}{content}{_END}\n")
    return found


def fingerprints_of(pem: str) -> dict[str, str]:
    """
    The certificates of a bundle by the SHA-256 of their DER.

    Raises:
        ValueError: One is none.
    """
    return {hashlib.sha256(ssl.PEM_cert_to_DER_cert(one)).hexdigest(): one for one in certificates_of(pem)}


class Anyone:
    """A `Tls`. Nothing that is secret may be said on such a connection, and nothing believed that comes by it."""

    version = 0

    async def context(self) -> ssl.SSLContext:
        """As in `Tls`."""
        context = _context()
        context.verify_mode = ssl.CERT_NONE
        return context

    def refuses(self, certificate: Mapping[str, Any]) -> str:
        """Nobody."""
        return ""


class ServerTrust:
    """
    A `Tls`.

    Args:
        roots: PEM.
        trust_domain: Of the control plane; empty to learn it: the roots are of one mesh alone then.
        pair: Chain and key of ours in PEM; None to show nothing.

    Attributes:
        trust_domain: Of the control plane that was met.
    """

    version = 0

    def __init__(self, roots: str, trust_domain: str = "", pair: tuple[str, str] | None = None) -> None:
        self.trust_domain = trust_domain
        self._roots = roots
        self._pair = pair

    async def context(self) -> ssl.SSLContext:
        """As in `Tls`."""
        return made(self._roots, self._pair)

    def refuses(self, certificate: Mapping[str, Any]) -> str:
        """Whoever is not the control plane of the mesh."""
        found = [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        wanted = f"spiffe://{self.trust_domain or '*'}/{CONTROL}"
        if len(found) == 1 and found[0].startswith("spiffe://"):
            trust_domain, _, path = found[0].removeprefix("spiffe://").partition("/")
            if path == CONTROL and trust_domain and trust_domain == (self.trust_domain or trust_domain):
                self.trust_domain = trust_domain
                return ""
        shown = " and ".join(found) or "nobody by a SPIFFE ID"
        return f"it is not the mesh's control plane: expected {wanted}, found {shown}"


class HeldTrust:
    """
    A `Tls` by what is held.

    Args:
        held: What is held and valid now; None for nothing.
        why_none: In words.
        limit_s: How long a connection may wait for something to be held.

    Attributes:
        version: One more whenever something else is held.
    """

    def __init__(self, held: Callable[[], Held | None], why_none: Callable[[], str], limit_s: float) -> None:
        self.version = 0
        self._held = held
        self._why_none = why_none
        self._limit_s = limit_s
        self._changed = asyncio.Event()
        self._made: tuple[Held, ssl.SSLContext] | None = None
        self._trust: ServerTrust | None = None

    def changed(self) -> None:
        """Something else is held."""
        self.version += 1
        self._changed.set()

    async def context(self) -> ssl.SSLContext:
        """As in `Tls`."""
        if self._held() is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        held = self._held()
        if held is None:
            raise NoTlsError(f"no identity yet: {self._why_none()}")
        if self._made is None or self._made[0] is not held:
            self._made = held, made(held.trust, (held.certificate, held.key))
            self._trust = ServerTrust(held.trust, held.trust_domain)
        return self._made[1]

    def refuses(self, certificate: Mapping[str, Any]) -> str:
        """As `ServerTrust`."""
        return self._trust.refuses(certificate) if self._trust is not None else "nothing is held"


def made(roots: str, pair: tuple[str, str] | None) -> ssl.SSLContext:
    """
    A context that believes these roots alone.

    Raises:
        NoTlsError: They, or our own pair, cannot be used.
    """
    context = _context()
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=roots)
        if pair is not None:
            _load_pair(context, *pair)
    except (ssl.SSLError, ValueError) as error:
        what = "our certificate and key" if pair is not None else "the roots"
        raise NoTlsError(f"{what} cannot be used: {getattr(error, 'reason', None) or type(error).__name__}") from None
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Who it is, is said by its identity: `refuses`.
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(PROTOCOLS)
    return context


def _load_pair(context: ssl.SSLContext, chain: str, key: str) -> None:
    """`load_cert_chain` takes paths: of a file that is nowhere but in memory."""
    with os.fdopen(os.memfd_create("pair"), "w+b") as file:
        file.write(f"{key}\n{chain}\n".encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
