"""What is wrong with a certificate, a key or a bundle, in a sentence that one can act on. *Pure, cold.*"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

Code = Literal[
    "unreadable",
    "half_written",
    "malformed",
    "no_certificate",
    "key_mismatch",
    "key_encrypted",
    "too_weak",
    "wrong_purpose",
    "untrusted",
    "expired",
    "not_yet_valid",
    "no_identity",
    "several_identities",
    "bad_identity",
    "other_trust_domain",
    "hangs",
    "source_failed",
]
"""The closed set of what can be wrong; a label of metrics, and `code` in `/certs`."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    Attributes:
        code: What it is.
        text: The sentence: which file, whose certificate, signed by whom, the times of both sides, and what to do.
            Never anything of a key.
        until_s: When it passes by itself, in seconds since the Unix epoch; None: it does not.
    """

    code: Code
    text: str
    until_s: float | None = None


class TroubleError(Exception):
    """Raised where something cannot be used."""

    def __init__(self, code: Code, text: str, until_s: float | None = None) -> None:
        super().__init__(text)
        self.trouble = Trouble(code, text, until_s)


def moment(at_s: float) -> str:
    """RFC 3339 in UTC, in whole seconds, of a time since the Unix epoch."""
    # Not `fromtimestamp`: a certificate may end in the year 9999, and one that we are handed may say anything.
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(at_s))).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        return f"{int(at_s)} s since 1970"


def span(seconds: float) -> str:
    """A length of time as people say it: `45 s`, `3 min`, `5 h`, `12 d`; rounded down."""
    seconds = abs(seconds)
    if seconds < 2 * _MINUTE_S:
        return f"{int(seconds)} s"
    if seconds < 2 * _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min"
    if seconds < 2 * _DAY_S:
        return f"{int(seconds // _HOUR_S)} h"
    return f"{int(seconds // _DAY_S)} d"
