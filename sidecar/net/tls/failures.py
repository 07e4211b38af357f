"""What a failed handshake, or an alert, means, and what one can do about it. *Cold, pure.*"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeGuard

from sidecar import errors
from sidecar.errors import Reason

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = frozenset({9, 13})
_CERT_HAS_EXPIRED: Final = 10
_EXPIRED: Final = frozenset({_CERT_HAS_EXPIRED, 14})
_WRONG_NAME: Final = frozenset({62, 63, 64})

_ALERT: Final = re.compile(r"ALERT_(.+)")
_CERTIFICATE_ALERTS: Final = frozenset(
    {
        "ACCESS_DENIED", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REQUIRED", "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "UNSUPPORTED_CERTIFICATE",
    }
)  # fmt: skip
"""Alerts about what the other one was shown (RFC 8446, 6.2)."""

_WANTED: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": errors.CLIENT_CERTIFICATE_MISSING,
    "NO_APPLICATION_PROTOCOL": errors.CLIENT_TLS_ALPN,
}

_CLIENTS: Final = (
    errors.CLIENT_CERTIFICATE_EXPIRED, errors.CLIENT_CERTIFICATE_NOT_YET_VALID, errors.CLIENT_CERTIFICATE_UNTRUSTED,
    errors.CLIENT_IDENTITY_MISMATCH, errors.CLIENT_REFUSED_CERTIFICATE, errors.CLIENT_TLS_ALPN,
    errors.CLIENT_TLS_FAILED,
)  # fmt: skip
_SERVERS: Final = (
    errors.UPSTREAM_CERTIFICATE_EXPIRED, errors.UPSTREAM_CERTIFICATE_NOT_YET_VALID,
    errors.UPSTREAM_CERTIFICATE_UNTRUSTED, errors.UPSTREAM_IDENTITY_MISMATCH, errors.UPSTREAM_REFUSED_CERTIFICATE,
    errors.UPSTREAM_TLS_ALPN, errors.UPSTREAM_TLS_FAILED,
)  # fmt: skip


class TruncatedError(ConnectionError):
    """The peer's socket ended, or was reset, before its close_notify."""


def is_tls(error: BaseException | None) -> TypeGuard[ssl.SSLError]:
    """Whether it is TLS that failed, and not the connection under it."""
    return isinstance(error, ssl.SSLError)


def expired() -> ssl.SSLCertVerificationError:
    """What OpenSSL would say of a certificate that has ended, where a session is taken up and it does not look."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = _CERT_HAS_EXPIRED, "certificate has expired"
    return error


def explain(error: BaseException, *, is_client: bool, now: Callable[[], datetime] | None = None) -> tuple[Reason, str]:
    """
    The row of the table for what ended a handshake or came in its place, and what exactly was found.

    Args:
        error: As `HandshakeOwner.on_handshake_failed` is given it, or `connection_lost`.
        is_client: Whether the peer is a client of ours.
        now: The time that is told; default: the system's.
    """
    expired, early, untrusted, identity, refused, alpn, failed = _CLIENTS if is_client else _SERVERS
    if isinstance(error, ssl.SSLCertVerificationError):
        code, why = error.verify_code, error.verify_message.lower().rstrip(".")
        if code in _EXPIRED or code in _NOT_YET_VALID:
            clock = (now() if now is not None else datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
            return (expired if code in _EXPIRED else early), f"{why}; the clock here says {clock}"
        return (identity if code in _WRONG_NAME else untrusted), why
    if not isinstance(error, ssl.SSLError):
        return failed, str(error) or type(error).__name__
    said = error.reason or ""
    alert = _ALERT.search(said)
    if alert is not None:
        text = f"alert: {alert[1].lower().replace('_', ' ')}"
        if alert[1] == "NO_APPLICATION_PROTOCOL":
            return alpn, text
        return (refused if alert[1] in _CERTIFICATE_ALERTS else failed), text
    if is_client and said in _WANTED:
        return _WANTED[said], said.lower().replace("_", " ")
    if said in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "HTTPS_PROXY_REQUEST"):
        return failed, "what came is not TLS"
    return failed, said.lower().replace("_", " ") or str(error)
