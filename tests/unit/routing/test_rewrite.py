"""Rewritten paths and redirects."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest

from sidecar.message import RequestHead
from sidecar.routing.match import make_match
from sidecar.routing.matchers import path_matcher, value_matcher
from sidecar.routing.rewrite import make_redirect, make_rewrite, valid_path
from tests.unit.routing import head_of

PREFIX_FOO = (make_match(path=path_matcher("prefix", "/foo")),)


def rewritten(target: bytes, **options: object) -> bytes:
    return make_rewrite(PREFIX_FOO, **options).apply(head_of(target))[1]  # type: ignore[arg-type]


class TestPrefix:
    """The Gateway API's table for ReplacePrefixMatch, row by row, and what goes beyond it."""

    @pytest.mark.parametrize(
        ("path", "prefix", "replacement", "result"),
        [
            (b"/foo/bar", "/foo", "/xyz", b"/xyz/bar"), (b"/foo/bar", "/foo", "/xyz/", b"/xyz/bar"),
            (b"/foo/bar", "/foo/", "/xyz", b"/xyz/bar"), (b"/foo/bar", "/foo/", "/xyz/", b"/xyz/bar"),
            (b"/foo", "/foo", "/xyz", b"/xyz"), (b"/foo/", "/foo", "/xyz", b"/xyz/"),
            (b"/foo/bar", "/foo", "/", b"/bar"), (b"/foo/", "/foo", "/", b"/"), (b"/foo", "/foo", "/", b"/"),
            (b"/foo", "/foo", "/xyz/", b"/xyz/"),
            (b"/bar", "/", "/xyz", b"/xyz/bar"), (b"/", "/", "/xyz", b"/xyz/"), (b"/bar", "/", "/", b"/bar"),
            (b"/foo//bar", "/foo", "/xyz", b"/xyz//bar"), (b"/foo/a%2Fb", "/foo", "/xyz", b"/xyz/a%2Fb"),
            (b"/foo/bar", "/foo", "/caf\u00e9", b"/caf%C3%A9/bar"),
        ],
    )  # fmt: skip
    def test_whole_segments(self, path: bytes, prefix: str, replacement: str, result: bytes) -> None:
        """Slashes at the seam are neither doubled nor lost."""
        matches = (make_match(path=path_matcher("prefix", prefix)),)
        assert make_rewrite(matches, prefix=replacement).apply(head_of(path)) == (None, result)

    def test_of_starts_with_that_text_is_replaced(self) -> None:
        """And a dot segment that comes about is resolved."""
        rewrite = make_rewrite((make_match(path=path_matcher("starts_with", "/v1.")),), prefix="/v2.")
        assert rewrite.apply(head_of(b"/v1.5/x"))[1] == b"/v2.5/x"
        rewrite = make_rewrite((make_match(path=path_matcher("starts_with", "/a")),), prefix="/b/")
        assert rewrite.apply(head_of(b"/a../x"))[1] == b"/x"

    def test_of_an_exact_path_all_of_it_is_replaced(self) -> None:
        """The path is its own prefix."""
        rewrite = make_rewrite((make_match(path=path_matcher("exact", "/old")),), prefix="/new")
        assert rewrite.apply(head_of(b"/old"))[1] == b"/new"

    def test_a_prefix_in_another_case_is_replaced(self) -> None:
        """As it was matched."""
        rewrite = make_rewrite((make_match(path=path_matcher("prefix", "/Foo", ignore_case=True)),), prefix="/x")
        assert rewrite.apply(head_of(b"/fOO/Bar"))[1] == b"/x/Bar"

    def test_of_several_matches_the_first_that_holds_says_which_prefix(self) -> None:
        """Not the first whose prefix fits: its other conditions count as well."""
        matches = (
            make_match(path=path_matcher("prefix", "/v1"), headers={"x": value_matcher("exact", "1")}),
            make_match(path=path_matcher("prefix", "/v1/old")),
        )
        rewrite = make_rewrite(matches, prefix="/new")
        assert rewrite.apply(head_of(b"/v1/old/a", b"x: 1"))[1] == b"/new/old/a"
        assert rewrite.apply(head_of(b"/v1/old/a"))[1] == b"/new/a"

    @pytest.mark.parametrize(
        "matches",
        [
            (), (make_match(),), (PREFIX_FOO[0], make_match()),
            (make_match(path=path_matcher("prefix", "/foo", invert=True)),),
            (make_match(path=path_matcher("regex", "/foo.*")),),
        ],
    )  # fmt: skip
    def test_a_route_without_a_prefix_has_none_to_replace(self, matches: tuple[object, ...]) -> None:
        """Each of its matches must name one."""
        with pytest.raises(ValueError, match="every match of the route"):
            make_rewrite(matches, prefix="/x")  # type: ignore[arg-type]


