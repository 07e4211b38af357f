"""
The webhook's own authority: one for all replicas, in a Secret, made anew before it ends.

It is not the mesh's: whom the API server believes about this one name is nothing to any workload, and may not sign for
one. Each replica has a key and a leaf of its own, in memory alone (`certificate`).

    year 0      root A signs; the API believes A
    8 months    root B is made beside it: the API believes A and B, A signs
    a day on    B signs, for by then every replica has told the API of it
    year 1      A has ended, and goes

Replicas agree by compare-and-set: who writes second reads what the first one wrote (`Secrets.swap`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from sidecar.control.authority import certificates as pki
from sidecar.control.engines.interface import Conflict, Secrets, Unavailable
from sidecar.process_log import event
from sidecar.webhook.known import SECRET

logger = logging.getLogger(__name__)

ROOT_S: Final = 365 * pki.DAY_S
SUCCEEDED_AFTER_S: Final = ROOT_S * 2 / 3
OVERLAP_S: Final = pki.DAY_S
"""A new root is believed for so long before it signs: a thousand times what a replica takes to tell the API of it."""
_FORMAT: Final = 1
_MOST: Final = 8
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Root:
    """Who signs: certificate and key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes = field(repr=False)

    @property
    def made_s(self) -> float:
        """When it was made, in seconds since the Unix epoch."""
        return pki.begins(self.certificate) + pki.BACKDATED_S


def due(roots: Sequence[Root], host: str, now_s: float) -> tuple[Root, ...]:
    """The roots that there should be now, oldest first: the same ones, or without who has ended, or with a new one."""
    kept = tuple(one for one in roots if pki.ends(one.certificate) > now_s)
    if kept and now_s - kept[-1].made_s < SUCCEEDED_AFTER_S:
        return kept
    key = pki.new_key()
    return (*kept, Root(pki.make_host_root(host, key, now_s, ROOT_S), key))


def signing(roots: Sequence[Root], now_s: float) -> Root:
    """Who signs now: the newest that everybody has had the time to hear of, or the oldest."""
    known = [one for one in roots if now_s - one.made_s >= OVERLAP_S]
    return known[-1] if known else roots[0]


def bundle_of(roots: Sequence[Root]) -> str:
    """In PEM, all of them."""
    return pki.text_of([one.certificate for one in roots])


def written(roots: Sequence[Root]) -> bytes:
    """As the Secret has them."""
    listed = [{"certificate": pki.text_of([one.certificate]), "key": pki.text_of_key(one.key)} for one in roots]
    return json.dumps({"format": _FORMAT, "roots": listed}).encode()


def read_back(raw: bytes) -> tuple[Root, ...]:
    """
    What `written` wrote.

    Raises:
        ValueError: It is something else.
    """
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("expected JSON") from None
    listed = values.get("roots") if isinstance(values, dict) and values.get("format") == _FORMAT else None
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST:
        raise ValueError(f"expected format {_FORMAT} with roots")
    found = []
    for one in listed:
        texts = (one.get("certificate"), one.get("key")) if isinstance(one, dict) else (None, None)
        certificate, key = texts
        if not isinstance(certificate, str) or not isinstance(key, str):
            raise ValueError("expected a certificate and a key")
        root = Root(pki.read_certificates(certificate)[0], pki.read_key(key))
        if not pki.is_pair(root.certificate, root.key) or not pki.is_authority(root.certificate):
            raise ValueError("expected the key of an authority's certificate")
        found.append(root)
    return tuple(sorted(found, key=lambda one: one.made_s))


async def shared(secrets: Secrets, host: str, now_s: float) -> tuple[Root, ...]:
    """
    The roots of all replicas, made or renewed where that is due.

    Raises:
        Unavailable: They cannot be read or written, or somebody has damaged them.
    """
    for _ in range(_TRIES):
        found = await secrets.read(SECRET)
        try:
            roots = read_back(found.value) if found is not None else ()
        except ValueError as error:
            raise Unavailable(
                f"what the Secret of {SECRET} has is damaged: {error}; delete it, and another authority is made"
            ) from None
        wanted = due(roots, host, now_s)
        if wanted == roots:
            return roots
        try:
            await secrets.swap(SECRET, written(wanted), found.version if found is not None else "")
        except Conflict:
            continue
        logger.info(
            event("webhook_authority", roots=len(wanted), host=host, not_after=int(pki.ends(wanted[-1].certificate)))
        )
        return wanted
    raise Unavailable("others write the webhook's authority all the time")
