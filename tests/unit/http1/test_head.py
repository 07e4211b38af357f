"""Heads: start lines, the rules between fields, and where a head ends."""

from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.errors import ProtocolError, Reason
from sidecar.http1.grammar import TOKEN, VALUE, GrammarError
from sidecar.http1.head import _heads, find_head_end, lone_head, parse_request_head, parse_response_head, response_head
from sidecar.message import Framing, Kind, RequestHead, ResponseHead, Version


def request(*lines: bytes, max_headers: int = 100) -> RequestHead:
    block = b"\r\n".join(lines)
    assert lone_head(block + b"\r\n\r\n") in (block.split(b"\r\n"), None)
    return parse_request_head(block, max_headers)


def response(*lines: bytes, method: bytes = b"GET", max_headers: int = 100) -> ResponseHead:
    """Parsed, and once more from memory: the same."""
    block = b"\r\n".join(lines)
    head = parse_response_head(block, max_headers, method)
    for _ in range(2):
        known = response_head(block, max_headers, method)
        for name in ("status", "reason", "version", "kinds", "framing", "content_length", "keep_alive"):
            assert getattr(known, name) == getattr(head, name)
        assert [field.wire for field in known.fields] == [field.wire for field in head.fields]
    return head


def refusal_of(*lines: bytes, max_headers: int = 100) -> Reason:
    with pytest.raises(ProtocolError) as caught:
        request(*lines, max_headers=max_headers)
    return caught.value.reason


class TestRequestLine:
    """RFC 9112, 3: request-line = method SP request-target SP HTTP-version."""

    def test_octets_of_a_method(self) -> None:
        """Over all 256 octets a method accepts those of a token."""
        good = set()
        for octet in range(256):
            try:
                request(b"A%bB / HTTP/1.1" % bytes([octet]), b"Host: a")
            except ProtocolError:
                continue
            good.add(octet)
        assert good == set(TOKEN)

    def test_method_is_case_sensitive(self) -> None:
        """RFC 9110, 9.1: `get` is another method than `GET`, and is passed."""
        assert request(b"get / HTTP/1.1", b"Host: a").method == b"get"

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET / x HTTP/1.1",
            b" / HTTP/1.1",
            b"GET / HTTP/1.10",
            b"GET / HTTP/11",
            b"GET / http/1.1",
            b"GET / HTTP/1",
            b"GET / HTTP/1.",
            b"GET / HTTP/.1",
            b"GET / HTTP/1.2",
            b"GET / HTTP/1,1",
            b"GET / HTTPS/1.1",
            b"GET / HTTP/+1.1",
            b"G\x00T / HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET / HTTP/1.1\x00",
            b"GET / HTTP/1.1\r",
            b"GET / RTSP/1.0",
            b"GET / HTTP/0.9",
        ],
    )
    def test_line_outside_the_grammar_is_a_bad_request(self, line: bytes) -> None:
        """Anything but three words parted by single spaces, with a version that exists, is refused."""
        assert refusal_of(line, b"Host: a") is errors.BAD_REQUEST

    @pytest.mark.parametrize("line", [b"GET / HTTP/2.0", b"PRI * HTTP/2.0", b"GET / HTTP/3.0", b"GET / HTTP/9.1"])
    def test_other_major_version_is_not_supported(self, line: bytes) -> None:
        """A version that may exist but is not spoken here is 505, not 400."""
        assert refusal_of(line, b"Host: a") is errors.UNSUPPORTED_VERSION

    @pytest.mark.parametrize(("spoken", "version"), [(b"HTTP/1.1", Version.HTTP11), (b"HTTP/1.0", Version.HTTP10)])
    def test_both_versions_are_spoken(self, spoken: bytes, version: int) -> None:
        """HTTP/1.1 and HTTP/1.0 are understood."""
        assert request(b"GET / " + spoken, b"Host: a").version == version


