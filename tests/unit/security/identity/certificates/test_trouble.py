"""Times in the words that people use."""

from __future__ import annotations

import pytest

from sidecar.security.identity.certificates.trouble import moment, span


@pytest.mark.parametrize(
    ("at_s", "text"),
    [(0, "1970-01-01T00:00:00Z"), (253402300799, "9999-12-31T23:59:59Z"), (1e15, "1000000000000000 s since 1970")],
)
def test_moments_of_any_certificate_can_be_said(at_s: float, text: str) -> None:
    """Also the last that X.509 knows (RFC 5280, 4.1.2.5), and none that stops us."""
    assert moment(at_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172799, "47 h"),
        (172800, "2 d"),
    ],
)
def test_spans_are_rounded_down(seconds: float, text: str) -> None:
    """In one unit, of which there are at least two."""
    assert span(seconds) == text
