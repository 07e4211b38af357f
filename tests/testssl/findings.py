"""
What testssl.sh has written, and what of it must not be.

Its JSON is a list of findings, each with an `id` (what was looked at), a `severity` and a `finding` (words). Whatever
is above `LOW`, or could not be looked at, must be explained in `EXPLAINED`, and what matters most must have been looked
at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

FINE: Final = frozenset({"OK", "INFO", "LOW", "DEBUG"})
"""Anything else, known or not, is too much: MEDIUM, HIGH, CRITICAL; WARN and FATAL say that a look was not possible."""

LOOKED_AT: Final = (
    "SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT",
    "cipherlist_LOW", "cipherlist_3DES_IDEA", "cipher_order", "PFS", "TLS_extensions", "TLS_session_ticket",
    "SSL_sessionID_support", "cert_signatureAlgorithm", "cert_keySize", "heartbleed", "CCS", "ticketbleed", "ROBOT",
    "secure_renego", "secure_client_renego", "CRIME_TLS", "POODLE_SSL", "fallback_SCSV", "FREAK", "DROWN", "LOGJAM",
    "BEAST", "LUCKY13", "RC4",
)  # fmt: skip
"""A scan that ends early finds nothing bad."""


class Finding(NamedTuple):
    """One of a scan."""

    what: str
    severity: str
    words: str

    def __str__(self) -> str:
        return f"{self.severity} {self.what}: {self.words}"


class Explained(NamedTuple):
    """
    One that may be.

    Attributes:
        what: A pattern that its `id` matches as a whole.
        words: A pattern that is found in what it says.
        why: It may be.
        where: A pattern of the listeners at which it may be.
    """

    what: str
    words: str
    why: str
    where: str = ".*"


EXPLAINED: Final[Sequence[Explained]] = (
    Explained(
        "cert_revocation",
        "Neither CRL nor OCSP",
        "a private authority has no list of revoked certificates: they are short-lived",
    ),
    Explained(
        "cert_trust",
        "does not match supplied URI",
        "in a mesh one is known by SPIFFE ID, and no certificate has a name",
        "permissive|strict|control",
    ),
    Explained(
        "sessionresumption_ticket",
        "connect problem",
        "testssl.sh waits for no ticket of TLS 1.3; tests/integration/test_tls_programs.py takes one up again",
    ),
    Explained("engine_problem", "GOST", "about openssl here; testssl.sh itself makes the hellos that it lacks"),
)
"""The chain itself is verified: testssl.sh is given the root."""


class Verdict(NamedTuple):
    """
    On a scan.

    Attributes:
        bad: What must not be.
        explained: What may be, and why.
        missing: What was not looked at.
    """

    bad: list[Finding]
    explained: list[tuple[Finding, str]]
    missing: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing remains."""
        return not self.bad and not self.missing

    def __str__(self) -> str:
        lines = [f"    {finding}" for finding in self.bad]
        lines += [f"    not looked at: {name}" for name in self.missing]
        lines += [f"    explained: {finding}\n        {why}" for finding, why in self.explained]
        return "\n".join(lines) or "    nothing above LOW"


def read_findings(path: Path) -> list[Finding]:
    """
    What a scan has written.

    Raises:
        ValueError: It is no list of findings: the scan was cut.
    """
    found = json.loads(path.read_text())
    return [Finding(str(one["id"]), str(one["severity"]), str(one["finding"])) for one in found]


def judge(findings: Iterable[Finding], listener: str, explained: Sequence[Explained] = EXPLAINED) -> Verdict:
    """What is to be said of a scan of this listener."""
    verdict = Verdict([], [], [])
    seen = set()
    for finding in findings:
        seen.add(finding.what)
        if finding.severity in FINE:
            continue
        why = next((one.why for one in explained if _is_it(one, finding, listener)), "")
        if why:
            verdict.explained.append((finding, why))
        else:
            verdict.bad.append(finding)
    verdict.missing.extend(name for name in LOOKED_AT if name not in seen)
    return verdict


def _is_it(one: Explained, finding: Finding, listener: str) -> bool:
    return bool(
        re.fullmatch(one.what, finding.what)
        and re.search(one.words, finding.words)
        and re.fullmatch(one.where, listener)
    )
