"""What cannot get past a rule by being written in another way, and what is not refused though it looks odd."""

from __future__ import annotations

import pytest

from sidecar.errors import ProtocolError
from sidecar.security.authorization.readings import read_paths
from tests.unit.security.authorization.support import allow, clause, deny, head, judged, rules

DENY = rules(deny("no-internals", clause(prefix="/internal")), default="allow")
ALLOW = rules(allow("public", clause(prefix="/public")))

TRICKS = (
    "/internal", "/internal/", "/internal/x", "/internal?x", "/%69nternal", "/%69%6E%74ernal", "/./internal",
    "/x/../internal", "/x/%2e%2e/internal", "/x/.%2E/internal", "/../internal", "/../../internal/x", "//internal",
    "///internal//x", "/.//internal", "/internal%2Fx", "/internal%2fx", "/%2Finternal",
    "/x/..%2finternal", "/x%2f..%2finternal", "/x/..%5cinternal", "/x%2F%2e%2e%2Finternal", "/internal;v=1",
    "/;a/internal", "/internal;/x", "/x/..;/internal", "/x/..;v=1/internal", "/x/%2e%2e;/internal", "/internal/.",
    "/internal/x/..", "/internal%5Cx", "http://shop/internal", "http://other/internal", "http://shop//internal",
    "HTTP://SHOP/x/..%2Finternal", "/x/..//internal", "/x/y/../..;a=b//internal", "/internal//",
    # Of servers that do only some of it, or in another order.
    "/internal;%2F..", "/internal%2F..;/", "/internal%2F%2F..", "/internal%2F..%2Fx", "/internal%2F..%5Cx",
    "/x/..%2Finternal%2F..;", "/x/..%2Finternal%2F..%5Cx", "/internal%3Bv=1", "/x/..%3B/internal",
    "/x;%2Fy/..%2Finternal", "/x%2F%2F..%2F..%2Finternal",
)  # fmt: skip


@pytest.mark.parametrize("target", TRICKS)
def test_no_way_of_writing_a_path_gets_past_a_rule_that_denies(target: str) -> None:
    """Encoding, dots, repeated and encoded slashes, parameters of segments, absolute form."""
    assert judged(DENY, head(target)) == ("denied", "no-internals")


@pytest.mark.parametrize("target", ["/INTERNAL", "/Internal/x", "/iNTERNAL;v", "//INTERNAL", "/%49NTERNAL"])
def test_case_counts_unless_the_rule_says_otherwise(target: str) -> None:
    """Paths are case-sensitive (RFC 3986, 6.2.2.1); for an app to which they are not there is `ignore_case`."""
    in_any_case = rules(deny("no-internals", clause(prefix="/internal", ignore_case=True)), default="allow")
    assert judged(in_any_case, head(target)) == ("denied", "no-internals")
    assert judged(DENY, head(target)) == ("allowed", "default")


@pytest.mark.parametrize(
    "target",
    [
        "/internals",
        "/x/internal",
        "/x?/internal",
        "/x%252Finternal",
        "/internal%20x",
        "/x;/internal",
        "/in%2Fternal",
        "/x//../internal",
    ],
)
def test_another_path_is_another_path(target: str) -> None:
    """What no server reads as below the prefix; the last is sent as `/x/internal`."""
    assert judged(DENY, head(target)) == ("allowed", "default")


CLIMBS = (
    "/public/..%2fadmin", "/public/..;/admin", "/public%2F..%2Fadmin", "/public/x/..%5c..%5cadmin",
    "/public/..%2Fadmin%2F..%5Cpublic", "/public/..%2Fadmin%2F..;%2Fpublic", "/public/..;%2Fpublic/x",
)  # fmt: skip


@pytest.mark.parametrize("target", CLIMBS)
def test_nobody_climbs_out_of_what_a_rule_allows(target: str) -> None:
    """A path that goes up by what a server may decode must be allowed there, too."""
    assert judged(ALLOW, head(target)) == ("denied", "default")


@pytest.mark.parametrize(
    "target",
    ["/public", "/public/a%2Fb", "/public//x", "/public/x;v=1", "/public/a%2F..%2Fb", "/public/caf%C3%A9",
     "/public/x%2f..%2f"],
)  # fmt: skip
def test_what_is_allowed_may_hold_odd_characters(target: str) -> None:
    """As long as no reading leads elsewhere."""
    assert judged(ALLOW, head(target)) == ("allowed", "public")


def test_a_path_that_is_not_climbed_is_matched_as_it_is_sent() -> None:
    """An encoded slash in a name is data: a rule that allows just that is enough."""
    authorization = rules(allow("project", clause(path="/projects/group%2Fname")))
    assert judged(authorization, head("/projects/group%2fname")) == ("allowed", "project")


def test_a_rule_that_is_inverted_is_not_turned_against_itself() -> None:
    """`deny` of all but one prefix denies what only looks as if it were below."""
    authorization = rules(deny("rest", clause(prefix="/v1", invert=True)), default="allow")
    assert judged(authorization, head("/v1/x")) == ("allowed", "default")
    for target in ("//v1/x", "/v1/..%2fx", "/v2"):
        assert judged(authorization, head(target)) == ("denied", "rest")


