"""What certificates of a mesh look like, to OpenSSL and by SPIFFE's rules."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.control.authority.certificates import BadCertificate, BadRequest
from tests.support.authority import BEGAN_S, DAY_S, new_key, read, request, request_der, write

IDENTITY = "spiffe://shop/storefront"


def leaf_of(record: steps.Record, identity: str = IDENTITY, now_s: float = BEGAN_S, life_s: float = 7 * DAY_S) -> str:
    signer = record.intermediate
    leaf = pki.make_leaf(identity, "i-1", new_key().public_key(), signer.own, signer.private_key, now_s, life_s)
    return pki.text_of([leaf])


def pem_of(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def openssl_verify(folder: Path, trust: str, between: str, leaf: str, purpose: str, at_s: float = BEGAN_S) -> str:
    """What `openssl verify` says, as strict as it can be."""
    paths = write(folder, trust=trust, between=between, leaf=leaf)
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", str(int(at_s)), "-purpose", purpose,
         "-CAfile", paths["trust"], "-untrusted", paths["between"], paths["leaf"]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr


class TestLeaf:
    """SPIFFE X.509-SVID, 2 to 4."""

    @pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
    def test_leaf_is_good_for_openssl_at_both_ends(self, tmp_path: Path, purpose: str) -> None:
        """The chain verifies strictly, as server and as client."""
        record = steps.made("shop", BEGAN_S)
        assert openssl_verify(tmp_path, record.trust, record.intermediate.certificate, leaf_of(record), purpose) == ""

    def test_leaf_has_one_name_and_is_no_authority(self) -> None:
        """Exactly one URI, CA:FALSE, digitalSignature alone, both extended usages."""
        (leaf,) = read(leaf_of(steps.made("shop", BEGAN_S)))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [name.value for name in names] == [IDENTITY]
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca) == (True, False)
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.value.crl_sign) == (True, False, False)
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        assert pki.identity_of(leaf) == IDENTITY

    def test_leaf_without_a_common_name_has_a_critical_alternative_name(self) -> None:
        """RFC 5280, 4.2.1.6."""
        signer = steps.made("shop", BEGAN_S).intermediate
        leaf = pki.make_leaf(IDENTITY, "", new_key().public_key(), signer.own, signer.private_key, BEGAN_S, DAY_S)
        assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
        assert not list(leaf.subject)

    def test_clocks_ten_minutes_behind_take_it(self) -> None:
        """Everything begins ten minutes before it was made."""
        record = steps.made("shop", BEGAN_S)
        (leaf,) = read(leaf_of(record))
        for one in (leaf, record.intermediate.own, record.root.own):
            assert pki.begins(one) == BEGAN_S - 600

    @pytest.mark.parametrize("late_s", [0.0, 60 * DAY_S, 89.9 * DAY_S])
    def test_nothing_outlives_who_signed_it(self, late_s: float) -> None:
        """Leaf, intermediate and root end in this order."""
        record = steps.made("shop", BEGAN_S)
        (leaf,) = read(leaf_of(record, now_s=BEGAN_S + late_s, life_s=30 * DAY_S))
        assert pki.ends(leaf) <= pki.ends(record.intermediate.own) <= pki.ends(record.root.own)

    def test_authority_of_one_mesh_signs_no_name_of_another(self, tmp_path: Path) -> None:
        """Name constraints (RFC 5280, 4.2.1.10), as OpenSSL enforces them."""
        record = steps.made("shop", BEGAN_S)
        leaf = leaf_of(record, "spiffe://bank/payments")
        said = openssl_verify(tmp_path, record.trust, record.intermediate.certificate, leaf, "sslclient")
        assert "permitted subtree violation" in said

    def test_intermediate_signs_no_further_authority(self, tmp_path: Path) -> None:
        """Its path length is 0."""
        record = steps.made("shop", BEGAN_S)
        key = new_key()
        signer = record.intermediate
        below = pki.make_intermediate("shop", key.public_key(), signer.own, signer.private_key, BEGAN_S)
        leaf = pki.make_leaf(IDENTITY, "i", new_key().public_key(), below, key, BEGAN_S, DAY_S)
        between = pki.text_of([below]) + signer.certificate
        assert "path length" in openssl_verify(tmp_path, record.trust, between, pki.text_of([leaf]), "sslclient")


class TestRequest:
    """PKCS#10 (RFC 2986): the key counts, and nothing else."""

    @pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519"])
    def test_keys_of_these_kinds_are_signed_for(self, kind: str) -> None:
        """Names that are asked for are not even looked at."""
        key = new_key(kind)
        found = pki.read_request(request(key, "root", "spiffe://shop/control"))
        assert pki.key_octets(found) == pki.key_octets(key.public_key())

    def test_rsa_is_signed_for_from_2048_bits_on(self) -> None:
        """And up to 4096."""
        assert pki.read_request(request(rsa.generate_private_key(65537, 2048)))
        with pytest.raises(BadRequest, match="expected a key of P-256"):
            pki.checked_key(rsa.generate_private_key(65537, 1024).public_key())

    def test_other_curves_are_refused(self) -> None:
        """Of which peers may know nothing."""
        with pytest.raises(BadRequest, match="expected a key of P-256"):
            pki.read_request(request(new_key("P-521")))

    def test_request_that_its_own_key_did_not_sign_is_refused(self) -> None:
        """Who does not have the key cannot have it certified."""
        key, other = new_key(), new_key()
        forged = request_der(request(key)).replace(pki.key_octets(key.public_key()), pki.key_octets(other.public_key()))
        with pytest.raises(BadRequest, match="signed by its own key"):
            pki.read_request(pem_of(forged))

    @pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----", pem_of(b"AAAA")])
    def test_what_is_none_is_refused(self, text: str) -> None:
        """With the house's own error."""
        with pytest.raises(BadRequest):
            pki.read_request(text)

    def test_long_text_is_not_looked_at(self) -> None:
        """A bound."""
        with pytest.raises(BadRequest, match="at most"):
            pki.read_request("x" * 20_000)


class TestReading:
    """Of what people and peers give."""

    def test_key_that_is_none_is_refused_without_its_text(self) -> None:
        """A wrong file may be another secret."""
        with pytest.raises(BadCertificate) as caught:
            pki.read_key("the-password")
        assert "the-password" not in str(caught.value)

    def test_chain_leads_to_the_root_that_signed_it(self) -> None:
        """And to no other of the same name."""
        record, other = steps.made("shop", BEGAN_S), steps.made("shop", BEGAN_S)
        chain = (*read(leaf_of(record)), *record.intermediate.chain)
        assert pki.root_of(chain, [other.root.own, record.root.own]) == record.root.own
        assert pki.root_of(chain, [other.root.own]) is None
        assert pki.root_of(chain[:1], [record.root.own], record.intermediate.chain) == record.root.own

    def test_leaf_signs_nothing(self) -> None:
        """A workload's key makes no further identity."""
        record = steps.made("shop", BEGAN_S)
        key = new_key()
        signer = record.intermediate
        leaf = pki.make_leaf(IDENTITY, "i", key.public_key(), signer.own, signer.private_key, BEGAN_S, DAY_S)
        forged = pki.make_leaf("spiffe://shop/payments", "i", new_key().public_key(), leaf, key, BEGAN_S, DAY_S)
        assert pki.root_of((forged, leaf, signer.own), [record.root.own]) is None
