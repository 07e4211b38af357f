"""Whatever a peer sends to have a certificate: it is understood, or refused by the house's own errors and no others."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import proofs
from sidecar.control.authority import record as steps
from sidecar.control.authority.backup import opened
from sidecar.control.authority.certificates import BadCertificate, BadRequest
from sidecar.control.authority.names import line_of, of_account, of_service, parts_of
from sidecar.control.authority.proofs import ProofRefused
from sidecar.control.authority.record import AuthorityError, read_record
from sidecar.control.authority.tokens import TokenRefused, parse
from sidecar.link.fields import MessageError
from sidecar.link.identity.messages import read_join
from tests.support.authority import BEGAN_S, new_key, request, request_der
from tests.support.thoroughness import examples

SETTINGS = settings(max_examples=examples(150), deadline=None)


@functools.cache
def known() -> steps.Record:
    """One authority for all examples."""
    return steps.made("shop", BEGAN_S)


@functools.cache
def good_request() -> bytes:
    """In DER."""
    return request_der(request(new_key()))


@functools.cache
def good_chain() -> bytes:
    """A leaf in DER."""
    signer = known().intermediate
    leaf = pki.make_leaf("spiffe://shop/a", "i", new_key().public_key(), signer.own, signer.private_key, BEGAN_S, 3600)
    return leaf.public_bytes(Encoding.DER)


def pem(kind: str, der: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"


@st.composite
def damaged(draw: st.DrawFn, good: Any) -> bytes:
    """A good one of which some octets are others, or a piece is missing."""
    raw = bytearray(good())
    for _ in range(draw(st.integers(1, 4))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del raw[draw(st.integers(0, len(raw) - 1)) :]
    return bytes(raw)


@SETTINGS
@given(st.one_of(st.binary(max_size=400), damaged(good_request)))
def test_request_is_read_or_refused(der: bytes) -> None:
    """And a key that is signed for is of a kind that is."""
    with contextlib.suppress(BadRequest):
        pki.checked_key(pki.read_request(pem("CERTIFICATE REQUEST", der)))


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)
"""Halves of pairs of surrogates, too, which JSON can say."""


@SETTINGS
@given(ANY_TEXT)
def test_text_is_a_request_or_refused(text: str) -> None:
    """Also where it is not even PEM."""
    with contextlib.suppress(BadRequest):
        pki.read_request(text)
    with contextlib.suppress(BadCertificate):
        pki.read_certificates(text)
    with contextlib.suppress(BadCertificate):
        pki.read_key(text)


@SETTINGS
@given(st.one_of(st.binary(max_size=400), damaged(good_chain)), ANY_TEXT, ANY_TEXT)
def test_old_certificate_proves_nothing_that_it_did_not_sign(der: bytes, nonce: str, signature: str) -> None:
    """Whatever its octets: refused, for nobody has signed."""
    csr = request(new_key())
    for shown in (nonce, proofs.new_nonce(known().nonce_key, BEGAN_S)):
        try:
            proofs.by_signature(known(), pem("CERTIFICATE", der), shown, signature, csr, BEGAN_S)
        except ProofRefused:
            continue
        raise AssertionError("it was taken")


@SETTINGS
@given(damaged(good_chain))
def test_certificate_of_tls_is_read_or_refused(der: bytes) -> None:
    """TLS has verified it; it may still be of any form."""
    with contextlib.suppress(ProofRefused):
        proven = proofs.by_tls(known(), der, BEGAN_S)
        assert proven.identity.startswith("spiffe://shop/")


@SETTINGS
@given(damaged(good_chain))
def test_chain_that_can_be_read_leads_to_a_root_or_to_none(der: bytes) -> None:
    """Every part of it was read before, so that nothing fails later."""
    with contextlib.suppress(BadCertificate):
        shown = tuple(pki.read_certificates(pem("CERTIFICATE", der)))
        pki.root_of(shown, [known().root.own], known().intermediate.chain)
        _ = pki.identity_of(shown[0]), pki.common_name_of(shown[0]), pki.is_authority(shown[0])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@SETTINGS
@given(
    st.dictionaries(
        st.sampled_from(["csr", "service", "instance", "proof", "lifetime_s"]),
        _json
        | st.dictionaries(
            st.sampled_from(["token", "service_account_token", "certificate", "nonce", "signature"]), _json, max_size=3
        ),
        max_size=5,
    )
)
@example({"csr": "x", "service": "s", "proof": {"certificate": True}})
@example({"csr": "x", "service": "s", "proof": {"token": "t", "certificate": True}})
def test_body_of_a_join_has_one_proof_or_is_refused(body: dict[str, Any]) -> None:
    """Never more than one, and never another error."""
    try:
        found = read_join(json.dumps(body).encode())
    except MessageError:
        return
    proof = body["proof"]
    assert sum(bool(proof.get(name)) for name in ("token", "service_account_token", "certificate")) == 1
    assert found.lifetime_s >= 0


@SETTINGS
@given(st.binary(max_size=300))
def test_octets_are_a_body_a_record_a_backup_or_refused(raw: bytes) -> None:
    """What peers send, what the engine has, what an operator gives."""
    with contextlib.suppress(MessageError):
        read_join(raw)
    with contextlib.suppress(AuthorityError):
        read_record(raw)
    with contextlib.suppress(AuthorityError):
        opened(raw, "a passphrase of some length")


@SETTINGS
@given(ANY_TEXT)
def test_token_is_parsed_or_refused_without_being_told(text: str) -> None:
    """What is none may be another secret."""
    try:
        token, root = parse(text)
    except TokenRefused as error:
        said = str(error)
    else:
        said = ""
        assert len(token) == 47
        assert len(root) in (0, 64)
    assert len(text) < 4 or text not in said


@SETTINGS
@given(ANY_TEXT, st.integers(-1000, 1000))
def test_nonce_is_ours_or_none(text: str, late_s: int) -> None:
    """And is good for five minutes."""
    key = known().nonce_key
    assert not proofs.is_nonce(text, key, BEGAN_S)
    nonce = proofs.new_nonce(key, BEGAN_S)
    assert proofs.is_nonce(nonce, key, BEGAN_S + late_s) == (abs(late_s) <= proofs.NONCE_S)
    assert not proofs.is_nonce(nonce, "00" * 32, BEGAN_S)


@SETTINGS
@given(ANY_TEXT)
def test_identity_has_two_parts_or_is_none(text: str) -> None:
    """Of one form only, so that nobody is somebody else by another spelling."""
    parts = parts_of(text)
    if parts is not None:
        assert f"spiffe://{parts[0]}/{parts[1]}" == text
    parts = parts_of(f"spiffe://shop/{text}")
    if parts is not None:
        assert parts == ("shop", text)
        assert not {"", ".", ".."} & set(text.split("/"))


def test_identities_of_services_and_accounts_never_meet() -> None:
    """Nor do their lines."""
    assert parts_of(of_service("shop", "a")) == ("shop", "a")
    assert parts_of(of_account("shop", "n", "a")) == ("shop", "ns/n/sa/a")
    assert line_of(of_service("shop", "a"), "i") == "a/i"
