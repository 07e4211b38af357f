"""Whose a certificate is, and why it is nobody's. *Pure, cold.*"""

from __future__ import annotations

from typing import Final

from sidecar.net.tls.spiffe import MAX_BYTES, PATH, SCHEME, TRUST_DOMAIN, is_workload
from sidecar.security.identity.certificates.trouble import TroubleError

_MAX_SHOWN: Final = 200


def trust_domain_of(identity: str) -> str:
    """
    Which trust domain a workload's SPIFFE ID is of.

    Raises:
        TroubleError: `bad_identity`, without saying where it was found.
    """
    name, slash, path = identity.removeprefix(SCHEME).partition("/")
    if is_workload(identity):
        return name
    if not identity.startswith(SCHEME):
        why = f"it does not begin with {SCHEME}"
    elif not TRUST_DOMAIN.fullmatch(name):
        why = "its trust domain is not of lower-case letters, digits, dots, hyphens and underscores"
    elif not slash:
        why = "it names a trust domain and no workload in it"
    elif not PATH.fullmatch(slash + path):
        why = "its path is not of segments of letters, digits, dots, hyphens and underscores"
    else:
        why = f"it is longer than {MAX_BYTES} bytes"
    shown = identity if len(identity) <= _MAX_SHOWN else identity[:_MAX_SHOWN] + "..."
    raise TroubleError("bad_identity", f"expected a SPIFFE ID like spiffe://shop/storefront, got {shown!r}: {why}")


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