class TestHost:
    """RFC 9112, 3.2 and 3.3."""

    def test_missing_host_is_refused_on_1_1_only(self) -> None:
        """HTTP/1.1 must name its host; HTTP/1.0 need not."""
        assert refusal_of(b"GET / HTTP/1.1") is errors.BAD_REQUEST
        assert request(b"GET / HTTP/1.0").host == b""

    @pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
    def test_repeated_host_is_refused(self, version: bytes) -> None:
        """Also when both say the same, and whatever their case."""
        assert refusal_of(b"GET / " + version, b"Host: a", b"hOST: a") is errors.BAD_REQUEST

    @pytest.mark.parametrize("value", [b"a b", b"a@b", b"a/b", b"a:x", b"http://a", b"a#b", b"a?b", b"[::1"])
    def test_invalid_host_is_refused(self, value: bytes) -> None:
        """A value that is no authority could be read differently by the next hop."""
        assert refusal_of(b"GET / HTTP/1.1", b"Host: " + value) is errors.BAD_REQUEST

    def test_absolute_target_overrides_the_field(self) -> None:
        """RFC 9112, 3.2.2: the field is ignored when the target names the authority."""
        head = request(b"GET http://real:81/x HTTP/1.1", b"Host: other:82")
        assert (head.host, head.port, head.path, head.absolute) == (b"real", 81, b"/x", True)

    def test_absolute_target_needs_the_field_all_the_same(self) -> None:
        """RFC 9112, 3.2: every HTTP/1.1 request has a Host, also one to a proxy."""
        assert refusal_of(b"GET http://real/x HTTP/1.1") is errors.BAD_REQUEST

    def test_host_is_lower_case_without_port_and_dot(self) -> None:
        """Routing compares one form."""
        head = request(b"GET / HTTP/1.1", b"Host: Shop.Example.:8080")
        assert (head.host, head.port) == (b"shop.example", 8080)


class TestFields:
    """RFC 9112, 5."""

    def test_too_many_fields(self) -> None:
        """The limit is inclusive."""
        lines = [b"GET / HTTP/1.1", b"Host: a", *[b"x-%d: 1" % number for number in range(9)]]
        assert len(request(*lines, max_headers=10).fields) == 10
        assert refusal_of(*lines, b"x: 1", max_headers=10) is errors.HEAD_TOO_LARGE

    def test_fields_keep_their_order_and_repetition(self) -> None:
        """RFC 9110, 5.3: the order of fields of one name is theirs."""
        head = request(b"GET / HTTP/1.1", b"Host: a", b"X-B: 1", b"X-A: 2", b"x-b: 3")
        assert [field.name for field in head.fields] == [b"host", b"x-b", b"x-a", b"x-b"]
        assert head.joined(b"x-b") == b"1, 3"
        assert head.first(b"x-b") == b"1"
        assert head.first(b"x-c") is None

    @pytest.mark.parametrize(
        "line",
        [
            b" folded: x",
            b"\tfolded",
            b"a : b",
            b"Transfer-Encoding : chunked",
            b"Content-Length\t: 5",
            b": x",
            b"x",
            b"a: b\rc: d",
            b"a: b\nc: d",
            b"a: \x00",
            b"a: \x0bchunked",
            b"a\xa0: b",
        ],
    )
    def test_bad_line_refuses_the_request(self, line: bytes) -> None:
        """One bad line is enough, wherever it stands."""
        assert refusal_of(b"GET / HTTP/1.1", line, b"Host: a") is errors.BAD_REQUEST
        assert refusal_of(b"GET / HTTP/1.1", b"Host: a", line) is errors.BAD_REQUEST

    def test_kinds_are_the_union_of_the_fields(self) -> None:
        """One integer tells the rooms behind what to look for."""
        head = request(b"GET / HTTP/1.1", b"Host: a", b"Cookie: a=b", b"TE: trailers")
        assert head.kinds == Kind.HOST | Kind.COOKIE | Kind.TE | Kind.HOP


class TestFindHeadEnd:
    """RFC 9112, 2.1 and 2.2: a head ends with CRLF CRLF, and a bare LF ends nothing."""

    def test_end_is_found_from_any_start(self) -> None:
        """The index is that of the first CRLF CRLF at or after the start."""
        data = b"a: b\r\nc: d\r\n\r\nrest\r\n\r\n"
        assert find_head_end(data) == 10
        assert find_head_end(data, 10) == 10
        assert find_head_end(data, 11) == len(data) - 4

    @pytest.mark.parametrize("data", [b"", b"a", b"a: b\r", b"a: b\r\n", b"a: b\r\n\r", b"\r\n"])
    def test_incomplete_head(self, data: bytes) -> None:
        """What may still become a head is waited for."""
        assert find_head_end(data) == -1

    @pytest.mark.parametrize("data", [b"\n", b"a\n", b"a: b\nc: d\r\n", b"a\r\nb\n\n", b"a\r\n\n"])
    def test_bare_lf_is_known_at_once(self, data: bytes) -> None:
        """Waiting for more would be in vain."""
        with pytest.raises(GrammarError):
            find_head_end(data)


