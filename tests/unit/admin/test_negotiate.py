"""Which form of the metrics a scraper gets (RFC 9110, 12.4.2, 12.5.1, 12.5.3)."""

from __future__ import annotations

import pytest

from sidecar.admin.negotiate import accepts_gzip, format_of
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
