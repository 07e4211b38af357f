"""A set of keys from its address, in a thread. *Cold; blocks.*"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from sidecar import __version__
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.tokens.rules import SYSTEM, KeySource

WAIT_S: Final = 5.0
"""For a connection, and for each piece of the answer."""
WHOLE_S: Final = 10.0
MAX_BYTES: Final = 1024 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Whoever is asked answers; else a slip of a redirect would lead from `https` to anywhere."""

    def redirect_request(self, *args: Any) -> None:
        return None


def fetch(source: KeySource, machine_trust: str = "") -> bytes:
    """
    What is at the address of a source. Proxies are those of the environment, as `curl` takes them.

    Args:
        machine_trust: The file of roots that `system` means; empty: those that OpenSSL finds.

    Raises:
        TroubleError: `source_failed`: with what happened; `unreadable`: its roots cannot be read.
    """
    deadline_s = time.monotonic() + WHOLE_S
    trust = machine_trust if source.trust == SYSTEM else source.trust
    try:
        context = ssl.create_default_context(cafile=trust or None)
    except (OSError, ValueError) as error:
        raise TroubleError("unreadable", f"{trust}: no roots can be read of it: {_why(error)}") from None
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": f"sidecar/{__version__}"}
    try:
        with opener.open(urllib.request.Request(source.url, headers=headers), timeout=WAIT_S) as answer:
            return _body(answer, source.url, deadline_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise TroubleError("source_failed", f"{source.url}: answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise TroubleError("source_failed", f"{source.url}: {_why(error)}") from None


def _body(answer: HTTPResponse, url: str, deadline_s: float) -> bytes:
    if answer.status != 200:
        raise TroubleError("source_failed", f"{url}: answered {answer.status}")
    pieces: list[bytes] = []
    left = MAX_BYTES + 1
    while left > 0:
        piece = answer.read1(min(left, 65536))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
        if time.monotonic() > deadline_s:
            raise TroubleError("source_failed", f"{url}: not answered within {WHOLE_S:g} s")
    else:
        raise TroubleError("source_failed", f"{url}: expected at most {MAX_BYTES} bytes, got more")
    if answer.length:
        raise TroubleError("source_failed", f"{url}: the answer was cut")
    return b"".join(pieces)


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    inner = reason if isinstance(reason, Exception) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {inner.verify_message}"
    text = (getattr(inner, "strerror", None) or str(reason or error) or type(error).__name__).lower()
    return text[:200]
