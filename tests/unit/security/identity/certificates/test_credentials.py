"""Whom a workload is taken for, and every way in which its files can be wrong."""

from __future__ import annotations

import gc

import pytest

from sidecar.security.identity.certificates.credentials import Credentials, Material, read_credentials
from sidecar.security.identity.certificates.proof import RefusedError
from sidecar.security.identity.certificates.trouble import Trouble, TroubleError
from tests.support.certificates import (
    DAY,
    FOR_CLIENTS,
    FOR_CODE,
    FOR_SERVERS,
    HOUR,
    NOW,
    Authority,
    Leaf,
    key_pem_of,
    new_key,
    weak_key,
)

STOREFRONT = "spiffe://shop/storefront"

ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")
LEAF = ISSUER.workload(STOREFRONT)


def read(
    leaf: Leaf = LEAF,
    *,
    certificate: bytes | None = None,
    key: bytes | None = None,
    trust: bytes | None = None,
    now_s: float = NOW,
    trust_domain: str = "",
) -> Credentials:
    """As the holder of `tls.crt`, `tls.key` and `ca.crt` does."""
    material = Material(
        leaf.chain_pem if certificate is None else certificate,
        leaf.key_pem if key is None else key,
        ROOT.pem if trust is None else trust,
        "tls.crt",
        "tls.key",
        "ca.crt",
    )
    return read_credentials(material, now_s, trust_domain)


def refused(leaf: Leaf = LEAF, **other: object) -> Trouble:
    """Why it is not used."""
    with pytest.raises(TroubleError) as caught:
        read(leaf, **other)  # type: ignore[arg-type]
    return caught.value.trouble


class TestWhatIsUsed:
    """A leaf, who signed it, and a bundle that the chain leads to."""

    def test_a_chain_by_an_issuer_is_walked_to_its_root(self) -> None:
        """All of it is known: whose it is, who signed, and when each ends."""
        found = read()
        assert (found.identity, found.trust_domain) == (STOREFRONT, "shop")
        assert found.leaf.fingerprint == LEAF.fingerprint
        assert found.issuer is not None
        assert (found.issuer.subject, found.issuer.not_after_s) == ("CN=shop issuer", NOW + 90 * DAY)
        assert found.root is not None
        assert (found.root.subject, found.root.not_after_s) == ("CN=shop root", NOW + 3650 * DAY)

    def test_a_leaf_that_a_root_signed_has_no_issuer_between(self) -> None:
        """The root is the whole chain above it."""
        found = read(ROOT.workload(STOREFRONT))
        assert found.issuer is None
        assert found.root is not None
        assert found.root.subject == "CN=shop root"

    def test_a_chain_that_names_its_root_as_well_is_the_same(self) -> None:
        """cert-manager and others append it; peers pass over it."""
        found = read(certificate=LEAF.chain_pem + ROOT.pem)
        assert [one.subject for one in found.above] == ["CN=shop issuer", "CN=shop root"]

    def test_an_issuer_in_the_bundle_is_an_end_of_the_chain(self) -> None:
        """cert-manager's `ca.crt` may be an intermediate's: believed for itself, as Envoy and Go do."""
        found = read(certificate=LEAF.pem, trust=ISSUER.pem)
        assert [one.subject for one in found.above] == ["CN=shop issuer"]

    def test_of_two_roots_of_one_name_the_one_that_signed_is_found(self) -> None:
        """While a root is replaced both are in the bundle, with other keys and other ends."""
        new = Authority("shop root", ends=NOW + 100 * DAY)
        for trust in (ROOT.pem + new.pem, new.pem + ROOT.pem):
            assert read(trust=trust).root.not_after_s == NOW + 3650 * DAY  # type: ignore[union-attr]
            assert read(new.workload(STOREFRONT), trust=trust).root.not_after_s == NOW + 100 * DAY  # type: ignore[union-attr]

    def test_two_issuers_between_are_walked_and_the_first_to_end_is_told(self) -> None:
        """Whichever ends first is the end of all below it."""
        lower = ROOT.authority("upper", ends=NOW + 20 * DAY).authority("lower", ends=NOW + 40 * DAY)
        found = read(lower.workload(STOREFRONT))
        assert [one.subject for one in found.above] == ["CN=lower", "CN=upper", "CN=shop root"]
        assert found.issuer is not None
        assert found.issuer.subject == "CN=upper"

    def test_one_file_may_hold_certificate_and_key(self) -> None:
        """In any order, with text between, and ends of lines of any kind."""
        both = b"what follows is secret\n" + LEAF.key_pem + b"\n" + LEAF.chain_pem
        assert read(certificate=both, key=both).identity == STOREFRONT
        both = both.replace(b"\n", b"\r\n")
        assert read(certificate=both, key=both).identity == STOREFRONT

    def test_nothing_that_is_printed_has_a_key(self) -> None:
        """Neither of what was read nor of what was made of it."""
        found = read()
        material = Material(b"certificate", b"secret", b"trust", "tls.crt", "tls.key", "ca.crt")
        assert "secret" not in repr(material)
        for text in (repr(found), repr(found.pair), str(found)):
            assert "PRIVATE" not in text
            assert LEAF.key_pem.decode().splitlines()[1] not in text