@pytest.mark.parametrize(
    "lines",
    [
        ("x-role: admin",), ("X-Role: admin",), ("x-role: user", "x-role: admin"), ("x-role: admin", "x-role: user"),
        ("x-role: a", "x-role: b", "X-ROLE: admin", "x-role: c"), ("x-role:admin",), ("x-role: \tadmin ",),
    ],
)  # fmt: skip
def test_a_header_that_comes_several_times_does_not_hide_a_value(lines: tuple[str, ...]) -> None:
    """Which of them the app takes, nobody knows: any that a rule denies is denied."""
    authorization = rules(deny("no-admins", clause(headers={"x-role": "admin"})), default="allow")
    assert judged(authorization, head("/", "GET", *lines)) == ("denied", "no-admins")


@pytest.mark.parametrize(
    "query", ["debug=1", "debug=0&debug=1", "x&debug=0&y&%64ebug=1", "debug=1&debug=0", "debug=%31"]
)
def test_a_parameter_that_comes_several_times_does_not_hide_a_value(query: str) -> None:
    """We take the first, many servers the last."""
    authorization = rules(deny("no-debug", clause(query={"debug": "1"}, path="/a")), default="allow")
    assert judged(authorization, head(f"/a?{query}")) == ("denied", "no-debug")
    assert judged(authorization, head(f"/b/..%2fa?{query}")) == ("denied", "no-debug")
    assert judged(authorization, head("/a?debug=0&x=1")) == ("allowed", "default")


@pytest.mark.parametrize("lines", [("Cookie: r=1",), ("Cookie: r=0; r=1",), ("Cookie: r=0", "Cookie: x=2; r=1")])
def test_a_cookie_that_comes_several_times_does_not_hide_a_value(lines: tuple[str, ...]) -> None:
    """The same for cookies, in one field or several; other questions of the rule still hold."""
    authorization = rules(deny("no-r", clause(cookies={"r": "1"}, headers={"x": "1"})), default="allow")
    assert judged(authorization, head("/", "GET", *lines, "x: 1")) == ("denied", "no-r")
    assert judged(authorization, head("/", "GET", *lines, "x: 2")) == ("allowed", "default")


def test_many_values_are_looked_at_up_to_a_bound_and_the_last() -> None:
    """Whoever sends thousands makes nothing slow."""
    authorization = rules(deny("no-debug", clause(query={"debug": "1"})), default="allow")
    many = "&".join(["debug=0"] * 900)
    assert judged(authorization, head(f"/?{many}")) == ("allowed", "default")
    assert judged(authorization, head(f"/?{many}&debug=1")) == ("denied", "no-debug")


def test_in_audit_a_trick_is_told_and_passes() -> None:
    """Outcome and rule are those of the reading that would be refused."""
    authorization = rules(deny("no-internals", clause(prefix="/internal")), default="allow", is_audit=True)
    assert judged(authorization, head("//internal")) == ("audit_denied", "no-internals")


@pytest.mark.parametrize("target", ["/x/..\\internal", "/internal%00", "/x%0d/internal", "/%zz/internal"])
def test_what_is_no_path_never_comes_here(target: str) -> None:
    """It is refused with 400 before."""
    with pytest.raises(ProtocolError):
        head(target)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", {}), (b"*", {}), (b"", {}), (b"/a/b/", {}), (b"/caf%C3%A9/.well-known", {}),
        (b"/a//b", {b"/a/b": False}), (b"//", {b"/": False}), (b"/a;x/b;y", {b"/a/b": False}),
        (b"/a%2Fb", {b"/a/b": False}), (b"/a%5Cb%2F", {b"/a/b/": False, b"/a%5Cb/": False}),
        (b"/a/..;/b", {b"/b": True, b"/a/../b": False}), (b"/a%2F..", {b"/": True, b"/a/..": False}),
        (b"/a%2F.%2Fb", {b"/a/b": False, b"/a/./b": False}),
        (b"/..%2F..%2Fx", {b"/x": True, b"/../../x": False}),
        (b"/a;%2F..", {b"/": True, b"/a/..": False, b"/a;/..": False, b"/a": False}),
        (b"/a%2F%2F..%2Fb", {b"/b": True, b"/a/../b": False, b"/a/b": True, b"/a//../b": False}),
        (b"/a%3Bb", {b"/a": False, b"/a;b": False}),
    ],
)  # fmt: skip
def test_how_servers_may_read_a_path(path: bytes, expected: dict[bytes, bool]) -> None:
    """And whether it goes up by that."""
    assert read_paths(path) == expected


ODD = "/a%2F;b%2F%2F..%5C..;%2Fc%5C%5Cd;%2F.."
"""Of which there are twenty readings."""
DEBUG = rules(deny("no-debug", clause(query={"a": "1"}), clause(query={"b": "1"}), clause(path="/x")), default="allow")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/y" * 508 + "/..%2Fz", ("allowed", "default")), ("/y" * 509 + "/..%2Fz", ("denied", "default")),
        ("/y" * 509 + "%2Fz", ("allowed", "default")),
        (ODD + "?" + "a=0&b=0&" * 4, ("allowed", "default")),
        (ODD + "?" + "a=0&b=0&" * 9, ("denied", "default")),
    ],
)  # fmt: skip
def test_what_can_be_read_in_too_many_ways_is_denied(target: str, expected: tuple[str, str]) -> None:
    """Each reading takes its time; whoever writes such paths has no use for an answer."""
    assert judged(DEBUG, head(target)) == expected
