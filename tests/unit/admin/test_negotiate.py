"""Which form of the metrics a scraper gets (RFC 9110, 12.4.2, 12.5.1, 12.5.3)."""

from __future__ import annotations

import pytest

from sidecar.admin.negotiate import accepts_gzip, format_of, wants_page
from sidecar.telemetry.metrics.exposition import Format

OPENMETRICS = "application/openmetrics-text"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        (f"{OPENMETRICS};version=1.0.0", Format.OPENMETRICS),
        (f"{OPENMETRICS}; version=0.0.1; q=0.75, text/plain;version=0.0.4;q=0.5, */*;q=0.1", Format.OPENMETRICS),
        (f"text/plain, {OPENMETRICS};q=0.9", Format.TEXT),
        (f"{OPENMETRICS}, text/plain", Format.TEXT),
        (f"{OPENMETRICS};q=0.5, */*;q=0.6", Format.TEXT),
        (f"{OPENMETRICS.upper()};Q=0.5, text/plain;q=0.1, */*", Format.OPENMETRICS),
        (f"{OPENMETRICS};q=0", Format.TEXT),
        (f"{OPENMETRICS};q=nonsense", Format.TEXT),
        (f"{OPENMETRICS};q=1.0001", Format.TEXT),
        ("text/html,;;,,q=1", Format.TEXT),
        ("x," * 10_000 + OPENMETRICS, Format.TEXT),
    ],
)
def test_openmetrics_is_sent_only_when_it_is_preferred(accept: str, form: Format) -> None:
    """As Prometheus asks by its configuration; the text format for everything that is not clear."""
    assert format_of(accept) is form


@pytest.mark.parametrize(
    ("accept_encoding", "is_accepted"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("identity", False),
        ("gzip;q=0.000", False),
        ("gzip;q=2", False),
    ],
)
def test_gzip_is_sent_only_when_it_is_accepted(accept_encoding: str, is_accepted: bool) -> None:
    """12.5.3: a weight of zero means not acceptable."""
    assert accepts_gzip(accept_encoding) is is_accepted


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", True),
        ("text/html", True),
        ("TEXT/HTML;q=0.2", True),
        ("text/html, text/plain", True),
        ("text/html;q=0.5, text/plain", False),
        ("text/html;q=0.5, application/json;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        ("application/json", False),
        ("text/htmlx", False),
    ],
)
def test_page_is_for_who_names_html(accept: str, is_page: bool) -> None:
    """Browsers name it; curl, probes and scripts accept anything, and get what they have always got."""
    assert wants_page(accept) is is_page
