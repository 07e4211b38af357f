"""What names a workload (SPIFFE-ID, 2), and what does not."""

from __future__ import annotations

import string

import pytest

from sidecar.spiffe import SpiffeError, SpiffeId, check_trust_domain, parse_spiffe_id, parse_workload_id

OF_TRUST_DOMAINS = set(string.ascii_lowercase + string.digits + ".-_")
OF_SEGMENTS = OF_TRUST_DOMAINS | set(string.ascii_uppercase)


@pytest.mark.parametrize(
    ("text", "trust_domain", "path"),
    [
        ("spiffe://shop/storefront", "shop", "/storefront"),
        ("spiffe://k8s-west.example.com/ns/staging/sa/default", "k8s-west.example.com", "/ns/staging/sa/default"),
        ("spiffe://a_b.c/9eebccd2-12bf-40a6-b262-65fe0487d453", "a_b.c", "/9eebccd2-12bf-40a6-b262-65fe0487d453"),
        ("spiffe://10.0.0.1/Upper.Case_.../...", "10.0.0.1", "/Upper.Case_.../..."),
        ("spiffe://shop", "shop", ""),
        ("spiffe://" + "d" * 255 + "/" + "p" * (2048 - 9 - 256), "d" * 255, "/" + "p" * (2048 - 9 - 256)),
    ],
)
def test_names_are_taken_apart_and_put_together(text: str, trust_domain: str, path: str) -> None:
    """The text is the only form of the name."""
    assert parse_spiffe_id(text) == SpiffeId(trust_domain, path)
    assert str(parse_spiffe_id(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it does not begin with `spiffe://`"),
        ("shop/storefront", "it does not begin with `spiffe://`"),
        ("SPIFFE://shop/a", "it does not begin with `spiffe://`"),
        ("https://shop/a", "it does not begin with `spiffe://`"),
        ("spiffe:/shop/a", "it does not begin with `spiffe://`"),
        ("spiffe://", "the trust domain is empty"),
        ("spiffe:///a", "the trust domain is empty"),
        ("spiffe://" + "d" * 256 + "/a", "the trust domain is longer than 255 bytes"),
        ("spiffe://shop/" + "p" * (2048 - 13), "it is longer than 2048 bytes"),
        ("spiffe://shop/", "a path has neither empty segments nor a `/` at its end"),
        ("spiffe://shop/a/", "a path has neither empty segments nor a `/` at its end"),
        ("spiffe://shop//a", "a path has neither empty segments nor a `/` at its end"),
        ("spiffe://shop/a/../b", "a path has no segments `.` and `..`"),
        ("spiffe://shop/.", "a path has no segments `.` and `..`"),
        *(("spiffe://" + domain + "/a", "a trust domain has only lower-case letters, digits, `.`, `-` and `_`")
          for domain in ("Shop", "shop:80", "user@shop", "sh%6Fp", "[::1]", "shöp", "shop\n", "shop?x", "shop#x")),
        *(("spiffe://shop/" + path, "a path has only letters, digits, `.`, `-` and `_` between its slashes")
          for path in ("a?x", "a#x", "a%20b", "ä", "a b", "a\n", "*", "~a", "a:b", "a\x00")),
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_the_reason(text: str, why: str) -> None:
    """SPIFFE-ID, 2.1 to 2.3."""
    with pytest.raises(SpiffeError) as failure:
        parse_spiffe_id(text)
    assert str(failure.value) == why


@pytest.mark.parametrize("octet", range(256))
def test_every_character_is_allowed_exactly_where_the_specification_has_it(octet: int) -> None:
    """SPIFFE-ID, 2.1: `[a-z0-9.-_]`; 2.2: `[a-zA-Z0-9.-_]`."""
    character = chr(octet)
    for allowed, text in ((OF_TRUST_DOMAINS, f"spiffe://x{character}x/a"), (OF_SEGMENTS, f"spiffe://x/x{character}x")):
        try:
            parse_spiffe_id(text)
        except SpiffeError:
            assert character not in allowed
        else:
            assert character in allowed | {"/"}


def test_a_trust_domain_is_no_workload() -> None:
    """A server must be somebody in it."""
    assert parse_workload_id("spiffe://shop/a").path == "/a"
    with pytest.raises(SpiffeError, match="who would be `spiffe://shop/NAME`"):
        parse_workload_id("spiffe://shop")


def test_names_of_trust_domains_are_checked_by_themselves() -> None:
    """As in an ID."""
    check_trust_domain("shop.example")
    for name in ("", "Shop", "shop/a", "spiffe://shop", "d" * 256):
        with pytest.raises(SpiffeError):
            check_trust_domain(name)
