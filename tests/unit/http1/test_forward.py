"""What an intermediary changes on the way (RFC 9110, 7.6)."""

from __future__ import annotations

import re

import pytest

from sidecar import clock
from sidecar.http1.date import http_date
from sidecar.http1.forward import NO_VIA, VIA, request_bytes, response_bytes, status_line
from sidecar.http1.grammar import make_field
from sidecar.http1.head import parse_request_head, parse_response_head
from sidecar.message import Framing, ResponseHead, Version

DATE_LINE = re.compile(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


def forwarded(*lines: bytes, upgrade: bytes = b"", host: bytes | None = None, added: bytes = b"") -> list[bytes]:
    head = parse_request_head(b"\r\n".join(lines), 100)
    data = request_bytes(head, head.fields, head.path, host, added + VIA[head.version], upgrade=upgrade)
    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\r\n\r\n") == 1
    return data[:-4].split(b"\r\n")


class TestRequests:
    """Requests towards the upstream."""

    def test_lines_pass_byte_for_byte(self) -> None:
        """Case, order and inner white space of end-to-end fields are the client's."""
        lines = forwarded(b"GET /a?b HTTP/1.1", b"HoSt: A:80", b"X-Odd:\t v  w ", b"accept:*/*")
        assert lines == [b"GET /a?b HTTP/1.1", b"HoSt: A:80", b"X-Odd:\t v  w ", b"accept:*/*", b"via: 1.1 sidecar"]

    def test_version_is_our_own(self) -> None:
        """RFC 9110, 2.5: an HTTP/1.0 request goes on as HTTP/1.1."""
        assert forwarded(b"GET / HTTP/1.0", b"Host: a")[0] == b"GET / HTTP/1.1"

    def test_hop_by_hop_fields_stay(self) -> None:
        """RFC 9110, 7.6.1: none of them goes on."""
        hop = [b"Keep-Alive: 5", b"Proxy-Connection: x", b"Proxy-Authorization: Basic x", b"Upgrade: h2c",
               b"HTTP2-Settings: AAA", b"TE: gzip", b"Connection: upgrade, http2-settings"]  # fmt: skip
        assert forwarded(b"GET / HTTP/1.1", b"Host: a", *hop) == [
            b"GET / HTTP/1.1", b"Host: a", b"via: 1.1 sidecar"
        ]  # fmt: skip

    def test_look_alikes_of_framing_fields_stay(self) -> None:
        """Who reads `_` as `-` would find a second framing; other names with `_` are the app's."""
        lines = forwarded(b"POST / HTTP/1.1", b"Host: a", b"Content_Length: 5", b"transfer_ENCODING: x", b"X_Y: 1")
        assert lines[1:] == [b"Host: a", b"X_Y: 1", b"via: 1.1 sidecar"]

    def test_nominated_fields_stay(self) -> None:
        """Fields that Connection names are for this hop, in any case and from every Connection field."""
        lines = forwarded(
            b"GET / HTTP/1.1", b"Host: a", b"X-One: 1", b"Connection: x-ONE", b"x-two: 2", b"connection: close, X-Two",
            b"x-three: 3",
        )  # fmt: skip
        assert lines[1:] == [b"Host: a", b"x-three: 3", b"via: 1.1 sidecar"]

    @pytest.mark.parametrize(
        "line",
        [b"Host: a", b"Cookie: a=b", b"Authorization: x", b"Content-Type: x", b"X-Forwarded-For: 1.1.1.1",
         b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x", b"Via: 1.1 x", b"Expect: 100-continue", b"User-Agent: x",
         b"Cache-Control: no-cache", b"Origin: x"],
    )  # fmt: skip
    def test_end_to_end_fields_cannot_be_made_to_vanish(self, line: bytes) -> None:
        """RFC 9110, 7.6.1: naming a field that later hops decide by does not remove it."""
        name = line.partition(b":")[0]
        head = [b"GET / HTTP/1.1"] + ([] if name == b"Host" else [b"Host: a"])
        assert line in forwarded(*head, line, b"Connection: " + name)

    def test_content_length_cannot_be_nominated_away(self) -> None:
        """Otherwise the body would become the next request."""
        lines = forwarded(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 5", b"Connection: content-length")
        assert b"Content-Length: 5" in lines

    def test_chunked_is_stated_by_us_once(self) -> None:
        """The received line is hop-by-hop; our own framing has our own."""
        lines = forwarded(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: ChunKed")
        assert [line for line in lines if b"encoding" in line.lower()] == [b"transfer-encoding: chunked"]

    @pytest.mark.parametrize(("te", "passes"), [(b"trailers", True), (b"gzip, Trailers;q=1", True), (b"gzip", False)])
    def test_te_trailers_passes_and_nothing_else_of_te(self, te: bytes, passes: bool) -> None:
        """RFC 9110, 10.1.4: the wish for trailers goes on, named by our own Connection."""
        lines = forwarded(b"GET / HTTP/1.1", b"Host: a", b"TE: " + te, b"Connection: te")
        assert (b"te: trailers" in lines) is passes
        assert (b"connection: te" in lines) is passes
        assert not [line for line in lines if b"gzip" in line]

    def test_upgrade_goes_on_when_decided(self) -> None:
        """RFC 9110, 7.8: Upgrade is written anew and named by our own Connection."""
        head = [b"GET / HTTP/1.1", b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade, x-a", b"x-a: 1"]
        lines = forwarded(*head, upgrade=b"websocket")
        assert [line for line in lines if line.lower().startswith((b"upgrade", b"connection", b"x-a"))] == [
            b"connection: upgrade", b"upgrade: websocket"
        ]  # fmt: skip
        assert not [line for line in forwarded(*head) if b"pgrade" in line]

    def test_host_is_replaced_when_given(self) -> None:
        """RFC 9112, 3.2.2: exactly one Host goes on."""
        lines = forwarded(b"GET http://real/ HTTP/1.1", b"Host: other", host=b"real")
        assert [line for line in lines if line.lower().startswith(b"host:")] == [b"host: real"]

    def test_trace_and_request_id_are_replaced_by_telemetry(self) -> None:
        """The lines that telemetry adds take the place of those received."""
        head = [b"GET / HTTP/1.1", b"Host: a", b"traceparent: old", b"tracestate: old", b"X-Request-Id: old"]
        lines = forwarded(*head, added=b"traceparent: new\r\nx-request-id: new\r\n")
        assert lines[1:] == [b"Host: a", b"traceparent: new", b"x-request-id: new", b"via: 1.1 sidecar"]

    def test_no_field_at_all(self) -> None:
        """An HTTP/1.0 request may have none."""
        assert forwarded(b"GET / HTTP/1.0") == [b"GET / HTTP/1.1", b"via: 1.0 sidecar"]

    @pytest.mark.parametrize(
        ("version", "name"), [(Version.HTTP10, b"1.0"), (Version.HTTP11, b"1.1"), (Version.HTTP2, b"2")]
    )
    def test_via_says_which_version_came(self, version: int, name: bytes) -> None:
        """RFC 9110, 7.6.3: in requests and responses, and none is forgotten where there is to be none."""
        assert VIA[version] == b"via: %b sidecar\r\n" % name
        assert NO_VIA[version] == b""
        head = ResponseHead(200, b"OK", version)
        head.framing = Framing.CHUNKED
        assert undated(response_bytes(head, head.fields, Framing.CHUNKED, b""))[1] == b"via: %b sidecar" % name

    @pytest.mark.parametrize("lines", [[], [b"Host: a"]])
    @pytest.mark.parametrize("added", [b"", b"x-a: 1\r\n"])
    def test_nothing_is_added_that_is_not_given(self, lines: list[bytes], added: bytes) -> None:
        """Without `Via` there is nothing of ours behind the last line."""
        head = parse_request_head(b"\r\n".join([b"GET / HTTP/1.0", *lines]), 100)
        data = request_bytes(head, head.fields, b"/", None, added)
        assert data == b"\r\n".join([b"GET / HTTP/1.1", *lines, added + b"\r\n"])


def undated(data: bytes) -> list[bytes]:
    """The lines of a head, without the `Date` that a response without one gets, at the end."""
    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\r\n\r\n") == 1
    lines = data[:-4].split(b"\r\n")
    return lines[:-1] if DATE_LINE.fullmatch(lines[-1]) else lines


def answered(
    *lines: bytes, framing: Framing = Framing.LENGTH, connection: bytes = b"", method: bytes = b"GET"
) -> list[bytes]:
    head = parse_response_head(b"\r\n".join(lines), 100, method)
    return undated(response_bytes(head, head.fields, framing, connection))


class TestResponses:
    """Responses towards the client."""

    def test_lines_pass_byte_for_byte(self) -> None:
        """Fields and reason phrase are the upstream's; the version is ours."""
        assert answered(b"HTTP/1.0 200 Fine", b"Content-LENGTH: 5", b"Set-Cookie: a", b"set-cookie:b") == [
            b"HTTP/1.1 200 Fine", b"Content-LENGTH: 5", b"Set-Cookie: a", b"set-cookie:b", b"via: 1.0 sidecar"
        ]  # fmt: skip

    def test_upgrade_required_says_to_what(self) -> None:
        """RFC 9110, 15.5.22: a 426 response must hold `Upgrade`."""
        lines = answered(
            b"HTTP/1.1 426 Upgrade Required", b"Upgrade: HTTP/3.0", b"Connection: Upgrade", b"Content-Length: 0"
        )
        assert lines[1:] == [b"Content-Length: 0", b"via: 1.1 sidecar", b"Upgrade: HTTP/3.0", b"connection: upgrade"]

    def test_hop_by_hop_and_nominated_fields_stay(self) -> None:
        """The upstream's Connection is for us."""
        lines = answered(
            b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Connection: close, x-a", b"X-A: 1", b"Keep-Alive: timeout=5",
            b"Proxy-Connection: x", b"x-b: 2",
        )  # fmt: skip
        assert lines[1:] == [b"Content-Length: 0", b"x-b: 2", b"via: 1.1 sidecar"]

    def test_look_alikes_of_framing_fields_stay(self) -> None:
        """As in requests."""
        lines = answered(b"HTTP/1.1 200 OK", b"Content_Length: 5", b"Content-Length: 0", b"transfer_encoding: chunked")
        assert lines[1:] == [b"Content-Length: 0", b"via: 1.1 sidecar"]

    def test_set_cookie_and_content_length_survive_nomination(self) -> None:
        """The length that frames the body cannot be named away."""
        lines = answered(b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Connection: content-length")
        assert b"Content-Length: 5" in lines

    @pytest.mark.parametrize(("framing", "stated"), [(Framing.CHUNKED, 1), (Framing.CLOSE, 0), (Framing.LENGTH, 0)])
    def test_transfer_encoding_is_ours(self, framing: Framing, stated: int) -> None:
        """It is stated exactly when we frame by chunks."""
        lines = answered(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", framing=framing)
        assert lines.count(b"transfer-encoding: chunked") == stated
        assert len([line for line in lines if b"encoding" in line.lower()]) == stated

    @pytest.mark.parametrize(("status", "kept"), [(204, 0), (103, 0), (304, 1), (200, 1)])
    def test_content_length_where_it_may_not_be(self, status: int, kept: int) -> None:
        """RFC 9110, 8.6: not in 1xx and 204; in 304 and to HEAD it tells of the other response."""
        lines = answered(b"HTTP/1.1 %d x" % status, b"Content-Length: 7", framing=Framing.NONE, method=b"HEAD")
        assert lines.count(b"Content-Length: 7") == kept

    def test_connection_option_is_written_last(self) -> None:
        """What the connection itself needs is added."""
        lines = answered(b"HTTP/1.1 200 OK", b"Content-Length: 0", connection=b"close")
        assert lines[-1] == b"connection: close"

    def test_response_fields_edited_by_a_route(self) -> None:
        """Edited fields are written as they were made."""
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0", 100, b"GET")
        data = response_bytes(head, [*head.fields, make_field(b"x-by", b"canary")], Framing.NONE, b"")
        assert b"\r\nx-by: canary\r\n" in data

    def test_nothing_is_added_to_edited_fields(self) -> None:
        """Neither `Via` nor `Date`: whoever edited them had them before its eyes."""
        for lines in ([b"a: 1"], []):
            head = parse_response_head(b"\r\n".join([b"HTTP/1.1 200 OK", *lines]), 100, b"HEAD")
            data = response_bytes(head, list(head.fields), Framing.NONE, b"")
            assert data == b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])

    def test_the_memory_of_a_head_is_for_what_is_not_edited_added_or_framed_anew(self) -> None:
        """Asked in any order, each form is its own."""
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\na: 1", 100, b"GET")
        plain = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\na: 1\r\nvia: 1.1 sidecar\r\n"
        for _ in range(2):
            assert response_bytes(head, head.fields, Framing.LENGTH, b"") == plain + b"\r\n"
            assert response_bytes(head, head.fields, Framing.LENGTH, b"close") == plain + b"connection: close\r\n\r\n"
            edited = response_bytes(head, [*head.fields, make_field(b"b", b"2")], Framing.LENGTH, b"")
            assert edited == plain.replace(b"\r\nvia: 1.1 sidecar", b"\r\nb: 2") + b"\r\n"
            assert b"transfer-encoding" in response_bytes(head, head.fields, Framing.CHUNKED, b"")


class TestDate:
    """RFC 9110, 6.6.1: who forwards a response without `Date` adds it."""

    def date_of(self, data: bytes) -> list[bytes]:
        return [line for line in data[:-4].split(b"\r\n") if line.lower().startswith(b"date:")]

    def test_a_response_keeps_its_own(self) -> None:
        """Byte for byte, and nothing is added; from memory too."""
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Length: 5", 100, b"GET")
        for _ in range(2):
            assert self.date_of(response_bytes(head, head.fields, Framing.LENGTH, b"")) == [b"Date: yesterday"]

    @pytest.mark.parametrize("connection", [b"", b"close"])
    def test_a_response_without_one_gets_this_seconds(self, connection: bytes) -> None:
        """Whole and once; what is remembered of the head ends before it, so that it is another each second."""
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5", 100, b"GET")
        for _ in range(3):
            seconds = clock.wall_ns(clock.monotonic_ns()) // 10**9
            data = response_bytes(head, head.fields, Framing.LENGTH, connection)
            assert self.date_of(data)[0] in [b"date: " + http_date(seconds + late) for late in range(30)]
            assert len(parse_response_head(data[:-4], 100, b"GET").fields) == (4 if connection else 3)
        assert not head.wire
        assert b"date" not in head.undated_wire

    @pytest.mark.parametrize("status", [100, 103])
    def test_an_interim_response_needs_none(self, status: int) -> None:
        """An origin server only MAY send it there."""
        head = parse_response_head(b"HTTP/1.1 %d x" % status, 100, b"GET")
        assert not self.date_of(response_bytes(head, head.fields, Framing.NONE, b""))


def test_status_line_memory_is_bounded() -> None:
    """An upstream that invents phrases does not grow it."""
    for number in range(1100):
        assert status_line(200, b"%d" % number) == b"HTTP/1.1 200 %d\r\n" % number
