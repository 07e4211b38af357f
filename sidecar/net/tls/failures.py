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

_TO_DO: Final = {
    "ACCESS_DENIED": "it knows who this is, and its rules let nobody of that name in",
    "CERTIFICATE_EXPIRED": "it has ended by the other side's clock: have it renewed, or set that clock",
    "CERTIFICATE_REQUIRED": "the other side wants a certificate: give the upstream `tls.certificate` and `tls.key`",
    "CERTIFICATE_REVOKED": "who signed it has taken it back: have another one issued",
    "UNKNOWN_CA": "the other side trusts nobody who signed it: have it trust that root, or show one of its own root",
    "UNSUPPORTED_CERTIFICATE": "the other side takes no such key, or not for this use: have another one issued",
}
_LOOK_THERE: Final = "the other side's log says why: mostly its name, when it begins, or who signed it"
"""Of alerts that say no more than that it was not liked; which alert says what is left to who sends it."""

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


def explain(
    error: BaseException, *, is_client: bool, shown: str = "", now: Callable[[], datetime] | None = None
) -> tuple[Reason, str]:
    """
    The row of the table for what ended a handshake or came in its place, and what exactly was found.

    Args:
        error: As `HandshakeOwner.on_handshake_failed` is given it, or `connection_lost`.
        is_client: Whether the peer is a client of ours.
        shown: What the peer was shown of us (`net.tls.shown`), told where it did not like it; empty for nothing.
        now: The time that is told; default: the system's.
    """
    expired, early, untrusted, identity, refused, alpn, failed = _CLIENTS if is_client else _SERVERS
    if isinstance(error, ssl.SSLCertVerificationError):
        code, why = error.verify_code, error.verify_message.lower().rstrip(".")
        if code in _EXPIRED or code in _NOT_YET_VALID:
            return (expired if code in _EXPIRED else early), f"{why}; {_clock(now)}"
        return (identity if code in _WRONG_NAME else untrusted), why
    if not isinstance(error, ssl.SSLError):
        return failed, str(error) or type(error).__name__
    said = error.reason or ""
    alert = _ALERT.search(said)
    if alert is not None:
        text = f"alert: {alert[1].lower().replace('_', ' ')}"
        if alert[1] == "NO_APPLICATION_PROTOCOL":
            return alpn, text
        if alert[1] not in _CERTIFICATE_ALERTS:
            return failed, text
        what = f"shown was the certificate of {shown}" if shown else "no certificate was shown"
        clock = f"; {_clock(now)}" if alert[1] == "CERTIFICATE_EXPIRED" else ""
        return refused, f"{text}; {what}; {_TO_DO.get(alert[1], _LOOK_THERE)}{clock}"
    if is_client and said in _WANTED:
        return _WANTED[said], said.lower().replace("_", " ")
    if said in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "HTTPS_PROXY_REQUEST"):
        return failed, "what came is not TLS"
    return failed, said.lower().replace("_", " ") or str(error)


def _clock(now: Callable[[], datetime] | None) -> str:
    return f"the clock here says {(now() if now is not None else datetime.now(UTC)).strftime('%Y-%m-%dT%H:%M:%SZ')}"
