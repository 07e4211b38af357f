"""Certificates of sidecars as people see them."""

from __future__ import annotations

import pytest

from sidecar.control.calls.certificates import shown
from sidecar.link.report import IdentityReport

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("end_s", "issuer_s", "root_s", "warning"),
    [
        (6 * DAY, 60 * DAY, 900 * DAY, None),
        (1.5 * DAY, 60 * DAY, 900 * DAY, "its certificate ends in 36 h"),
        (-2 * DAY, 60 * DAY, 900 * DAY, "its certificate ended 2 d ago"),
        (6 * DAY, 12 * DAY, 900 * DAY, "the issuer of its certificate ends in 12 d"),
        (6 * DAY, None, 13 * DAY, "the root of its certificate ends in 13 d"),
    ],
)
def test_what_ends_soon_is_told(end_s: float, issuer_s: float | None, root_s: float, warning: str | None) -> None:
    """By the life that the certificate has, and by days of those above it."""
    issuer_not_after_s = NOW + issuer_s if issuer_s is not None else 0.0
    held = IdentityReport(
        "spiffe://shop/a", NOW + end_s, "CN=x", "", issuer_not_after_s, NOW + root_s, NOW + end_s - 7 * DAY
    )
    said = shown(held, NOW)
    assert said is not None
    assert said["warning"] == warning


def test_none_is_told_as_what_it_is() -> None:
    """One that is to have a certificate and has none, and one that is to have none."""
    said = shown(IdentityReport(last_error="no answer"), NOW)
    assert said is not None
    assert (said["warning"], said["trouble"], said["not_after"]) == ("it has no certificate", "no answer", None)
    assert shown(None, NOW) is None
