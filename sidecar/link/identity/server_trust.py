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
from contextlib import suppress
from typing import Any, Final

from sidecar.link.identity.held import Held
from sidecar.link.transport.tls import PROTOCOLS, NoTlsError, Terms, Tls, anybody

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

    async def takes_token(self) -> bool:
        """As in `Tls`."""
        return False

    async def terms(self) -> Terms:
        """As in `Tls`."""
        context = _context()
        context.verify_mode = ssl.CERT_NONE
        return Terms(context, anybody, self.version)


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

    async def takes_token(self) -> bool:
        """As in `Tls`."""
        return False

    async def terms(self) -> Terms:
        """As in `Tls`."""
        return Terms(made(self._roots, self._pair), self.refuses, self.version)

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
        instead: What holds as long as nothing is held and `is_instead` says so: a control plane that signs nothing.
    """

    def __init__(
        self,
        held: Callable[[], Held | None],
        why_none: Callable[[], str],
        limit_s: float,
        instead: Tls | None = None,
        is_instead: Callable[[], bool] = lambda: False,
    ) -> None:
        self._held = held
        self._why_none = why_none
        self._limit_s = limit_s
        self._instead = instead
        self._is_instead = is_instead
        self._changed = asyncio.Event()
        self._known: tuple[Held, Terms] | None = None
        self._changes = 0

    @property
    def version(self) -> int:
        """As in `Tls`."""
        return self._changes

    def changed(self) -> None:
        """Something else is held."""
        self._changes += 1
        self.wake()

    def wake(self) -> None:
        """Who waits for something to be held may look again."""
        self._changed.set()

    async def takes_token(self) -> bool:
        """As in `Tls`: only where nobody can be told by a certificate who we are."""
        return await self._settled() is None

    async def terms(self) -> Terms:
        """As in `Tls`."""
        held = await self._settled()
        if held is None:
            assert self._instead is not None
            return (await self._instead.terms())._replace(version=self.version)
        if self._known is None or self._known[0] is not held:
            trust = ServerTrust(held.trust, held.trust_domain, (held.certificate, held.key))
            self._known = held, await trust.terms()
        return self._known[1]._replace(version=self.version)

    async def _settled(self) -> Held | None:
        """What is held; None where something else holds instead."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit_s):
                await self._next()
        held = self._held()
        if held is None and (self._instead is None or not self._is_instead()):
            raise NoTlsError(f"no identity yet: {self._why_none()}")
        return held

    async def _next(self) -> None:
        while self._held() is None and not self._is_instead():
            self._changed.clear()
            await self._changed.wait()


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
