"""PEM cut and joined at every place."""

from __future__ import annotations

import pytest

from sidecar.security.identity.certificates.pem import certificates, private_key, text_of
from sidecar.security.identity.certificates.trouble import TroubleError
from tests.support.certificates import Authority

FIRST, SECOND = Authority("first"), Authority("second")
BUNDLE = b"# the first\n" + FIRST.pem + b"----- the second -----\n" + SECOND.pem


def test_a_bundle_is_its_certificates_in_order() -> None:
    """What else stands between them is passed over."""
    assert text_of(certificates(BUNDLE, "ca.crt")) == FIRST.pem + SECOND.pem


def found_in(content: bytes) -> int | str:
    """How many certificates, or what is wrong."""
    try:
        return len(certificates(content, "ca.crt"))
    except TroubleError as error:
        return error.trouble.code


def test_a_bundle_that_is_cut_anywhere_is_never_taken_for_a_smaller_one() -> None:
    """But for a cut between two certificates, which nobody can see; one look later it is longer."""
    begins, ends = BUNDLE.index(FIRST.pem), BUNDLE.index(FIRST.pem) + len(FIRST.pem) - 1
    for cut in range(len(BUNDLE) - 1):
        found = found_in(BUNDLE[:cut])
        if cut <= begins:
            assert found == "no_certificate"
        elif ends <= cut <= BUNDLE.index(SECOND.pem):
            assert found in (1, "half_written")
        else:
            assert found == "half_written"


def test_a_key_that_is_cut_anywhere_is_none() -> None:
    """And no sentence has anything of it."""
    key = FIRST.workload("spiffe://shop/a").key_pem
    for cut in range(len(key) - 1):
        with pytest.raises(TroubleError) as caught:
            private_key(key[:cut], "tls.key")
        assert key.splitlines()[1].decode() not in caught.value.trouble.text


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_what_is_left_of_a_longer_file_is_told(end: bytes) -> None:
    """A writer that did not truncate: the end of what was there before."""
    rest = b"\n".join(SECOND.pem.splitlines()[3:])
    with pytest.raises(TroubleError) as caught:
        certificates((FIRST.pem + rest).replace(b"\n", end), "ca.crt")
    assert caught.value.trouble.code == "half_written"
