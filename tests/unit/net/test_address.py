"""Addresses of the configuration: what is read, what is refused, and that they survive a round trip."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.address import TcpAddress, UnixAddress, join_host_port, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("app:80", TcpAddress("app", 80)),
        ("my_app.shop.svc.cluster.local.:80", TcpAddress("my_app.shop.svc.cluster.local.", 80)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:/run/with space:and colon", UnixAddress("/run/with space:and colon")),
    ],
)
def test_address_is_read_and_written_back_the_same(text: str, address: TcpAddress | UnixAddress) -> None:
    """Every form of the configuration language is read, and `str` gives the text again."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "8080",
        ":8080",
        "app:",
        "app:-1",
        "app:+80",
        "app: 80",
        "app:8_0",
        "app:65536",
        "app:000080",
        "app:٨٠",
        "::1:80",
        "::1",
        "[::1]",
        "[::1]80",
        "[::1",
        "[app]:80",
        "[]:80",
        "a b:80",
        "http://app:80",
        "app/x:80",
        ".app:80",
        "a" * 254 + ":80",
        "unix:",
        "unix:relative.sock",
        "unix:/run/",
        "unix:/a\0b",
        "unix:/" + "a" * 107,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Anything else is a ValueError whose message says what was expected and what was found."""
    with pytest.raises(ValueError, match=r"expected .*, found "):
        parse_address(text)


def test_host_characters_over_all_octets() -> None:
    """Of the 256 octets only letters, digits, `-`, `.` and `_` may stand inside a host."""
    allowed = set()
    for octet in range(256):
        try:
            address = parse_address(f"a{chr(octet)}b:80")
        except ValueError:
            continue
        assert address == TcpAddress(f"a{chr(octet)}b", 80)
        allowed.add(chr(octet))
    assert allowed == set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


def test_port_characters_over_all_octets() -> None:
    """Of the 256 octets only the ten digits may stand inside a port."""
    allowed = set()
    for octet in range(256):
        try:
            parse_address(f"a:1{chr(octet)}1")
        except ValueError:
            continue
        allowed.add(chr(octet))
    # A colon makes the text two colons long, which is an IPv6 address without brackets.
    assert allowed == set("0123456789")


@given(value=st.integers(0, 2**128 - 1), port=st.integers(0, 65535))
def test_every_ipv6_address_survives_the_round_trip(value: int, port: int) -> None:
    """Whatever the shape of an IPv6 address, joining and parsing are inverse."""
    host = str(IPv6Address(value))
    assert parse_address(join_host_port(host, port)) == TcpAddress(host, port)
