"""Any content of a token file."""

from __future__ import annotations

import string

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.link.identity.messages import ServiceAccountProof, TokenProof
from sidecar.link.identity.token_file import parse_token

TOKEN_CHARS = string.ascii_letters + string.digits + "-_"
TOKENS = st.text(TOKEN_CHARS, min_size=43, max_size=43).map("sct_".__add__)
PINS = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)


@given(TOKENS, PINS)
def test_a_join_token_and_its_root_are_read(token: str, pin: str) -> None:
    """Each as it is; the root's digits in lower case."""
    assert parse_token(token).proof == TokenProof(token)
    assert parse_token(token).pin == ""
    read = parse_token(f"{token}#sha256:{pin}")
    assert (read.proof, read.pin) == (TokenProof(token), pin.lower())


@given(st.lists(st.text(TOKEN_CHARS, min_size=1), min_size=3, max_size=3).map(".".join))
def test_a_service_account_token_is_read(token: str) -> None:
    """By its three parts."""
    assert parse_token(token).proof == ServiceAccountProof(token)


@given(
    st.one_of(
        st.text(),
        st.text(TOKEN_CHARS).map("sct_".__add__),
        st.tuples(TOKENS, st.text()).map("#".join),
        st.tuples(TOKENS, st.text("0123456789abcdef")).map("#sha256:".join),
    )
)
@example("sct_" + "a" * 43 + "#")
@example("sct_" + "a" * 43 + "\n")
@example("sct_" + "a" * 42 + "é")
@example("a.b.c\n")
def test_what_is_read_is_whole_and_what_is_refused_is_not_shown(text: str) -> None:
    """A token of which a part was lost is none; and no refusal has anything of it."""
    try:
        read = parse_token(text)
    except ValueError as error:
        said = str(error)
        for piece in (text, *text.split("#")):
            assert len(piece) < 8 or piece not in said
        return
    proof = read.proof
    assert isinstance(proof, TokenProof | ServiceAccountProof)
    assert text in (proof.token, f"{proof.token}#sha256:{read.pin}") or text.partition(":")[2].lower() == read.pin
    assert proof.token not in repr(read)


@given(st.one_of(TOKENS, TOKENS.map(lambda token: f"{token}#sha256:{'0' * 64}")), st.data())
def test_two_contents_are_told_apart(text: str, data: st.DataObject) -> None:
    """Without either of them being kept."""
    other = data.draw(TOKENS)
    assert (parse_token(text).digest == parse_token(other).digest) == (text == other)
    assert text not in parse_token(text).digest
