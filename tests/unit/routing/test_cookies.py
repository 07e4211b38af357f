"""Cookies as browsers send them (RFC 6265, 5.4)."""

from __future__ import annotations

import pytest

from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.routing.cookies import MAX_COOKIES, cookie, parse_cookies
from tests.unit.routing import head_of


@pytest.mark.parametrize(
    ("value", "cookies"),
    [
        (b"a=1", {b"a": b"1"}),
        (b"a=1; b=2", {b"a": b"1", b"b": b"2"}),
        (b"a=1;b=2", {b"a": b"1", b"b": b"2"}),
        (b"a=1;\t b=2 ;  c = 3 ", {b"a": b"1", b"b": b"2", b"c": b"3"}),
        (b"a=x=y==", {b"a": b"x=y=="}),
        (b'a="two words"; b="', {b"a": b"two words", b"b": b'"'}),
        (b'a=""; b="x', {b"a": b"", b"b": b'"x'}),
        (b'a="x;y"', {b"a": b'"x'}),
        (b"a=; b=1", {b"a": b"", b"b": b"1"}),
        (b"a=1; a=2; A=3", {b"a": b"1", b"A": b"3"}),
        (b"nameless; =x; ; a=1;", {b"a": b"1"}),
        (b"a=%20", {b"a": b"%20"}),
        (b"a=caf\xc3\xa9", {b"a": b"caf\xc3\xa9"}),
        (b"$Version=1; a=1", {b"$Version": b"1", b"a": b"1"}),
        (b"a=1, b=2", {b"a": b"1, b=2"}),
        (b"", {}),
    ],
)
def test_the_cookies_of_a_field(value: bytes, cookies: dict[bytes, bytes]) -> None:
    """Pairs by `;`, names to the first `=`, outer white space and one pair of quotes off, the first of a name wins."""
    assert parse_cookies(value) == cookies


def test_cookies_are_read_from_every_cookie_field() -> None:
    """The first field that has the name wins."""
    head = head_of(b"/", b"Cookie: a=1; b=2", b"X-Other: a=9", b"cookie: b=3; c=4")
    assert [cookie(head, name) for name in (b"a", b"b", b"c", b"d")] == [b"1", b"2", b"4", None]


def test_a_request_without_cookie_fields_has_no_cookies() -> None:
    """Absent is None."""
    assert cookie(head_of(b"/"), b"a") is None


def test_an_empty_cookie_is_there() -> None:
    """Empty is not absent, and hides a later one of its name."""
    assert cookie(head_of(b"/", b"Cookie: a=", b"Cookie: a=1"), b"a") == b""


def test_a_shared_field_is_parsed_once() -> None:
    """Fields are remembered across requests, and their cookies with them."""
    head = head_of(b"/", b"Cookie: once=1")
    cookie(head, b"once")
    again = head_of(b"/", b"Cookie: once=1")
    assert again.fields[1] is head.fields[1]
    assert again.fields[1].note == {b"once": b"1"}


def test_the_number_of_cookies_is_bounded() -> None:
    """What comes after the thousandth is not seen; what is before is intact."""
    pairs = [b"c%d=%d" % (number, number) for number in range(MAX_COOKIES + 5)]
    cookies = parse_cookies(b"; ".join(pairs))
    assert len(cookies) == MAX_COOKIES
    assert cookies[b"c%d" % (MAX_COOKIES - 1)] == b"%d" % (MAX_COOKIES - 1)


def _parsed(*fields: str) -> RequestHead:
    return parse_request_head("\r\n".join(["GET / HTTP/1.1", "Host: a", *fields]).encode(), 100)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("Cookie: a=1; b=2",), (b"1", b"2")),
        (("Cookie: a=1", "X-A: 1", "Cookie: b=2; a=3"), (b"1", b"2")),
        (("Cookie: c=0", "Cookie: a=1", "Cookie: b=2"), (b"1", b"2")),
        (("Cookie: a=1; b=2", "Connection: keep-alive"), (b"1", b"2")),
        (("Cookie: a=1; b=2", "Connection: cookie"), (b"1", b"2")),
        (("Cookie: a=1", "Connection: close, Cookie", "Cookie: b=2"), (b"1", b"2")),
        (("X-A: a=1",), (None, None)),
    ],
)
def test_parsed_heads_have_the_cookies_of_all_their_fields(
    fields: tuple[str, ...], expected: tuple[bytes | None, bytes | None]
) -> None:
    """However many there are; `Connection` takes none of them out, for they are meant for the end."""
    head = _parsed(*fields)
    assert (cookie(head, b"a"), cookie(head, b"b")) == expected
    assert (cookie(head, b"a"), cookie(head, b"b")) == expected