class TestStatusLine:
    """RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]."""

    @pytest.mark.parametrize(
        ("line", "status", "reason", "version"),
        [
            (b"HTTP/1.1 200 OK", 200, b"OK", 1),
            (b"HTTP/1.0 404 Not Found", 404, b"Not Found", 0),
            (b"HTTP/1.1 204 ", 204, b"", 1),
            (b"HTTP/1.1 200", 200, b"", 1),
            (b"HTTP/1.1 999 x", 999, b"x", 1),
            (b"HTTP/1.1 500 \xe9", 500, b"\xe9", 1),
            (b"HTTP/1.1 200  OK", 200, b" OK", 1),
        ],
    )
    def test_valid(self, line: bytes, status: int, reason: bytes, version: int) -> None:
        """Any three-digit code and any phrase, also none, pass."""
        head = response(line)
        assert (head.status, head.reason, head.version) == (status, reason, version)
        again = response(line)
        assert (again.status, again.reason, again.version) == (status, reason, version)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 x",
            b"HTTP/1.1 000 x",
            b"HTTP/1.1 abc x",
            b"HTTP/1.1 +20 x",
            b"HTTP/1.1 2 0 x",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.2 200 OK",
            b"http/1.1 200 OK",
            b"ICY 200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 O\nK",
            b"HTTP/1.1 200OK",
        ],
    )
    def test_invalid(self, line: bytes) -> None:
        """Everything else is a bad response."""
        with pytest.raises(ProtocolError) as caught:
            response(line)
        assert caught.value.reason is errors.BAD_RESPONSE

    def test_octets_of_a_reason_phrase(self) -> None:
        """RFC 9112, 4: 1*( HTAB / SP / VCHAR / obs-text ), over all 256 octets."""
        good = set()
        for octet in range(256):
            try:
                response(b"HTTP/1.1 200 a%bb" % bytes([octet]))
            except ProtocolError:
                continue
            good.add(octet)
        assert good == set(VALUE)

    def test_too_many_fields(self) -> None:
        """The limit has its own reason."""
        with pytest.raises(ProtocolError) as caught:
            response(b"HTTP/1.1 200 OK", b"a: 1", b"b: 2", max_headers=1)
        assert caught.value.reason is errors.RESPONSE_HEAD_TOO_LARGE

    def test_response_memory_does_not_mix_framing(self) -> None:
        """A head is remembered, but not for HEAD, whose responses end otherwise."""
        first = response(b"HTTP/1.1 200 OK", b"Content-Length: 5")
        second = response(b"HTTP/1.1 200 OK", b"Content-Length: 5", method=b"HEAD")
        assert (first.framing, first.content_length) == (Framing.LENGTH, 5)
        assert (second.framing, second.content_length) == (Framing.NONE, 0)

    def test_response_memory_keeps_the_limit(self) -> None:
        """A head that was accepted under a wider limit is refused under this one."""
        block = b"HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nContent-Length: 0"
        assert response_head(block, 3, b"GET").status == 200
        with pytest.raises(ProtocolError) as caught:
            response_head(block, 2, b"GET")
        assert caught.value.reason is errors.RESPONSE_HEAD_TOO_LARGE

    def test_response_memory_is_bounded(self) -> None:
        """By count and by size."""
        for number in range(2000):
            response_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: %d" % number, 9, b"GET")
        assert len(_heads) <= 512
        large = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: " + b"y" * 2000
        assert response_head(large, 9, b"GET") is not response_head(large, 9, b"GET")


class TestLoneHead:
    """What came is one head and nothing else."""

    @pytest.mark.parametrize(
        ("data", "lines"),
        [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [b"GET / HTTP/1.1", b"Host: a"]),
            (b"GET / HTTP/1.0\r\n\r\n", [b"GET / HTTP/1.0"]),
            (b"", None),
            (b"\r\n", None),
            (b"\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 4096 + b"\r\n\r\n", None),
        ],
    )
    def test_it_is_a_head_only_if_nothing_follows_and_nothing_is_missing(
        self, data: bytes, lines: list[bytes] | None
    ) -> None:
        """Everything else is for who searches for the end."""
        assert lone_head(data) == lines
