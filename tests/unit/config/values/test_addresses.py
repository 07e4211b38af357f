"""Hosts, addresses and URLs."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from sidecar.config.values.addresses import (
    address,
    parse_authority,
    parse_authority_pattern,
    parse_host,
    parse_host_pattern,
    parse_http_url,
    parse_ip,
    parse_listened_host,
    parse_network,
    split_address,
    split_pattern,
)
from sidecar.config.yaml.scalars import resolve_plain
from sidecar.net.address import parse_address
from sidecar.routing.match import host_pattern
from sidecar.routing.match import split_pattern as routed_pattern

GOOD_ADDRESSES = [
    "127.0.0.1:8080", "localhost:1", "my_service:80", "a.b-c.example.com:65535", "name.:53", "[::1]:80",
    "[2001:db8::7]:443", "unix:/run/app.sock", "0.0.0.0:15000",
]  # fmt: skip


def hint_of(parse: object, written: object) -> str:
    """The hint with which a value is refused."""
    with pytest.raises(PydanticCustomError) as caught:
        parse(written)  # type: ignore[operator]
    assert caught.value.context is not None
    return str(caught.value.context["hint"])


@pytest.mark.parametrize("written", GOOD_ADDRESSES)
def test_addresses_are_those_that_the_network_can_use(written: str) -> None:
    """What is accepted here is accepted by `net.address`, and stays as it was written."""
    assert address().parse(written) == written
    assert str(parse_address(written)) == written


def test_hosts_of_addresses_become_lower_case() -> None:
    """So that two spellings are one endpoint."""
    assert address().parse("Shop.Example:80") == "shop.example:80"
    assert split_address("shop:80") == ("shop", 80)
    assert split_address("[::1]:80") == ("[::1]", 80)
    assert split_address("unix:/a") == ("/a", -1)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        (":8080", "write the host, too: `10.0.0.11:8080`"),
        (resolve_plain("8080"), "write host and port: `10.0.0.11:8080`"),
        ("http://shop:80/x", "write host and port without a scheme: `shop:80`"),
        ("::1:8080", "put an IPv6 address in brackets: `[::1]:8080`"),
        ("shop", "write the port, too: `shop:8080`"),
        ("shop:0", "ports go from 1 to 65535"),
        ("shop:65536", "ports go from 1 to 65535"),
        ("300.1.1.1:80", "the host is neither a name nor an IP address"),
        ("-a:80", "the host is neither a name nor an IP address"),
        ("unix:run/x", "such as `unix:/run/app.sock`"),
        ("unix:/" + "x" * 107, ""),
        ("a b:80", ""),
        ("shop:80:90", ""),
        ("shöp:80", "the host is neither a name nor an IP address"),
        (None, ""),
        ([], ""),
    ],
)
def test_other_addresses_are_refused_with_a_hint(written: object, hint: str) -> None:
    """The usual slips, each with what to write."""
    assert hint_of(address().parse, written) == hint


def test_port_zero_is_for_listeners_only() -> None:
    """The system chooses the port of a listener; no server has port 0."""
    assert address(lowest_port=0).parse("127.0.0.1:0") == "127.0.0.1:0"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Shop", "shop"), ("*", "*"), ("*.Example.com", "*.example.com"), ("shop.example.", "shop.example"),
        ("10.0.0.1", "10.0.0.1"), ("[::1]", "[::1]"), ("a_b", "a_b"), ("x" * 63, "x" * 63),
    ],
)  # fmt: skip
def test_host_patterns_are_those_of_the_router(written: str, expected: str) -> None:
    """Lower case and without the last dot, as the router compares them."""
    assert parse_host_pattern(written) == expected
    assert host_pattern(expected).decode() == expected


@pytest.mark.parametrize(
    ("written", "expected", "parts"),
    [
        ("Shop:80", "shop:80", ("shop", 80)), ("shop.:09090", "shop:9090", ("shop", 9090)),
        ("*.Example.com:1", "*.example.com:1", ("*.example.com", 1)), ("*:65535", "*:65535", ("*", 65535)),
        ("[::1]:80", "[::1]:80", ("[::1]", 80)), ("[::1]", "[::1]", ("[::1]", None)), ("*", "*", ("*", None)),
        ("10.0.0.1:80", "10.0.0.1:80", ("10.0.0.1", 80)), ("Shop", "shop", ("shop", None)),
    ],
)  # fmt: skip
def test_a_host_may_carry_a_port_where_requests_are_told_apart(
    written: str, expected: str, parts: tuple[str, int | None]
) -> None:
    """In one spelling, that of the router."""
    assert parse_authority_pattern(written) == expected
    assert split_pattern(expected) == parts
    assert host_pattern(expected).decode() == expected
    assert routed_pattern(expected.encode()) == (parts[0].encode(), parts[1])
    if "*" not in written:
        assert parse_listened_host(written) == expected


@pytest.mark.parametrize(
    "written",
    ["shop:0", "shop:65536", "shop:", ":80", "::1:80", "a b:80", "-:80", "*a:80", "*.:80", "http://shop:80",
     "shop:80:80", "shop:x", None, [], "*.10.0.0.1:80"],
)  # fmt: skip
def test_no_other_port_or_host_is_taken(written: object) -> None:
    """An error, whatever it is."""
    for parse in (parse_authority_pattern, parse_listened_host):
        with pytest.raises(PydanticCustomError):
            parse(written)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("shop:80", "hosts are compared without scheme and port: write `shop`"),
        ("http://shop/x", "hosts are compared without scheme and port: write `shop`"),
        ("http://shop:80/x", "hosts are compared without scheme and port: write `shop`"),
        ("::1", "write an IPv6 address in brackets: `[::1]`"),
        ("shop.*", "a `*` may only stand alone or before the first dot"),
        ("*shop", "a `*` may only stand alone or before the first dot"),
        ("*.10.0.0.1", "a `*` may only stand alone or before the first dot"),
        ("bücher.example", "write an international name in its ASCII form, `xn--...`"),
        ("", ""), ("a..b", ""), ("a b", ""), ("x" * 64, ""), ("[::1%eth0]", ""), (None, ""),
    ],
)  # fmt: skip
def test_other_hosts_are_refused_with_a_hint(written: object, hint: str) -> None:
    """Ports, schemes, stray wildcards and what is no name."""
    assert hint_of(parse_host_pattern, written) == hint


def test_every_octet_in_a_host_is_judged() -> None:
    """Only letters, digits, hyphen, underscore and dot may stand inside of a host name."""
    accepted = set()
    for octet in range(256):
        try:
            parse_host_pattern(f"a{chr(octet)}b")
        except PydanticCustomError:
            continue
        accepted.add(chr(octet))
    assert accepted == set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def test_single_hosts_have_no_wildcard() -> None:
    """A listener's host and a redirect's host are one host."""
    assert parse_host("Shop") == "shop"
    for written in ("*", "*.shop"):
        with pytest.raises(PydanticCustomError):
            parse_host(written)


def test_authorities_may_have_a_port() -> None:
    """What `rewrite.host` sends."""
    assert [parse_authority(word) for word in ("Shop", "shop:8080", "[::1]:1")] == ["shop", "shop:8080", "[::1]:1"]
    for word in ("shop:0", "shop:x", "*", "http://shop", "a\r\nb", None):
        with pytest.raises(PydanticCustomError):
            parse_authority(word)


@pytest.mark.parametrize("written", ["http://127.0.0.1:4318", "https://x.example/v1?a=b", "http://[::1]:1/"])
def test_http_urls(written: str) -> None:
    """Absolute, http or https."""
    assert parse_http_url(written) == written


@pytest.mark.parametrize(
    "written",
    ["shop", "ftp://x", "http://", "http://a b/", "http://x:99999", "http://x/\r\n", "http://ä/", 1],
)
def test_other_urls_are_refused(written: object) -> None:
    """Relative, of another scheme, without a host, or with what must be encoded."""
    with pytest.raises(PydanticCustomError):
        parse_http_url(written)


def test_ip_addresses() -> None:
    """For `source_ip` of a test."""
    assert parse_ip("10.0.0.7") == "10.0.0.7"
    assert parse_ip("::1") == "::1"
    for word in ("[::1]", "x", "10.0.0", None):
        with pytest.raises(PydanticCustomError):
            parse_ip(word)


@pytest.mark.parametrize(
    ("written", "read"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.7", "10.0.0.7/32"), ("FD00::/8", "fd00::/8"), ("::1", "::1/128"),
     ("0.0.0.0/0", "0.0.0.0/0"), ("unix", "unix")],
)  # fmt: skip
def test_networks_are_read_in_one_spelling(written: str, read: str) -> None:
    """CIDR, a single address, and who connects by a Unix socket."""
    assert parse_network(written) == read


@pytest.mark.parametrize(
    ("written", "hint"),
    [("10.0.0.7/8", "did you mean `10.0.0.0/8`?"), ("balancer", "names are not looked up"), ("10.0.0.0/33", ""),
     ("[::1]", "names are not looked up"), ("10.0.0.0/8, 10.1.0.0/16", ""), ("", ""), (None, ""), (["10.0.0.0/8"], "")],
)  # fmt: skip
def test_what_is_no_network_is_refused(written: object, hint: str) -> None:
    """With what was most likely meant."""
    assert hint_of(parse_network, written) == hint
