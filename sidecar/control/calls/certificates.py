"""Certificates of sidecars as people see them: when they end, and whether that is soon. *Pure.*"""

from __future__ import annotations

from typing import Any, Final

from sidecar.link.report import IdentityReport
from sidecar.security.identity.certificates.trouble import span
from sidecar.security.identity.certificates.validity import DAY_S, life_of

AUTHORITY_SOON_S: Final = 14 * DAY_S
"""For what signed it, whose beginning nobody reports."""


def shown(held: IdentityReport | None, now_s: float) -> dict[str, Any] | None:
    """`certificate` of an instance in `/v1/mesh`; None where it is to have none."""
    if held is None:
        return None
    return {
        "identity": held.identity or None,
        "not_after": held.not_after_s or None,
        "issuer": held.issuer or None,
        "issuer_not_after": held.issuer_not_after_s or None,
        "root_not_after": held.root_not_after_s or None,
        "warning": _warning(held, now_s),
        "trouble": held.last_error or None,
    }


def _warning(held: IdentityReport, now_s: float) -> str | None:
    """What ends soon or has ended, in a sentence."""
    if not held.not_after_s:
        return "it has no certificate"
    life = life_of(held.not_before_s, held.not_after_s, now_s)
    if life == "expired":
        return f"its certificate ended {span(now_s - held.not_after_s)} ago"
    if life == "last_quarter":
        return f"its certificate ends in {span(held.not_after_s - now_s)}"
    for what, end_s in (("issuer", held.issuer_not_after_s), ("root", held.root_not_after_s)):
        if end_s and end_s - now_s < AUTHORITY_SOON_S:
            return f"the {what} of its certificate ends in {span(max(0.0, end_s - now_s))}"
    return None
