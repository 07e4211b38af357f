"""What the app is told of who connected."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.exchange import Direction
from sidecar.http1.grammar import field_of
from sidecar.peer import Peer
from sidecar.proxy.origin import client_cert, forwarded_lines

ADDRESS = ("10.0.0.7", 4711)
ID = "spiffe://shop/storefront"


def peer(**said: object) -> Peer:
    """A client by TLS, with a certificate."""
    values = {"identity": ID, "uris": (ID,), "fingerprint": "ab" * 32, "subject": "CN=client,O=Shop"} | said
    return Peer("1.3", "TLS_AES_128_GCM_SHA256", **values)  # type: ignore[arg-type]


def test_in_clear_nothing_is_said_of_a_certificate() -> None:
    """As it was before there was TLS."""
    assert forwarded_lines(ADDRESS, Direction.INBOUND) == b"x-forwarded-for: 10.0.0.7\r\nx-forwarded-proto: http\r\n"
    assert forwarded_lines(ADDRESS, Direction.OUTBOUND) == b"x-forwarded-proto: http\r\n"


def test_a_certificate_is_told_as_users_of_envoy_know_it() -> None:
    """Whom it has spoken with first, then the client's."""
    lines = forwarded_lines(ADDRESS, Direction.INBOUND, peer(names=("a.shop",)), "spiffe://shop/catalog")
    assert lines.split(b"\r\n") == [
        b"x-forwarded-for: 10.0.0.7",
        b"x-forwarded-proto: https",
        b"x-forwarded-client-cert: By=spiffe://shop/catalog;Hash=%b;" % (b"ab" * 32)
        + b'Subject="CN=client,O=Shop";URI=spiffe://shop/storefront;DNS=a.shop',
        b"",
    ]


def test_a_client_without_a_certificate_has_none_that_could_be_told() -> None:
    """TLS for clients outside asks for none."""
    lines = forwarded_lines(ADDRESS, Direction.INBOUND, Peer("1.3", "TLS_AES_128_GCM_SHA256"))
    assert b"client-cert" not in lines
    assert b"proto: https" in lines


@given(st.text(), st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3), st.text())
def test_nothing_in_a_certificate_ends_a_value_or_the_field(
    subject: str, uris: list[str], names: list[str], by: str
) -> None:
    """Who signed it may have written anything."""
    value = client_cert(peer(subject=subject, uris=tuple(uris), names=tuple(names)), by)
    field_of(b"x-forwarded-client-cert: " + value)  # raises on what no field has
    outside = b"".join(value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    assert outside.count(b";") == (1 if by else 0) + 1 + len(uris) + len(names)
    assert b"," not in outside
