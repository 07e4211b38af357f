"""What a route asks of a request."""

from __future__ import annotations

import pytest

from sidecar.routing.match import host_matches, host_pattern, make_match
from sidecar.routing.matchers import path_matcher, value_matcher
from tests.unit.routing import head_of

ONE = value_matcher("exact", "1")


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("shop", b"shop", True), ("shop", b"shop.example.com", False), ("Shop.", b"shop", True),
        ("*.example.com", b"a.example.com", True), ("*.example.com", b"a.b.example.com", True),
        ("*.example.com", b"example.com", False), ("*.example.com", b".example.com", False),
        ("*.example.com", b"aexample.com", False), ("*.Example.Com.", b"a.example.com", True),
        ("*", b"anything", True), ("*", b"", True), ("*.com", b"a.com", True),
        ("[::1]", b"[::1]", True), ("10.0.0.1", b"10.0.0.1", True),
    ],
)  # fmt: skip
def test_host_patterns(pattern: str, host: bytes, matches: bool) -> None:
    """Exact in any case; a wildcard stands for one or more labels; `*` for every host."""
    assert host_matches(host_pattern(pattern), head_of(host=host)) is matches
    assert host_matches(host_pattern(pattern), head_of(host=host, port=8080)) is matches


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        ("shop:9090", b"shop", 9090, True), ("shop:9090", b"shop", None, False), ("shop:9090", b"shop", 80, False),
        ("Shop.:80", b"shop", None, True), ("shop:80", b"shop", 80, True), ("shop:80", b"shop", 8080, False),
        ("*.shop:9090", b"a.shop", 9090, True), ("*.shop:9090", b"a.shop", 9091, False),
        ("*.shop:9090", b"shop", 9090, False), ("*:9090", b"x", 9090, True), ("*:9090", b"x", None, False),
        ("*:80", b"", None, True), ("[::1]:9090", b"[::1]", 9090, True), ("[::1]:9090", b"[::1]", None, False),
        ("10.0.0.1:65535", b"10.0.0.1", 65535, True),
    ],
)  # fmt: skip
def test_a_pattern_with_a_port_is_for_requests_to_that_port(
    pattern: str, host: bytes, port: int | None, matches: bool
) -> None:
    """Port 80 is that of requests that name none."""
    assert host_matches(host_pattern(pattern), head_of(host=host, port=port)) is matches
    assert make_match(hosts=["other", pattern]).matches(head_of(host=host, port=port)) is matches


@pytest.mark.parametrize(
    "pattern",
    ["shop:0", "shop:65536", "shop:x", "shop:1:2", ":80", "*:", "*:x", "*.:80",
     "", "a b", "shop:", "a*", "*a", "*.", "*.*.com", "a.*.com", "**", "http://shop", "shop/", "café",
     "*.[::1]", "[::1", "u@shop", "shop\n", "*..com"],
)  # fmt: skip
def test_what_no_host_can_be_is_refused(pattern: str) -> None:
    """It would be a route that silently never matches."""
    with pytest.raises(ValueError, match="expected a host"):
        host_pattern(pattern)


def test_all_conditions_of_a_match_must_hold() -> None:
    """Each of them alone can say no."""
    match = make_match(
        hosts=["shop"],
        path=path_matcher("prefix", "/v1"),
        methods=["GET", "HEAD"],
        headers={"X-Canary": ONE},
        cookies={"uid": ONE},
        query={"debug": ONE},
    )
    lines = [b"x-canary: 1", b"Cookie: uid=1"]
    assert match.matches(head_of(b"/v1?debug=1", *lines))
    assert match.matches(head_of(b"/v1?debug=1", *lines, method=b"HEAD"))
    misses = {
        "host": head_of(b"/v1?debug=1", *lines, host=b"other"),
        "path": head_of(b"/v2?debug=1", *lines),
        "methods": head_of(b"/v1?debug=1", *lines, method=b"POST"),
        "header x-canary": head_of(b"/v1?debug=1", b"x-canary: 2", b"Cookie: uid=1"),
        "cookie uid": head_of(b"/v1?debug=1", b"x-canary: 1", b"Cookie: uid=2"),
        "query debug": head_of(b"/v1?debug=2", *lines),
    }
    for part, head in misses.items():
        assert not match.matches(head)
        # What an explanation needs: each condition answers by itself.
        assert [condition.part for condition in match.parts() if not condition.test(head)] == [part]


def test_an_empty_match_matches_everything() -> None:
    """Even CONNECT and OPTIONS *."""
    for head in (head_of(), head_of(b"", method=b"CONNECT"), head_of(b"*", method=b"OPTIONS", host=b"")):
        assert make_match().matches(head)
        assert make_match(hosts=["*"]).matches(head)


def test_header_names_match_in_any_case_and_values_are_joined() -> None:
    """RFC 9110, 5.3: several fields of one name are one list."""
    match = make_match(headers={"X-Tag": value_matcher("exact", "a, b")})
    assert match.matches(head_of(b"/", b"x-tag: a", b"X-TAG: b"))
    assert not match.matches(head_of(b"/", b"x-tag: a"))


def test_methods_are_case_sensitive() -> None:
    """RFC 9110, 9.1; and HEAD is not GET."""
    match = make_match(methods=["GET", "purge"])
    assert match.matches(head_of(b"/", method=b"purge"))
    assert not match.matches(head_of(b"/", method=b"get"))
    assert not match.matches(head_of(b"/", method=b"HEAD"))


def test_an_absent_header_can_be_asked_for() -> None:
    """`present: false`."""
    match = make_match(headers={"x-canary": value_matcher("present", False)})
    assert match.matches(head_of())
    assert not match.matches(head_of(b"/", b"x-canary:"))


@pytest.mark.parametrize(
    "arguments",
    [{"methods": ["get"]}, {"methods": ["G T"]}, {"methods": [""]}, {"headers": {"a b": ONE}}, {"headers": {"": ONE}},
     {"headers": {":path": ONE}}, {"cookies": {"": ONE}}, {"cookies": {"a=b": ONE}}, {"cookies": {"a;": ONE}},
     {"hosts": ["a b"]}],
)  # fmt: skip
def test_names_that_no_request_can_have_are_refused(arguments: dict[str, object]) -> None:
    """They would be conditions that silently never hold."""
    with pytest.raises(ValueError, match="expected"):
        make_match(**arguments)  # type: ignore[arg-type]
