"""What is made of testssl.sh's findings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.testssl.findings import LOOKED_AT, Explained, Finding, judge, read_findings

GOOD = [Finding(name, "OK", "not offered") for name in LOOKED_AT]
KNOWN = (Explained("cert_.*", "OCSP", "a private authority", "outside.*"),)


def test_what_is_good_enough_passes() -> None:
    """Up to LOW."""
    found = [*GOOD, Finding("HSTS", "LOW", "not offered"), Finding("scanTime", "INFO", "70")]
    assert judge(found, "outside", KNOWN).is_good


@pytest.mark.parametrize("severity", ["MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL", "another"])
def test_what_is_worse_does_not(severity: str) -> None:
    """Also what could not be looked at, and what is not known."""
    worse = Finding("cipherlist_LOW", severity, "offered")
    verdict = judge([*GOOD, worse], "outside", KNOWN)
    assert not verdict.is_good
    assert verdict.bad == [worse]
    assert str(worse) in str(verdict)


def test_what_is_explained_may_be_where_it_is_explained() -> None:
    """By its name, its words and the listener."""
    known = Finding("cert_revocation", "HIGH", "Neither CRL nor OCSP URI provided")
    verdict = judge([*GOOD, known], "outside-1.2", KNOWN)
    assert verdict.is_good
    assert verdict.explained == [(known, "a private authority")]
    assert judge([*GOOD, known], "strict", KNOWN).bad == [known]
    other = known._replace(words="revoked")
    assert judge([*GOOD, other], "outside", KNOWN).bad == [other]


def test_a_scan_that_ended_early_is_none(tmp_path: Path) -> None:
    """What was not looked at is named; half a file is no list."""
    verdict = judge(GOOD[1:], "outside", KNOWN)
    assert not verdict.is_good
    assert verdict.missing == [LOOKED_AT[0]]
    path = tmp_path / "findings.json"
    path.write_text(json.dumps([{"id": "TLS1", "severity": "OK", "finding": "not offered", "port": "1"}]))
    assert read_findings(path) == [Finding("TLS1", "OK", "not offered")]
    path.write_text(path.read_text()[:-1])
    with pytest.raises(ValueError):
        read_findings(path)
