"""Whose a certificate is: exactly one URI, and that a workload's name."""

from __future__ import annotations

import pytest

from sidecar.net.tls.certificates import spiffe_id
from sidecar.security.identity.certificates.spiffe import identity_of
from sidecar.security.identity.certificates.trouble import TroubleError

MANY = tuple(f"spiffe://shop/{number}" for number in range(6))


def test_a_workload_is_of_a_trust_domain() -> None:
    """Ours and a peer's are read alike."""
    uris = ("spiffe://shop/ns/web/sa/storefront",)
    found = identity_of(uris)
    assert (str(found), found.trust_domain, spiffe_id(uris)) == (uris[0], "shop", uris[0])


@pytest.mark.parametrize(
    ("uris", "code", "end"),
    [
        ((), "no_identity", "got none"),
        (("spiffe://shop/a", "spiffe://shop/a"), "several_identities", "got 'spiffe://shop/a', 'spiffe://shop/a'"),
        (("https://shop/a", "spiffe://shop/a"), "several_identities", "got 'https://shop/a', 'spiffe://shop/a'"),
        (MANY, "several_identities", "'spiffe://shop/3' and 2 more"),
        (("https://shop/a",), "bad_identity", "got 'https://shop/a': it does not begin with `spiffe://`"),
        (("spiffe://shop",), "bad_identity", "it names a trust domain and nobody in it, who would be `spiffe://shop/NAME`"),
        (("spiffe://shop/a/../b",), "bad_identity", "a path has no segments `.` and `..`"),
        (("spiffe://shop/" + "a" * 3000,), "bad_identity", "it is longer than 2048 bytes"),
    ],
)  # fmt: skip
def test_any_other_is_nobody(uris: tuple[str, ...], code: str, end: str) -> None:
    """And a sentence says why, of a length that a log line can bear."""
    with pytest.raises(TroubleError) as caught:
        identity_of(uris)
    assert caught.value.trouble.code == code
    assert caught.value.trouble.text.endswith(end)
    assert len(caught.value.trouble.text) < 400
    assert spiffe_id(uris) == ""
