"""SPIFFE IDs: which there are, and which only look so (SPIFFE-ID, 2)."""

from __future__ import annotations

import pytest

from sidecar.net.tls.spiffe import is_workload
from sidecar.security.identity.certificates.spiffe import identity_of, trust_domain_of
from sidecar.security.identity.certificates.trouble import TroubleError


@pytest.mark.parametrize(
    ("identity", "trust_domain"),
    [
        ("spiffe://shop/storefront", "shop"),
        ("spiffe://shop.example/ns/shop/sa/storefront", "shop.example"),
        ("spiffe://10-0_a.b/A.B_c-d/...", "10-0_a.b"),
    ],
)
def test_a_workload_is_of_a_trust_domain(identity: str, trust_domain: str) -> None:
    """What stands between the slashes."""
    assert is_workload(identity)
    assert trust_domain_of(identity) == trust_domain


@pytest.mark.parametrize(
    "identity",
    [
        "", "spiffe://", "spiffe:///storefront", "spiffe://shop", "spiffe://shop/", "spiffe://shop/a/", "spiffe://shop//a",
        "spiffe://shop/.", "spiffe://shop/a/../b", "spiffe://shop/./a", "spiffe://Shop/a", "SPIFFE://shop/a",
        "spiffe://shop:8080/a", "spiffe://user@shop/a", "spiffe://shop/a?b", "spiffe://shop/a#b", "spiffe://shop/%61",
        "spiffe://shop/a\n", "spiffe://shop/a b", "spiffe://shop/\u00e9", "spiffe://sh\u00f6p/a", "spiffe://shop/a\x00b",
        "https://shop/a", "spiffe:/shop/a", f"spiffe://{'a' * 256}/b", f"spiffe://shop/{'a' * 2048}",
    ],
)  # fmt: skip
def test_what_only_looks_so_is_nobody(identity: str) -> None:
    """Nothing is encoded, empty, upper case in the domain, or a way up."""
    assert not is_workload(identity)
    with pytest.raises(TroubleError) as caught:
        trust_domain_of(identity)
    assert caught.value.trouble.code == "bad_identity"


def test_a_certificate_has_exactly_one() -> None:
    """Another URI beside it makes it nobody's (X509-SVID, 2)."""
    assert identity_of(("spiffe://shop/a",)) == "spiffe://shop/a"
    for uris in ((), ("spiffe://shop/a", "spiffe://shop/a"), ("https://shop/a", "spiffe://shop/a")):
        with pytest.raises(TroubleError):
            identity_of(uris)
