"""What is said when somebody joins."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sidecar.link.fields import MessageError
from sidecar.link.identity.held import Held, read_held
from sidecar.link.identity.messages import (
    CertificateProof,
    Joined,
    JoinRequest,
    Proof,
    ServiceAccountProof,
    SignedProof,
    TokenProof,
    Trust,
    read_join,
    read_joined,
    read_nonce,
    read_trust,
    text_to_sign,
    write_join,
    write_joined,
    write_nonce,
    write_trust,
)

PROOFS: list[Proof] = [
    TokenProof("sct_x"),
    ServiceAccountProof("a.b.c"),
    CertificateProof(),
    SignedProof("PEM", "nonce", "signature"),
]


@pytest.mark.parametrize("proof", PROOFS)
def test_a_request_is_read_as_it_was_written(proof: Proof) -> None:
    """With each kind of proof."""
    request = JoinRequest("csr", "shop", "shop-1", proof, 3600)
    assert read_join(write_join(request)) == request


def test_a_lifetime_that_nobody_wants_is_not_said() -> None:
    """The authority has one of its own."""
    assert "lifetime_s" not in json.loads(write_join(JoinRequest("csr", "shop", "", CertificateProof())))


@pytest.mark.parametrize(
    "proof",
    [None, {}, {"certificate": False}, {"token": 7}, {"token": "SECRET" * 10_000}, {"token": ["SECRET"]},
     {"service_account_token": {"SECRET": 1}}, {"certificate": "SECRET"}],
)  # fmt: skip
def test_a_proof_that_is_none_is_refused_without_being_shown(proof: object) -> None:
    """It may be a token by mistake."""
    raw = json.dumps({"csr": "csr", "service": "shop", "proof": proof}).encode()
    with pytest.raises(MessageError) as caught:
        read_join(raw)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "proof",
    [{"token": "SECRET", "certificate": True}, {"token": "SECRET", "service_account_token": "a.b.c"},
     {"service_account_token": "a.b.c", "certificate": "SECRET", "nonce": "n", "signature": "s"}],
)  # fmt: skip
def test_two_proofs_are_none(proof: object) -> None:
    """Nobody could say which of them it was that counted."""
    raw = json.dumps({"csr": "csr", "service": "shop", "proof": proof}).encode()
    with pytest.raises(MessageError, match="expected one of") as caught:
        read_join(raw)
    assert "SECRET" not in str(caught.value)


def test_no_proof_is_in_a_repr() -> None:
    """Requests are what a debugger shows."""
    said = repr([JoinRequest("csr", "shop", "", proof) for proof in PROOFS])
    assert "sct_x" not in said
    assert "a.b.c" not in said
    assert "'signature'" not in said


def test_answers_are_read_as_they_were_written() -> None:
    """And what is no answer is refused."""
    joined = Joined("chain", "roots", "shop", "spiffe://shop/storefront", 700, 100)
    assert read_joined(write_joined(joined)) == joined
    with pytest.raises(MessageError, match="renew_after"):
        read_joined(write_joined(replace(joined, renew_after_s=700)))
    assert read_trust(write_trust(Trust("roots", "shop", ("ab", "cd")))) == Trust("roots", "shop", ("ab", "cd"))
    assert read_nonce(write_nonce("n")) == "n"


def test_what_is_signed_is_of_one_request() -> None:
    """And of one nonce."""
    texts = {text_to_sign(nonce, csr) for nonce in ("a", "b") for csr in (b"1", b"2")}
    assert len(texts) == 4


def test_what_is_held_is_kept_whole() -> None:
    """Its key too; what is damaged is not held."""
    held = Held("chain", "SECRET", "roots", "shop", "spiffe://shop/a", "CN=i", 1.0, 9.0, 3.0, 2.0)
    shown = json.loads(json.dumps(held.shown()))
    assert read_held(shown) == held
    assert "SECRET" not in repr(held)
    for name in shown:
        assert read_held({key: value for key, value in shown.items() if key != name}) is None
        assert read_held({**shown, name: ["?"]}) is None
    assert read_held(None) is None