class TestWhatIsWrongWithFiles:
    """PEM that is none, not whole, or another's."""

    @pytest.mark.parametrize("cut", [1, 40, 300])
    def test_a_certificate_that_ends_in_the_middle_is_half_written(self, cut: int) -> None:
        """Also where the leaf is whole and what comes after it is not: OpenSSL would take what there is."""
        wrong = refused(certificate=LEAF.chain_pem[: -cut - 1])
        assert wrong.code == "half_written"
        assert wrong.text.startswith("tls.crt:")

    def test_a_bundle_that_ends_in_the_middle_is_half_written(self) -> None:
        """Half a bundle would be a smaller one, and refuse who was believed."""
        other = Authority("other root")
        wrong = refused(trust=ROOT.pem + other.pem[:-60])
        line = len(ROOT.pem.splitlines()) + 1
        assert (wrong.code, wrong.text.split(" ")[0]) == ("half_written", f"ca.crt:{line}:")

    def test_a_key_that_ends_in_the_middle_is_half_written(self) -> None:
        """And its sentence has nothing of it."""
        wrong = refused(key=LEAF.key_pem[:-30])
        assert wrong.code == "half_written"
        assert LEAF.key_pem.decode().splitlines()[1] not in wrong.text

    @pytest.mark.parametrize(
        ("content", "got"), [(b"", "an empty file"), (b" \n", "an empty file"), (b"hello\n", "none")]
    )
    def test_a_file_without_certificates_says_what_it_has(self, content: bytes, got: str) -> None:
        """Nothing, or something else."""
        assert refused(certificate=content).text.endswith(f"got {got}")
        assert refused(trust=content).code == "no_certificate"
        assert refused(key=content).code == "malformed"

    def test_a_key_in_the_place_of_the_certificate_is_told(self) -> None:
        """The two names were exchanged."""
        wrong = refused(certificate=LEAF.key_pem, key=LEAF.pem)
        assert (wrong.code, "a key only" in wrong.text) == ("no_certificate", True)

    def test_a_key_of_another_certificate_is_told(self) -> None:
        """As between two writes of what belongs together."""
        wrong = refused(key=ISSUER.workload(STOREFRONT).key_pem)
        assert wrong.code == "key_mismatch"
        assert wrong.text.startswith("tls.key: this key does not belong to the certificate in tls.crt")

    def test_a_key_of_another_kind_is_told(self) -> None:
        """RSA where the certificate has a curve."""
        assert refused(key=key_pem_of(weak_key())).code == "key_mismatch"

    def test_a_chain_in_the_wrong_order_says_which_is_the_leaf(self) -> None:
        """The key belongs to another certificate of the file."""
        wrong = refused(certificate=ISSUER.pem + LEAF.pem)
        assert (wrong.code, "belongs to certificate 2 in this file" in wrong.text) == ("key_mismatch", True)

    def test_two_keys_in_one_file_are_told(self) -> None:
        """Which is meant, nobody knows."""
        wrong = refused(key=LEAF.key_pem + key_pem_of(new_key()))
        assert (wrong.code, wrong.text.endswith("got 2")) == ("malformed", True)

    def test_a_key_with_a_password_is_told(self) -> None:
        """Nobody is there to be asked for it."""
        assert refused(key=key_pem_of(LEAF.key, b"secret")).code == "key_encrypted"
        old = LEAF.key_pem.replace(b"KEY-----\n", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)
        assert refused(key=old).code == "key_encrypted"

    @pytest.mark.parametrize("broken", [b"MII", b"not base64!"])
    def test_what_is_no_certificate_inside_is_told_with_its_place(self, broken: bytes) -> None:
        """Base64 that is none, and DER that is none."""
        block = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % broken
        for wrong in (refused(certificate=LEAF.pem + block), refused(trust=ROOT.pem + block)):
            assert wrong.code == "malformed"

    def test_a_key_that_is_none_inside_is_told_without_it(self) -> None:
        """The block is whole, its content is not a key."""
        wrong = refused(key=b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        assert (wrong.code, "c2VjcmV0" in wrong.text) == ("malformed", False)

    def test_a_weak_key_is_told(self) -> None:
        """OpenSSL would refuse it at the first handshake."""
        assert refused(ISSUER.leaf(uris=[STOREFRONT], key=weak_key())).code == "too_weak"


class TestWhatIsWrongWithChains:
    """Signatures, purposes and names."""

    def test_a_leaf_by_an_unknown_authority_names_both(self) -> None:
        """Whose it is, who signed, whom we believe, and what to do."""
        wrong = refused(trust=Authority("other root").pem)
        assert wrong.code == "untrusted"
        assert "the certificate of spiffe://shop/storefront, signed by CN=shop issuer," in wrong.text
        assert "no root in ca.crt (CN=other root)" in wrong.text
        assert wrong.text.endswith("put the root of CN=shop root into ca.crt")

    def test_a_chain_without_its_issuer_says_what_is_missing(self) -> None:
        """The usual mistake: only the leaf was copied."""
        wrong = refused(certificate=LEAF.pem)
        assert wrong.code == "untrusted"
        assert wrong.text.endswith("append the certificate of CN=shop issuer to tls.crt, or put its root into ca.crt")

    def test_a_root_of_the_right_name_and_another_key_is_told_as_that(self) -> None:
        """A mesh that was made anew, or half a rotation."""
        wrong = refused(trust=Authority("shop root").pem)
        assert (wrong.code, "called CN=shop root, but has another key" in wrong.text) == ("untrusted", True)

    def test_many_roots_are_not_all_listed(self) -> None:
        """A bundle of a machine has 150."""
        wrong = refused(trust=b"".join(Authority(f"root {number}").pem for number in range(7)))
        assert "CN=root 3; and 3 more)" in wrong.text

    def test_a_bundle_of_leaves_is_none(self) -> None:
        """Whoever put tls.crt in the place of ca.crt."""
        wrong = refused(trust=LEAF.pem)
        assert (wrong.code, wrong.text) == (
            "no_certificate", "ca.crt: expected certificates of authorities, got 1 that may sign nothing"
        )  # fmt: skip

    @pytest.mark.parametrize(("uses", "only"), [([FOR_SERVERS], "servers"), ([FOR_CLIENTS], "clients")])
    def test_a_leaf_for_one_part_only_is_told(self, uses: list[object], only: str) -> None:
        """A workload is server and client."""
        wrong = refused(ISSUER.leaf(uris=[STOREFRONT], uses=uses))  # type: ignore[arg-type]
        assert (wrong.code, f"is for {only} only" in wrong.text) == ("wrong_purpose", True)

    def test_a_leaf_for_neither_part_is_told(self) -> None:
        """One that signs code."""
        assert refused(ISSUER.leaf(uris=[STOREFRONT], uses=[FOR_CODE])).code == "wrong_purpose"

    def test_an_authority_is_no_workload(self) -> None:
        """X509-SVID, 4.1: it may sign others."""
        wrong = refused(certificate=ISSUER.pem, key=key_pem_of(ISSUER.key))
        assert wrong.code == "wrong_purpose"

    @pytest.mark.parametrize(
        ("identities", "code"),
        [
            ([], "no_identity"),
            ([STOREFRONT, "spiffe://shop/search"], "several_identities"),
            ([STOREFRONT, "https://shop.example"], "several_identities"),
            (["https://shop.example/storefront"], "bad_identity"),
            (["spiffe://shop"], "bad_identity"),
        ],
    )
    def test_a_leaf_without_exactly_one_identity_is_told(self, identities: list[str], code: str) -> None:
        """X509-SVID, 2: exactly one URI, and that a workload's SPIFFE ID."""
        wrong = refused(ISSUER.workload(*identities))
        assert wrong.code == code
        assert wrong.text.startswith("tls.crt: the certificate of ")

    def test_an_identity_of_another_trust_domain_is_told(self) -> None:
        """Where one is wanted."""
        assert read(trust_domain="shop").trust_domain == "shop"
        wrong = refused(trust_domain="bank")
        assert (wrong.code, wrong.text) == (
            "other_trust_domain", "tls.crt: expected an identity of the trust domain bank, got spiffe://shop/storefront"
        )  # fmt: skip


class TestTimes:
    """By our clock, with the times of both sides."""

    def test_what_has_ended_is_told_with_both_times(self) -> None:
        """When it ended, and what our clock says."""
        leaf = ISSUER.workload(STOREFRONT, ends=1_900_000_000)
        wrong = refused(leaf, now_s=1_900_000_000 - 1 + 3 * HOUR, trust=ROOT.pem)
        assert wrong.code == "expired"
        assert "ended at 2030-03-17T17:46:40Z, 2 h ago by our clock, which says 2030-03-17T20:46:39Z" in wrong.text

    def test_the_moment_of_the_end_is_no_longer_its_time(self) -> None:
        """As OpenSSL compares."""
        assert read(now_s=NOW + 7 * DAY - 1).identity == STOREFRONT
        assert refused(now_s=NOW + 7 * DAY).code == "expired"

    def test_an_issuer_or_a_root_that_has_ended_is_told_as_such(self) -> None:
        """The leaf itself may live on."""
        short = ROOT.authority("short issuer", ends=NOW + DAY)
        assert (
            "CN=short issuer, who signed the leaf, ended at"
            in refused(short.workload(STOREFRONT), now_s=NOW + 2 * DAY).text
        )
        root = Authority("short root", ends=NOW + DAY)
        leaf = root.authority("issuer").workload(STOREFRONT)
        assert "CN=short root, who signed" in refused(leaf, trust=root.pem, now_s=NOW + 2 * DAY).text

    def test_an_old_root_beside_the_one_that_signed_is_no_trouble(self) -> None:
        """After a rotation it ends in the bundle."""
        old = Authority("old root", ends=NOW - HOUR / 2)
        assert read(trust=old.pem + ROOT.pem).identity == STOREFRONT

    def test_one_that_begins_within_ten_minutes_is_told_as_clocks_that_differ(self) -> None:
        """And when it can be used."""
        leaf = ISSUER.workload(STOREFRONT, begins=NOW + 300)
        wrong = refused(leaf)
        assert (wrong.code, wrong.until_s) == ("not_yet_valid", NOW + 300)
        assert "5 min from now by our clock" in wrong.text
        assert "have both follow the same time (NTP)" in wrong.text
        assert read(leaf, now_s=NOW + 300).identity == STOREFRONT

    def test_one_that_begins_later_is_told_without_that_advice(self) -> None:
        """Somebody meant it so."""
        wrong = refused(ISSUER.workload(STOREFRONT, begins=NOW + 2 * HOUR))
        assert (wrong.code, wrong.until_s, "NTP" in wrong.text) == ("not_yet_valid", NOW + 2 * HOUR, False)


def test_a_refusal_leaves_no_cycle() -> None:
    """Files are looked at again and again, and a reload exempts from collection what is there."""
    with pytest.raises(TroubleError):
        read(ISSUER.leaf(uris=[STOREFRONT], uses=[FOR_CODE]))
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(TroubleError):
            read(ISSUER.leaf(uris=[STOREFRONT], uses=[FOR_CODE]))
        assert not [one for one in gc.get_objects() if isinstance(one, RefusedError)]
    finally:
        gc.enable()