class TestRegex:
    """Every part that matches is replaced, as by Envoy's `regex_rewrite`."""

    @pytest.mark.parametrize(
        ("pattern", "substitution", "path", "result"),
        [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", b"/service/foo/v1/api", b"/v1/api/instance/foo"),
            ("one", "two", b"/xxx/one/yyy/one/zzz", b"/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", b"/xxx/one/yyy/one/zzz", b"/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", b"/aaa/XxX/bbb", b"/aaa/yyy/bbb"),
            ("nothing", "x", b"/a", b"/a"), ("/a", r"\0\0", b"/a", b"/a/a"),
            ("^/(a)?(b)?$", r"/[\1\2]", b"/b", b"/[b]"),
            ("^/a$", "/caf\u00e9", b"/a", b"/caf%C3%A9"), ("^/a$", r"/\\", b"/a", b"/%5C"),
            ("^/(.+)-(.+)$", r"/\1/\2", b"/..-x", b"/x"),
        ],
    )  # fmt: skip
    def test_groups_are_put_where_the_substitution_says(
        self, pattern: str, substitution: str, path: bytes, result: bytes
    ) -> None:
        """What comes out is brought into normal form, so no dot segment can be smuggled in."""
        assert rewritten(path, regex=(pattern, substitution)) == result

    @pytest.mark.parametrize(
        ("pattern", "substitution", "path"), [("^/", "", b"/a"), ("^/.*", "", b"/a"), ("/a", "/%", b"/a/x")]
    )
    def test_a_result_that_is_no_path_is_an_error(self, pattern: str, substitution: str, path: bytes) -> None:
        """The exchange then ends with REWRITE_INVALID."""
        with pytest.raises(ValueError):
            rewritten(path, regex=(pattern, substitution))

    @pytest.mark.parametrize(
        ("pattern", "substitution"), [("a", r"\1"), ("(a)", r"\2"), ("a", "\\"), ("a", r"\n"), ("a", "?x"), ("(", "x")]
    )
    def test_an_invalid_rewrite_is_refused_when_compiled(self, pattern: str, substitution: str) -> None:
        """Groups that are not there, escapes that mean nothing, a query in a path."""
        with pytest.raises(ValueError):
            make_rewrite((), regex=(pattern, substitution))


@pytest.mark.parametrize("octet", range(256))
def test_only_octets_of_a_path_are_valid(octet: int) -> None:
    """Visible ASCII without `?`, `#` and a backslash: nothing that could end the request line or a segment."""
    path = b"/a" + bytes([octet]) + b"b"
    if octet == ord("%"):
        path = b"/a%41b"
    if 0x21 <= octet <= 0x7E and octet not in b"?#\\":
        assert valid_path(path).startswith(b"/a")
    else:
        with pytest.raises(ValueError):
            valid_path(path)


def test_the_whole_path_can_be_replaced() -> None:
    """The query is not part of it and is kept by the proxy."""
    assert rewritten(b"/foo/bar?x=1", path="/new/./x") == b"/new/x"


def test_the_host_can_be_replaced_alone() -> None:
    """With or without a port; the path stays."""
    assert make_rewrite((), host="Shop.Internal").apply(head_of(b"/a")) == (b"shop.internal", b"/a")
    assert make_rewrite((), host="[::1]:8080").apply(head_of(b"/a")) == (b"[::1]:8080", b"/a")


@pytest.mark.parametrize(("method", "path"), [(b"CONNECT", b""), (b"OPTIONS", b"*")])
def test_what_has_no_path_keeps_none(method: bytes, path: bytes) -> None:
    """CONNECT and `OPTIONS *`, whatever the rewrite."""
    assert make_rewrite((), path="/x").apply(head_of(path, method=method)) == (None, path)
    assert make_rewrite((), regex=(".*", "/x")).apply(head_of(path, method=method)) == (None, path)


@pytest.mark.parametrize(
    "options",
    [{"path": "/a", "prefix": "/b"}, {"path": "a"}, {"path": "/a?b"}, {"path": "/%"}, {"prefix": "b"}, {"host": "a b"},
     {"host": ""}, {"host": "a\r\nb"}, {"host": "a:99999"}, {"path": "/a", "regex": ("a", "b")}],
)  # fmt: skip
def test_what_is_no_rewrite_is_refused(options: dict[str, object]) -> None:
    """When compiled, not when a request comes."""
    with pytest.raises(ValueError):
        make_rewrite(PREFIX_FOO, **options)  # type: ignore[arg-type]


def location(head: RequestHead, **options: object) -> bytes:
    return make_redirect(PREFIX_FOO, **options).location(head)  # type: ignore[arg-type]


