"""What the webhook shows by TLS: files that are followed, or what its own authority signs. *On the loop.*"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from sidecar.control.authority import certificates as pki
from sidecar.control.engines.interface import Secrets
from sidecar.process_log import event
from sidecar.security.identity.certificates.pair import KeyPair, read_pair
from sidecar.webhook import authority
from sidecar.webhook.authority import Root

logger = logging.getLogger(__name__)

LEAF_S: Final = 7 * pki.DAY_S
MAX_FILE_BYTES: Final = 1024 * 1024


class Certificate(Protocol):
    """
    What is shown.

    Attributes:
        bundle: In PEM, whom the API must believe; empty: that is nothing of ours to say.
    """

    bundle: str

    async def refresh(self) -> None:
        """
        Look whether there is a new one, and take it; what was there goes on if it cannot be taken.

        Raises:
            TroubleError, OSError, EngineError, ValueError: Why not.
        """

    def context(self) -> ssl.SSLContext | None:
        """For connections that are taken now; None: there is nothing to show, or it has ended."""

    def endings(self) -> Mapping[str, float]:
        """When each certificate ends, in seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class _Held:
    pair: KeyPair
    context: ssl.SSLContext = field(repr=False)


class GivenCertificate:
    """
    Of files, by whoever writes them: cert-manager, an operator. `Certificate`.

    Args:
        certificate, key: Their paths.
        ca: Path of the certificates that the API is to believe; empty: somebody else tells it.
        now_s: Since the Unix epoch.
    """

    def __init__(self, certificate: str, key: str, ca: str, now_s: Callable[[], float]) -> None:
        self.bundle = ""
        self._paths = (certificate, key, ca)
        self._now_s = now_s
        self._made_of: tuple[bytes, bytes, bytes] | None = None
        self._held: _Held | None = None

    async def refresh(self) -> None:
        """As `Certificate`. A file is read each time, for its time stamps say little on some mounts."""
        found = await asyncio.to_thread(_read_all, *self._paths)
        if found == self._made_of:
            return
        certificate, key, ca = found
        held = await asyncio.to_thread(_held, certificate, key, *self._paths[:2])
        if not held.pair.is_for_servers:
            raise ValueError(f"{self._paths[0]}: expected a certificate for servers (extended key usage serverAuth)")
        try:
            bundle = pki.text_of(pki.read_certificates(ca.decode("ascii", "replace"))) if self._paths[2] else ""
        except ValueError as error:
            raise ValueError(f"{self._paths[2]}: {error}") from None
        self.bundle = bundle
        self._held, self._made_of = held, found
        logger.info(event("certificate_taken", file=self._paths[0], not_after=int(held.pair.leaf.not_after_s)))

    def context(self) -> ssl.SSLContext | None:
        """As `Certificate`."""
        held = self._held
        return held.context if held is not None and self._now_s() < held.pair.leaf.not_after_s else None

    def endings(self) -> Mapping[str, float]:
        """As `Certificate`."""
        return {"leaf": self._held.pair.leaf.not_after_s} if self._held is not None else {}


class MadeCertificate:
    """
    By the authority that all replicas share. `Certificate`.

    Args:
        secrets: Have that authority.
        host: By which the API calls us: `NAME.NAMESPACE.svc`.
        now_s: Since the Unix epoch.
    """

    def __init__(self, secrets: Secrets, host: str, now_s: Callable[[], float]) -> None:
        self.bundle = ""
        self._secrets = secrets
        self._host = host
        self._now_s = now_s
        self._held: _Held | None = None
        self._signed_by: Root | None = None
        self._root_ends_s = 0.0

    async def refresh(self) -> None:
        """As `Certificate`: half of its time is over, or another root signs."""
        now_s = self._now_s()
        roots = await authority.shared(self._secrets, self._host, now_s)
        signer = authority.signing(roots, now_s)
        held, before = self._held, self._signed_by
        is_same = before is not None and before.certificate == signer.certificate
        if held is None or not is_same or now_s > _renewed_after_s(held.pair):
            self._held = await asyncio.to_thread(_made, self._host, signer, now_s)
            self._signed_by = signer
            logger.info(event("certificate_made", host=self._host, not_after=int(self._held.pair.leaf.not_after_s)))
        self.bundle = authority.bundle_of(roots)
        self._root_ends_s = pki.ends(roots[-1].certificate)

    def context(self) -> ssl.SSLContext | None:
        """As `Certificate`."""
        held = self._held
        return held.context if held is not None and self._now_s() < held.pair.leaf.not_after_s else None

    def endings(self) -> Mapping[str, float]:
        """As `Certificate`."""
        if self._held is None:
            return {}
        return {"leaf": self._held.pair.leaf.not_after_s, "root": self._root_ends_s}


def _renewed_after_s(pair: KeyPair) -> float:
    return (pair.leaf.not_before_s + pair.leaf.not_after_s) / 2


def _made(host: str, signer: Root, now_s: float) -> _Held:
    key = pki.new_key()
    leaf = pki.make_host_leaf(host, key.public_key(), signer.certificate, signer.key, now_s, LEAF_S)
    words = f"the webhook's certificate for {host}", "its key"
    return _held(pki.text_of([leaf]).encode(), pki.text_of_key(key).encode(), *words)


def _held(certificate: bytes, key: bytes, certificate_at: str, key_at: str) -> _Held:
    pair = read_pair(certificate, key, certificate_at, key_at)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Go has spoken it since 1.12, so every API server with native sidecars does.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    pair.show_by(context)
    return _Held(pair, context)


def _read_all(certificate: str, key: str, ca: str) -> tuple[bytes, bytes, bytes]:
    return _read(certificate), _read(key), _read(ca) if ca else b""


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_FILE_BYTES} octets")
    return raw
