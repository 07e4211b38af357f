"""The four forms of a target (RFC 9112, 3.2) and the normal form of paths (RFC 3986, 6.2.2)."""

from __future__ import annotations

import pytest

from sidecar.http1.grammar import TARGET, GrammarError
from sidecar.http1.target import is_plain, normalise, split_query, split_target
from sidecar.telemetry.json_text import escape

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/", (None, b"/", None)),
        (b"GET", b"/a/b?x=1&y", (None, b"/a/b", b"x=1&y")),
        (b"GET", b"/a?", (None, b"/a", b"")),
        (b"GET", b"/a?b?c", (None, b"/a", b"b?c")),
        (b"GET", b"//a//b", (None, b"//a//b", None)),
        (b"GET", b"/http://x/", (None, b"/http://x/", None)),
        (b"GET", b"http://Example.com", ((b"example.com", None), b"/", None)),
        (b"GET", b"HTTP://example.com:80/A?q", ((b"example.com", 80), b"/A", b"q")),
        (b"GET", b"http://example.com?q=/x", ((b"example.com", None), b"/", b"q=/x")),
        (b"GET", b"http://[::1]:8080/x", ((b"[::1]", 8080), b"/x", None)),
        (b"OPTIONS", b"*", (None, b"*", None)),
        (b"OPTIONS", b"http://example.com", ((b"example.com", None), b"*", None)),
        (b"OPTIONS", b"http://example.com/", ((b"example.com", None), b"/", None)),
        (b"OPTIONS", b"http://example.com?a", ((b"example.com", None), b"/", b"a")),
        (b"CONNECT", b"Example.com:443", ((b"example.com", 443), b"", None)),
        (b"CONNECT", b"[::1]:443", ((b"[::1]", 443), b"", None)),
    ],
)
def test_each_form_is_taken_apart(
    method: bytes, target: bytes, expected: tuple[tuple[bytes, int | None] | None, bytes, bytes | None]
) -> None:
    """Origin, absolute, authority and asterisk form give authority, path and query."""
    assert split_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b""), (b"GET", b"*"), (b"GET", b"a/b"), (b"GET", b"example.com:80"), (b"GET", b"https://example.com/"),
        (b"GET", b"ftp://example.com/"), (b"GET", b"http:///a"), (b"GET", b"http://:80/"), (b"GET", b"http:/a"),
        (b"GET", b"http://user:pw@example.com/"), (b"GET", b"http://a:99999/"), (b"GET", b"/a#b"), (b"GET", b"/a b"),
        (b"GET", b"/\xc3\xa9"), (b"GET", b"/%"), (b"GET", b"/%2"), (b"GET", b"/%zz"), (b"GET", b"?a"),
        (b"CONNECT", b"example.com"), (b"CONNECT", b"/"), (b"CONNECT", b"http://a/"), (b"CONNECT", b"a:"),
        (b"CONNECT", b":443"), (b"CONNECT", b"a:443/x"), (b"CONNECT", b"*"),
    ],
)  # fmt: skip
def test_what_has_none_of_the_four_forms_is_refused(method: bytes, target: bytes) -> None:
    """A wrong form for the method, another scheme, user information, fragments and half escapes are refused."""
    with pytest.raises(GrammarError):
        split_target(method, target)


@pytest.mark.parametrize("template", [b"/%b", b"/a%bb", b"/?%b", b"http://h/%b"])
def test_octets_of_a_target(template: bytes) -> None:
    """Over all 256 octets a target accepts those of its set; a path has no lone percent sign and no backslash."""
    good = set()
    for octet in range(256):
        try:
            split_target(b"GET", template % bytes([octet]))
        except GrammarError:
            continue
        good.add(octet)
    expected = set(TARGET) if b"?" in template else set(TARGET) - set(b"%\\")
    assert good == expected


def test_every_escape_has_one_normal_form() -> None:
    """Over all 256 octets and both cases: unreserved characters are decoded, all others have upper-case digits."""
    for octet in set(range(256)) - set(b"\0\r\n"):
        normal = normalise(b"/x%%%02X" % octet)
        assert normalise(b"/x%%%02x" % octet) == normal
        plain = bytes([octet])
        assert normal == (b"/x" + plain if plain in UNRESERVED else b"/x%%%02X" % octet)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"), (b"/.", b"/"), (b"/..", b"/"), (b"/a/.", b"/a/"), (b"/a/..", b"/"), (b"/a/b/..", b"/a/"),
        (b"/a/./b", b"/a/b"), (b"/a/../b", b"/b"), (b"/../../etc", b"/etc"), (b"/a/../../b", b"/b"),
        (b"/%2e%2E/a", b"/a"), (b"/a/%2e%2e/b", b"/b"), (b"/a/.%2e/b", b"/b"), (b"/%2e", b"/"),
        (b"/a%2fb", b"/a%2Fb"), (b"/a/..%2fb", b"/a/..%2Fb"), (b"/%5c..", b"/%5C.."), (b"/a//b", b"/a//b"),
        (b"/a//../b", b"/a/b"), (b"/...", b"/..."), (b"/.a", b"/.a"), (b"/a./b", b"/a./b"), (b"/%7Euser", b"/~user"),
        (b"/%41%5a", b"/AZ"), (b"/%252e", b"/%252e"), (b"/a;v=1/b", b"/a;v=1/b"),
    ],
)  # fmt: skip
def test_paths_have_one_normal_form(path: bytes, normal: bytes) -> None:
    """RFC 3986, 5.2.4 and 6.2.2: dot segments go, also encoded ones; slashes, `%2F` and double escapes stay."""
    assert normalise(path) == normal
    assert normalise(normal) == normal


def test_a_plain_target_is_what_all_other_questions_would_leave_alone() -> None:
    """Over all octets, at each place: taken apart as ever, normal, and itself as JSON."""
    plain = 0
    for octet in range(256):
        for template in (b"%b", b"/%b", b"/a%bb", b"/a/%b", b"/a?%b", b"/a?b=%b&c", b"/%b/..", b"x%b"):
            target = template % bytes((octet,))
            if is_plain(target):
                plain += 1
                path, query = split_query(target)
                assert split_target(b"GET", target) == (None, path, query)
                assert escape(target) == target
    assert plain > 400


@pytest.mark.parametrize("path", [b"/%00", b"/a%0d", b"/a/%0Ab", b"/%0D%0A", b"/a\\b", b"/..\\a", b"/\\"])
def test_what_ends_a_line_or_a_segment_for_others_is_refused(path: bytes) -> None:
    """An encoded NUL, CR or LF, and a backslash; in absolute form too."""
    for target in (path, b"http://h" + path, path + b"?a"):
        with pytest.raises(GrammarError):
            split_target(b"GET", target)


def test_query_is_passed_as_it_came() -> None:
    """Nothing in a query is decoded, resolved or refused that the target's octets allow."""
    query = b'a=%2e&b=/../&c=%&d=|"<>^`{}&e=%0d%0a%00&f=\\'  # a form's text has line ends, browsers send the rest
    assert split_target(b"GET", b"/?" + query) == (None, b"/", query)
