"""Whose a certificate is, and why it is nobody's. *Pure, cold.*"""

from __future__ import annotations

from typing import Final

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.spiffe import SpiffeError, SpiffeId, parse_workload_id

_MAX_SHOWN: Final = 200
"""Characters of a name that is none."""


def identity_of(uris: tuple[str, ...]) -> SpiffeId:
    """
    The SPIFFE ID among a certificate's URIs.

    "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, 2): one that has another is nobody's.

    Raises:
        TroubleError: `no_identity`, `several_identities` or `bad_identity`, without saying where it was found.
    """
    if not uris:
        raise TroubleError("no_identity", "expected one URI among its names, the SPIFFE ID, got none")
    if len(uris) > 1:
        shown = ", ".join(_quoted(uri) for uri in uris[:4]) + (f" and {len(uris) - 4} more" if len(uris) > 4 else "")
        raise TroubleError("several_identities", f"expected one URI among its names, the SPIFFE ID, got {shown}")
    try:
        return parse_workload_id(uris[0])
    except SpiffeError as error:
        text = f"expected a SPIFFE ID like spiffe://shop/storefront, got {_quoted(uris[0])}: {error}"
        raise TroubleError("bad_identity", text) from None


def _quoted(uri: str) -> str:
    return repr(uri if len(uri) <= _MAX_SHOWN else uri[:_MAX_SHOWN] + "...")
