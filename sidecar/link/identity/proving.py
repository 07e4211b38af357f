"""Whether what an authority has signed is good, as a peer will see it. *Cold: on a thread.*"""

from __future__ import annotations

import asyncio
import time

from sidecar.link.identity.interfaces import Proved, UnusableError
from sidecar.security.identity.certificates.credentials import Credentials, Material, read_credentials
from sidecar.security.identity.certificates.trouble import TroubleError


def material_of(certificate: str, key: str, trust: str, renew_after_s: float | None = None) -> Material:
    """As `security.identity` judges it."""
    return Material(
        certificate.encode(), key.encode(), trust.encode(), "the certificate from the control plane",
        "the key that was made for it", "the roots from the control plane", renew_after_s,
    )  # fmt: skip


async def prove(certificate: str, key: str, trust: str) -> Proved:
    """`interfaces.Prove`, by handshakes with oneself."""
    try:
        found: Credentials = await asyncio.to_thread(
            read_credentials, material_of(certificate, key, trust), time.time()
        )
    except TroubleError as error:
        raise UnusableError(error.trouble.text) from None
    except OSError as error:
        raise UnusableError(f"it cannot be judged now: {error.strerror or type(error).__name__}".lower()) from None
    return Proved(found.identity, found.leaf.issuer, found.leaf.not_before_s, found.leaf.not_after_s)
