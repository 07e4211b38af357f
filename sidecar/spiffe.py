"""
Names of workloads, `spiffe://TRUST_DOMAIN/PATH` (SPIFFE-ID, 2): what is one, and why another text is none. *Pure.*

Compared octet by octet everywhere, so only the one form in which a name may be written is accepted: nothing here folds
case or decodes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SCHEME: Final = "spiffe://"
MAX_BYTES: Final = 2048
"""SPIFFE-ID, 2.3."""
MAX_TRUST_DOMAIN_BYTES: Final = 255

# SPIFFE-ID, 2.1: "The host part of the authority component MUST NOT be empty" and "MUST contain only letters, numbers,
# dots, dashes, and underscores ([a-z0-9.-_])"; user information and port "MUST be empty".
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+")
# SPIFFE-ID, 2.2: "Individual path segments MUST contain only letters, numbers, dots, dashes, and underscores".
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9._-]+")


class SpiffeError(ValueError):
    """A text that names no workload; the message says why, in words that can stand after `expected ...`."""


class SpiffeId(NamedTuple):
    """
    A name of a workload, or of a trust domain.

    Attributes:
        trust_domain: Lower case.
        path: With the `/` that it begins with; empty for the trust domain itself.
    """

    trust_domain: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """
    Take a SPIFFE ID apart.

    Raises:
        SpiffeError: It is none.
    """
    if not text.startswith(SCHEME):
        raise SpiffeError(f"it does not begin with `{SCHEME}`")
    if len(text) > MAX_BYTES:  # ASCII alone gets past the patterns below.
        raise SpiffeError(f"it is longer than {MAX_BYTES} bytes")
    trust_domain, slash, path = text[len(SCHEME) :].partition("/")
    check_trust_domain(trust_domain)
    for segment in path.split("/") if slash else ():
        if not segment:
            raise SpiffeError("a path has neither empty segments nor a `/` at its end")
        if segment in (".", ".."):
            raise SpiffeError("a path has no segments `.` and `..`")
        if _SEGMENT.fullmatch(segment) is None:
            raise SpiffeError("a path has only letters, digits, `.`, `-` and `_` between its slashes")
    return SpiffeId(trust_domain, slash + path)


def parse_workload_id(text: str) -> SpiffeId:
    """
    The same of what must name a workload.

    Raises:
        SpiffeError: It is none, or names a trust domain only.
    """
    found = parse_spiffe_id(text)
    if not found.path:
        raise SpiffeError(f"it names a trust domain and nobody in it, who would be `{found}/NAME`")
    return found


def check_trust_domain(name: str) -> None:
    """
    Check the name of a trust domain.

    Raises:
        SpiffeError: It is none.
    """
    if not name:
        raise SpiffeError("the trust domain is empty")
    if len(name) > MAX_TRUST_DOMAIN_BYTES:
        raise SpiffeError(f"the trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes")
    if _TRUST_DOMAIN.fullmatch(name) is None:
        raise SpiffeError("a trust domain has only lower-case letters, digits, `.`, `-` and `_`")
