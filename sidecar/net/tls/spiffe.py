"""SPIFFE IDs (SPIFFE-ID, 2): what a workload's name looks like, such as `spiffe://shop/storefront`. *Pure, cold.*"""

from __future__ import annotations

import re
from typing import Final

SCHEME: Final = "spiffe://"
MAX_BYTES: Final = 2048
"""SPIFFE-ID, 2.3."""

# SPIFFE-ID, 2.1 and 2.2: nothing is encoded, nothing is empty, and neither `.` nor `..` is a segment.
TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
_WORKLOAD: Final = re.compile(f"{SCHEME}{TRUST_DOMAIN.pattern}{PATH.pattern}")


def is_workload(identity: str) -> bool:
    """
    Whether it names a workload; "its SPIFFE ID has a non-root path component" (X509-SVID, 5.2).

    What does not is nobody: a rule for `spiffe://shop/ns/ops/*` must not be met by `spiffe://shop/ns/ops/../web`.
    """
    return len(identity) <= MAX_BYTES and _WORKLOAD.fullmatch(identity) is not None
