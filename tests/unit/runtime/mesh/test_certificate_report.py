"""What is told of a certificate and of who signed it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.link.identity.held import Held
from sidecar.link.report import IdentityReport
from sidecar.net.tls.settings import ControlIdentity, FilesIdentity, Pair
from sidecar.runtime.mesh.certificate_report import Ends, of_holder
from sidecar.security.identity.holder import Identity
from tests.support.certificates import DAY, NOW, Authority

SHOP = "spiffe://shop/storefront"
REPORT = IdentityReport(SHOP, float(NOW + DAY), "CN=shop issuer")


def held(chain: bytes, trust: bytes, issuer: str = "CN=shop issuer") -> Held:
    """What the control plane signed."""
    return Held(chain.decode(), "", trust.decode(), "shop", SHOP, issuer, NOW, NOW + DAY, NOW, NOW)


def test_ends_of_who_signed_are_told() -> None:
    """Of the issuer, and of the root that it leads to, not of another one that is believed, too."""
    shop, other = Authority("shop root", ends=NOW + 300 * DAY), Authority("other root", ends=NOW + 10 * DAY)
    middle = shop.authority("shop issuer", ends=NOW + 90 * DAY)
    one = held(middle.workload(SHOP).chain_pem, other.pem + shop.pem)
    ends = Ends()
    expected = replace(
        REPORT, not_before_s=NOW, issuer_not_after_s=NOW + 90.0 * DAY, root_not_after_s=NOW + 300.0 * DAY
    )
    assert ends.beside(REPORT, one) == ends.beside(REPORT, one) == expected
    told = replace(REPORT, not_before_s=NOW, root_not_after_s=NOW + 300.0 * DAY)
    alone = held(shop.workload(SHOP).chain_pem, shop.pem, "CN=shop root")
    assert ends.beside(REPORT, alone) == told
    assert ends.beside(REPORT, None) is REPORT


@pytest.mark.parametrize("chain", [b"", b"-----BEGIN CERTIFICATE-----\nx"], ids=["nothing", "half"])
def test_what_cannot_be_read_has_no_ends(chain: bytes) -> None:
    """The report is made all the same."""
    assert Ends().beside(REPORT, held(chain, b"")) == replace(REPORT, not_before_s=NOW)


def test_identity_of_no_control_plane_is_told_by_its_holder(tmp_path: Path) -> None:
    """And none where the control plane signs it, which the joiner tells, or where there is to be none."""
    shop = Authority("shop root", ends=NOW + 300 * DAY)
    middle = shop.authority("shop issuer", ends=NOW + 90 * DAY)
    identity = Identity(machine_trust="")
    assert of_holder(identity) is None
    identity.configure(ControlIdentity())
    assert of_holder(identity) is None
    pair = Pair(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    identity.configure(FilesIdentity(pair, str(tmp_path / "ca.crt")))
    asyncio.run(identity.settle(600.0))
    none = of_holder(identity)
    assert none is not None
    assert (none.identity, none.last_error != "") == ("", True)
    middle.workload(SHOP, ends=NOW + 7 * DAY).write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(shop.pem)
    identity.configure(None)
    identity.configure(FilesIdentity(pair, str(tmp_path / "ca.crt")))
    asyncio.run(identity.settle(600.0))
    assert of_holder(identity) == IdentityReport(
        SHOP, NOW + 7.0 * DAY, "CN=shop issuer", "", NOW + 90.0 * DAY, NOW + 300.0 * DAY, NOW - 3600
    )
