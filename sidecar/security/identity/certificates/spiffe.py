"""SPIFFE IDs (SPIFFE-ID, 2): the name of a workload, such as `spiffe://shop/storefront`. *Pure, cold.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.security.identity.certificates.trouble import TroubleError

SCHEME: Final = "spiffe://"
MAX_ID_BYTES: Final = 2048
"""SPIFFE-ID, 2.3."""

# SPIFFE-ID, 2.1 and 2.2: nothing is encoded, nothing is empty, and neither `.` nor `..` is a segment.
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")


def trust_domain_of(identity: str) -> str:
    """
    Which trust domain a workload's SPIFFE ID is of.

    Raises:
        TroubleError: `bad_identity`, without saying where it was found.
    """
    name, slash, path = identity.removeprefix(SCHEME).partition("/")
    if not identity.startswith(SCHEME):
        why = f"it does not begin with {SCHEME}"
    elif len(identity.encode()) > MAX_ID_BYTES:
        why = f"it is longer than {MAX_ID_BYTES} bytes"
    elif not _TRUST_DOMAIN.fullmatch(name):
        why = "its trust domain is not of lower-case letters, digits, dots, hyphens and underscores"
    elif not slash:
        # X509-SVID, 5.2: "its SPIFFE ID has a non-root path component".
        why = "it names a trust domain and no workload in it"
    elif not _PATH.fullmatch(slash + path):
        why = "its path is not of segments of letters, digits, dots, hyphens and underscores"
    else:
        return name
    raise TroubleError("bad_identity", f"expected a SPIFFE ID like spiffe://shop/storefront, got {identity!r}: {why}")


def identity_of(uris: tuple[str, ...]) -> str:
    """
    The SPIFFE ID among a certificate's URIs.

    "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, 2): one that has another is nobody's.

    Raises:
        TroubleError: `no_identity`, `several_identities` or `bad_identity`, without saying where it was found.
    """
    if not uris:
        raise TroubleError("no_identity", "expected one URI among its names, the SPIFFE ID, got none")
    if len(uris) > 1:
        shown = ", ".join(repr(uri) for uri in uris[:4]) + (f" and {len(uris) - 4} more" if len(uris) > 4 else "")
        raise TroubleError("several_identities", f"expected one URI among its names, the SPIFFE ID, got {shown}")
    trust_domain_of(uris[0])
    return uris[0]
