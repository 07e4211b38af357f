"""What an agent says, read: identities, keys and bundles as they are judged; anything else is told."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sidecar.net.grpc.protobuf import ProtobufError
from sidecar.security.identity.certificates.credentials import read_credentials
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.identity.workload_api.svids import choose, material_of, read_response, split
from tests.support.certificates import NOW, Authority
from tests.support.fake_agent import Response, X509Svid, der, identity, response

AT = "unix:///agent.sock"
ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")
EMPTY = X509Svid(spiffe_id="a", x509_svid=b"0\0", x509_svid_key=b"0\0", bundle=b"0\0")
A, B = "spiffe://shop/a", "spiffe://other/b"


def svid(**changed: Any) -> Any:
    """One that is right but for this."""
    made = identity(ISSUER.workload(A), ROOT)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def test_an_identity_is_what_was_signed() -> None:
    """Chain, key and bundle are judged as files are; lists of revoked ones and other bundles are no matter."""
    leaf, other = ISSUER.workload(A), Authority("another root")
    told = response(identity(leaf, ROOT, other), crl=[b"x"], federated={"spiffe://x": der(other.certificate)})
    (found,) = read_response(told, AT)
    held = read_credentials(material_of(found, AT), NOW)
    assert (held.identity, held.leaf.fingerprint, len(held.roots.authorities)) == (A, leaf.fingerprint, 2)
    assert held.chain_pem == leaf.chain_pem
    assert held.pair.at == f"the certificate from {AT}"
    assert "PRIVATE" not in repr(found)


def test_keys_of_rsa_are_taken() -> None:
    """As SPIRE makes them where `workload_x509_svid_key_type` says so."""
    leaf = ISSUER.leaf(uris=[A], key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    (found,) = read_response(response(identity(leaf, ROOT)), AT)
    assert read_credentials(material_of(found, AT), NOW).identity == A


def test_the_first_is_the_default_and_the_wanted_trust_domain_goes_before() -> None:
    """SPIFFE Workload API, 5.3; of a trust domain that nobody has the first is judged, and refused for that."""
    found = read_response(response(svid(), identity(ROOT.workload(B), ROOT), svid(spiffe_id="no name")), AT)
    assert [choose(found, wanted).spiffe_id for wanted in ("", "shop", "other", "nobody")] == [A, A, B, A]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "no identity at all"),
        (response(crl=[b"x"]), "no identity at all"),
        (response(svid(spiffe_id="")), "lacks `spiffe_id`"),
        (response(svid(x509_svid_key=b"")), "lacks `x509_svid_key`"),
        (response(svid(), svid(x509_svid=b"", bundle=b"")), "lacks `x509_svid`, `bundle`"),
        (response(svid(x509_svid=b"-----BEGIN")), "`x509_svid` is not in DER"),
        (response(svid(x509_svid=svid().x509_svid[:-1])), "`x509_svid` is cut"),
        (response(svid(bundle=svid().bundle + b"\x30")), "`bundle` is not in DER"),
        (response(svid(x509_svid_key=svid().x509_svid_key * 2)), "more than one key"),
        (b"\x08\x01", "in another way"),
        (b"\x0a\x02\x0a\x05", "longer than what is left"),
        (b"\x0a\x03\x0a\x01\xff", "not UTF-8"),
        (b"\x0a\x00" * 1001, "lacks"),
        (response(*[EMPTY] * 1001), "more than 1000"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(message: bytes, why: str) -> None:
    """By whom it was said and what is wrong; nothing of a key."""
    with pytest.raises(TroubleError) as caught:
        read_response(message, AT)
    told = caught.value.trouble
    assert told.code == "malformed"
    assert told.text.startswith(f"{AT}: the agent's message cannot be used: ")
    assert why in told.text


@pytest.mark.parametrize(
    ("joined", "parts"),
    [
        (b"", ()),
        (b"0\0", (b"0\0",)),
        (b"0\0" + b"0\x01x", (b"0\0", b"0\x01x")),
        (b"0\x81\x80" + bytes(128) + b"0\0", (b"0\x81\x80" + bytes(128), b"0\0")),
        (b"0\x82\x01\x00" + bytes(256), (b"0\x82\x01\x00" + bytes(256),)),
    ],
)
def test_values_of_der_are_parted(joined: bytes, parts: tuple[bytes, ...]) -> None:
    """X.690, 8.1.3: short and long forms of a length."""
    assert split(joined, "bundle") == parts


@pytest.mark.parametrize(
    "joined",
    [
        b"0", b"0\x05abc", b"1\0", b"0\x80\0\0", b"0\x81\x7f" + bytes(127), b"0\x82\x00\xff" + bytes(255), b"0\x82\x01",
        b"0\x85\0\0\0\0\x01x", b"0\x84\xff\xff\xff\xff", b"0\xff" + bytes(200), b"0\0\n", b"0\0" * 1001,
    ],
)  # fmt: skip
def test_what_is_not_der_is_refused(joined: bytes) -> None:
    """Cut, of another kind, indefinite, longer than it must be, with something after it; and too much of it."""
    with pytest.raises(ProtobufError):
        split(joined, "bundle")


def test_the_library_of_others_writes_what_we_read() -> None:
    """A message with fields that we do not know, as a later version of the specification may have them."""
    made = Response(svids=[svid()])
    later = made.SerializeToString() + b"\xfa\x01\x03new" + b"\xe0\x03\x05"
    assert read_response(later, AT) == read_response(made.SerializeToString(), AT)