class TestRedirect:
    """RFC 9110, 10.2.2: `Location` is a reference, absolute or relative."""

    @pytest.mark.parametrize(
        ("target", "options", "expected"),
        [
            (b"/old", {"path": "/new"}, b"/new"),
            (b"/old?a=1&b=%2F", {"path": "/new"}, b"/new?a=1&b=%2F"),
            (b"/old?", {"path": "/new"}, b"/new?"),
            (b"/old?a=1", {"path": "/new?b=2?"}, b"/new?b=2?"),
            (b"/old?a=1", {"path": "/new?"}, b"/new?"),
            (b"/foo/bar?a=1", {"prefix": "/xyz"}, b"/xyz/bar?a=1"),
            (b"/a?b", {"scheme": "https"}, b"https://shop/a?b"),
            (b"/a", {"host": "other.example"}, b"http://other.example/a"),
            (b"/a", {"port": 8443}, b"http://shop:8443/a"),
            (b"/a", {"scheme": "https", "port": 8443}, b"https://shop:8443/a"),
            (b"/a", {"scheme": "https", "port": 443}, b"https://shop/a"),
            (b"/a", {"host": "x", "scheme": "https", "port": 80, "path": "/b"}, b"https://x:80/b"),
        ],
    )
    def test_what_is_configured_changes_and_the_rest_stays(
        self, target: bytes, options: dict[str, object], expected: bytes
    ) -> None:
        """Without scheme, host and port the reference is relative."""
        assert location(head_of(target), **options) == expected

    @pytest.mark.parametrize(
        ("port", "options", "expected"),
        [
            (8080, {"scheme": "https"}, b"https://shop:8080/a"), (80, {"scheme": "https"}, b"https://shop/a"),
            (443, {"scheme": "http"}, b"http://shop/a"), (8080, {"host": "x"}, b"http://x/a"),
            (8080, {"port": 9090}, b"http://shop:9090/a"), (8080, {"path": "/a"}, b"/a"),
        ],
    )  # fmt: skip
    def test_the_port_of_the_request_stays_with_its_host(
        self, port: int, options: dict[str, object], expected: bytes
    ) -> None:
        """But for a default port, which would be wrong with another scheme."""
        assert location(head_of(b"/a", port=port), **options) == expected

    @pytest.mark.parametrize(
        ("proto", "scheme"), [(b"https", b"https"), (b"HTTPS", b"https"), (b"http", b"http"), (b"javascript", b"http")]
    )
    def test_the_scheme_is_what_a_proxy_before_us_says(self, proto: bytes, scheme: bytes) -> None:
        """Of http and https; nothing else is believed."""
        assert location(head_of(b"/a", b"X-Forwarded-Proto: " + proto), host="x") == scheme + b"://x/a"

    @pytest.mark.parametrize("rest", [b"/evil.example", b"//evil.example"])
    def test_a_path_cannot_become_another_host(self, rest: bytes) -> None:
        """`//host` would be a network-path reference (RFC 3986, 4.2)."""
        found = location(head_of(b"/foo/" + rest), prefix="/").decode()
        assert urlsplit(urljoin("http://shop/foo/x", found)).netloc == "shop"
        assert not found.startswith("//")

    @pytest.mark.parametrize("rest", [b"\\evil.example", b"/\\evil.example"])
    def test_a_backslash_goes_nowhere(self, rest: bytes) -> None:
        """Browsers read `\\` as `/`; no request brings one, and none is made."""
        with pytest.raises(ValueError, match="backslash"):
            location(head_of(b"/foo/" + rest), prefix="/")

    def test_without_a_host_the_reference_is_relative(self) -> None:
        """An HTTP/1.0 request that names none."""
        assert location(head_of(b"/a", host=b""), scheme="https") == b"/a"

    @pytest.mark.parametrize(("method", "path"), [(b"CONNECT", b""), (b"OPTIONS", b"*")])
    def test_what_has_no_path_is_sent_to_the_root(self, method: bytes, path: bytes) -> None:
        """CONNECT and `OPTIONS *`."""
        assert location(head_of(path, method=method), host="x") == b"http://x/"

    @pytest.mark.parametrize("octet", [0, 9, 10, 13, 32, 35, 127, 128, 255])
    def test_no_octet_of_a_query_can_break_out_of_the_field(self, octet: int) -> None:
        """The parser refuses these; should one come here, it goes no further."""
        head = head_of(b"/a")
        head.query = b"x" + bytes([octet]) + b"set-cookie: a=1"
        with pytest.raises(ValueError):
            location(head, path="/b")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_the_statuses_of_redirects(self, status: int) -> None:
        """And no other."""
        assert make_redirect((), path="/a", status=status).status == status

    def test_a_303_may_lead_to_itself(self) -> None:
        """RFC 9110, 15.4.4: a POST is answered with where to GET what came of it, usually the same address."""
        assert make_redirect((), status=303).location(head_of(b"/a?b=c")) == b"/a?b=c"

    @pytest.mark.parametrize(
        "options",
        [{}, {"status": 302}, {"path": "/a", "status": 200}, {"path": "/a", "status": 300},
         {"path": "/a", "status": 304}, {"path": "a"}, {"path": "/a#b"}, {"path": "/a?b#c"},
         {"path": "/a", "prefix": "/b"}, {"scheme": "ftp"}, {"port": 0}, {"port": 65536}, {"host": "a b"},
         {"host": "a:80"}, {"host": ""}, {"host": "a/b"}],
    )  # fmt: skip
    def test_what_is_no_redirect_is_refused(self, options: dict[str, object]) -> None:
        """Also one that changes nothing: it would lead to itself."""
        with pytest.raises(ValueError):
            make_redirect(PREFIX_FOO, **options)  # type: ignore[arg-type]
