"""The table of RFC 9112, 6.3 and 9.3: how bodies end, and whether connections go on."""

from __future__ import annotations

from math import inf

import pytest

from sidecar import errors
from sidecar.errors import ProtocolError, Reason
from sidecar.http1.framing import nominated, without_underscored
from sidecar.http1.grammar import VALUE, field_of, keep_alive_timeout
from sidecar.http1.head import parse_request_head, parse_response_head
from sidecar.message import Framing, Kind

NONE, LENGTH, CHUNKED, CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


def frame_of_request(lines: list[bytes], method: bytes = b"POST", version: bytes = b"HTTP/1.1") -> tuple[Framing, int]:
    target = b"a:1" if method == b"CONNECT" else b"/"
    block = b"\r\n".join([method + b" " + target + b" " + version, b"Host: a", *lines])
    head = parse_request_head(block, 100)
    return head.framing, head.content_length


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], (NONE, 0)),
        ([b"Content-Length: 0"], (NONE, 0)),
        ([b"Content-Length: 5"], (LENGTH, 5)),
        ([b"content-LENGTH:5"], (LENGTH, 5)),
        ([b"Transfer-Encoding: chunked"], (CHUNKED, 0)),
        ([b"transfer-encoding:ChunKED"], (CHUNKED, 0)),
        ([b"Content_Length: 7", b"Content-Length: 5"], (LENGTH, 5)),
        ([b"TRANSFER_ENCODING: chunked", b"content_length: x"], (NONE, 0)),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD", b"PURGE"])
def test_framing_of_requests(lines: list[bytes], expected: tuple[Framing, int], method: bytes) -> None:
    """The method does not matter, but for CONNECT and TRACE."""
    assert frame_of_request(lines, method) == expected


BAD, CODING = errors.BAD_REQUEST, errors.UNSUPPORTED_CODING


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], BAD),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], BAD),
        ([b"Content-Length: 5", b"Content-Length: 5"], BAD),
        ([b"Content-Length: 5", b"Content-Length: 6"], BAD),
        ([b"Content-Length: 5, 5"], BAD),
        ([b"Content-Length: +5"], BAD),
        ([b"Content-Length: -5"], BAD),
        ([b"Content-Length: 0x5"], BAD),
        ([b"Content-Length: 5 5"], BAD),
        ([b"Content-Length:"], BAD),
        ([b"Content-Length: " + b"9" * 19], BAD),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], BAD),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], BAD),
        ([b"Transfer-Encoding: chunked, chunked"], BAD),
        ([b"Transfer-Encoding: chunked, identity"], BAD),
        ([b"Transfer-Encoding: chunked, gzip"], BAD),
        ([b"Transfer-Encoding: identity"], BAD),
        ([b"Transfer-Encoding: xchunked"], BAD),
        ([b"Transfer-Encoding: chunkedx"], BAD),
        ([b"Transfer-Encoding: chunked;q=1"], BAD),
        ([b'Transfer-Encoding: "chunked"'], BAD),
        ([b"Transfer-Encoding: "], BAD),
        ([b"Transfer-Encoding: ,chunked,"], BAD),
        ([b"Transfer-Encoding: \x0bchunked"], BAD),
        ([b"Transfer-Encoding: gzip, chunked"], CODING),
        ([b"Transfer-Encoding: identity, chunked"], CODING),
        ([b"Transfer-Encoding : chunked"], BAD),
        ([b"Content-Length: 05"], BAD),
        ([b"Content-Length: 00"], BAD),
        ([b"Content-Length:  5"], BAD),
        ([b"Content-Length:\t5"], BAD),
        ([b"Content-Length: 5 "], BAD),
        ([b"Content-Length:5\t"], BAD),
        ([b"Transfer-Encoding:\tchunked"], BAD),
        ([b"Transfer-Encoding:  chunked"], BAD),
        ([b"Transfer-Encoding: chunked "], BAD),
    ],
)
def test_ambiguous_framing_of_requests_is_refused(lines: list[bytes], reason: Reason) -> None:
    """RFC 9112, 6.1 and 6.3: whatever two parsers could read in two ways is refused."""
    with pytest.raises(ProtocolError) as caught:
        frame_of_request(lines)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "line",
    [b"Content-Length: 05", b"Content-Length: 00", b"Content-Length:  5", b"Content-Length: 5 ", b"Content-Length:\t5",
     b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked "],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_padded_framing_of_responses_is_refused(line: bytes, method: bytes) -> None:
    """A server's framing is held to the same spelling as a client's, whether a body follows or not."""
    with pytest.raises(ProtocolError) as caught:
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + line, 100, method)
    assert caught.value.reason is errors.BAD_RESPONSE


def test_look_alikes_frame_no_response() -> None:
    """What only looks like a length when `_` is read as `-` says nothing about the body."""
    lines = b"HTTP/1.1 200 OK\r\nContent_Length: 7\r\nTransfer_Encoding: chunked\r\nContent-Length: 5"
    head = parse_response_head(lines, 100, b"GET")
    assert (head.framing, head.content_length) == (LENGTH, 5)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([b"Connection: close, Keep-Alive"], set()),
        ([b"Connection: X-A", b"a: 1", b"Connection: close, x-b"], {b"x-a", b"x-b"}),
        ([b"Connection: authorization, x-a"], {b"x-a"}),
        ([b"Connection: x_c", b"X_C: 1"], {b"x_c"}),
        ([], set()),
    ],
)
def test_what_connection_names_leaves_the_head(lines: list[bytes], names: set[bytes]) -> None:
    """RFC 9110, 7.6.1: from every field, in any case, also when it stands before; requests and responses alike."""
    rest = [b"x-a: 1", *lines, b"X-B: 2", b"Authorization: 3"]
    request = parse_request_head(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *rest]), 100)
    response = parse_response_head(b"\r\n".join([b"HTTP/1.1 200 OK", *rest]), 100, b"GET")
    for fields in (request.fields, response.fields):
        assert {field.name for field in map(field_of, rest)} - {field.name for field in fields} == names
        assert nominated(fields) == names


def test_names_with_underscores_can_be_left_out() -> None:
    """All of them, and the kinds of the head say whether to look."""
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nx-b: 2\r\nX_Forwarded_For: 3", 100)
    assert head.kinds & Kind.UNDERSCORE
    assert [field.name for field in without_underscored(head.fields)] == [b"host", b"x-b"]
    assert not parse_request_head(b"GET / HTTP/1.1\r\nHost: a_b\r\nx-b: _", 100).kinds & Kind.UNDERSCORE


def test_transfer_encoding_on_http_1_0_is_refused() -> None:
    """RFC 9112, 6.1: such a message has faulty framing."""
    with pytest.raises(ProtocolError):
        frame_of_request([b"Transfer-Encoding: chunked"], version=b"HTTP/1.0")


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
@pytest.mark.parametrize("line", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_connect_and_trace_have_no_body(method: bytes, line: bytes) -> None:
    """RFC 9110, 9.3.6 and 9.3.8."""
    with pytest.raises(ProtocolError):
        frame_of_request([line], method)


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_connect_and_trace_may_say_that_they_have_no_body(method: bytes) -> None:
    """A length of 0 is no content, which is all that the RFC asks of them; some libraries always state one."""
    assert frame_of_request([b"Content-Length: 0"], method) == (NONE, 0)


@pytest.mark.parametrize(
    ("version", "lines", "keeps"),
    [
        (b"HTTP/1.1", [], True),
        (b"HTTP/1.1", [b"Connection: close"], False),
        (b"HTTP/1.1", [b"Connection: CLOSE"], False),
        (b"HTTP/1.1", [b"Connection: keep-alive, close"], False),
        (b"HTTP/1.1", [b"Connection: x", b"Connection: close"], False),
        (b"HTTP/1.1", [b"Connection: keep-alive"], True),
        (b"HTTP/1.1", [b"Connection: closed"], True),
        (b"HTTP/1.0", [], False),
        (b"HTTP/1.0", [b"Connection: keep-alive"], True),
        (b"HTTP/1.0", [b"Connection: Keep-Alive, close"], False),
        (b"HTTP/1.0", [b"Connection: x"], False),
    ],
)
def test_persistence(version: bytes, lines: list[bytes], keeps: bool) -> None:
    """RFC 9112, 9.3: `close` wins; HTTP/1.0 must ask to stay. The same for requests and responses."""
    request = parse_request_head(b"\r\n".join([b"GET / " + version, b"Host: a", *lines]), 100)
    assert request.keep_alive is keeps
    response = parse_response_head(b"\r\n".join([version + b" 200 OK", b"Content-Length: 0", *lines]), 100, b"GET")
    assert response.keep_alive is keeps


def frame_of_response(status: int, lines: list[bytes], method: bytes = b"GET") -> tuple[Framing, int, bool]:
    head = parse_response_head(b"\r\n".join([b"HTTP/1.1 %d x" % status, *lines]), 100, method)
    return head.framing, head.content_length, head.keep_alive


CL5, TE = [b"Content-Length: 5"], [b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize(
    ("status", "lines", "method", "expected"),
    [
        (200, CL5, b"GET", (LENGTH, 5, True)),
        (200, [b"Content-Length: 0"], b"GET", (NONE, 0, True)),
        (200, TE, b"GET", (CHUNKED, 0, True)),
        (200, [], b"GET", (CLOSE, 0, False)),
        (200, [b"Connection: keep-alive"], b"GET", (CLOSE, 0, False)),
        (404, [], b"POST", (CLOSE, 0, False)),
        # 1. HEAD, 204, 304 end with their head, whatever it says.
        (200, CL5, b"HEAD", (NONE, 0, True)),
        (200, TE, b"HEAD", (NONE, 0, True)),
        (200, [], b"HEAD", (NONE, 0, True)),
        (304, CL5, b"GET", (NONE, 0, True)),
        (304, TE, b"GET", (NONE, 0, True)),
        (204, [], b"GET", (NONE, 0, True)),
        (204, [b"Content-Length: 0"], b"GET", (NONE, 0, True)),
        # A body where none can be: the head is the response, the connection is not to be trusted.
        (204, CL5, b"GET", (NONE, 0, False)),
        (204, TE, b"GET", (NONE, 0, False)),
        (100, [], b"GET", (NONE, 0, True)),
        (103, CL5, b"GET", (NONE, 0, False)),
    ],
)
def test_framing_of_responses(
    status: int, lines: list[bytes], method: bytes, expected: tuple[Framing, int, bool]
) -> None:
    """RFC 9112, 6.3, in its order."""
    assert frame_of_response(status, lines, method) == expected


@pytest.mark.parametrize("status", [200, 204, 304, 103])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_response_with_both_lengths_is_refused(status: int, method: bytes) -> None:
    """Even where no body follows, two framings are a sign of an attack."""
    with pytest.raises(ProtocolError) as caught:
        frame_of_response(status, CL5 + TE, method)
    assert caught.value.reason is errors.BAD_RESPONSE


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 5"], [b"Content-Length: 5,5"], [b"Content-Length: -1"],
        [b"Transfer-Encoding: gzip, chunked"], [b"Transfer-Encoding: identity"], [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding : chunked"],
    ],
)  # fmt: skip
def test_ambiguous_framing_of_responses_is_refused(lines: list[bytes]) -> None:
    """The rules for requests hold for responses."""
    with pytest.raises(ProtocolError) as caught:
        frame_of_response(200, lines)
    assert caught.value.reason is errors.BAD_RESPONSE


def test_transfer_encoding_on_http_1_0_response_is_refused() -> None:
    """RFC 9112, 6.1."""
    with pytest.raises(ProtocolError):
        parse_response_head(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", 100, b"GET")


class TestKeepAlive:
    """What an upstream says of its patience (RFC 2068, 19.7.1.1) is a hint for the pool."""

    @pytest.mark.parametrize(
        ("lines", "hint_s", "keeps"),
        [
            ((), inf, True),
            ((b"Keep-Alive: timeout=5",), 4.0, True),
            ((b"Keep-Alive: timeout=5, max=100",), 4.0, True),
            ((b'keep-alive: max=100 , Timeout = "75"',), 74.0, True),
            ((b"Keep-Alive: timeout=1",), 0.5, True),
            ((b"Keep-Alive: timeout=2",), 1.0, True),
            ((b"Keep-Alive: timeout=0",), 0.0, False),
            ((b"Keep-Alive: timeout=60", b"Keep-Alive: timeout=5"), 4.0, True),
            ((b"Keep-Alive: 300",), inf, True),
            ((b"Keep-Alive: max=100",), inf, True),
            ((b"Keep-Alive: timeout=-5",), inf, True),
            ((b"Keep-Alive: timeout=5s",), inf, True),
            ((b"Keep-Alive: timeout=" + b"9" * 400,), inf, True),
            ((b"Keep-Alive:",), inf, True),
            ((b"Connection: close", b"Keep-Alive: timeout=5"), 4.0, False),
        ],
    )
    def test_hint(self, lines: tuple[bytes, ...], hint_s: float, keeps: bool) -> None:
        """A second less than it says, or half of what is under two; what cannot be read says nothing."""
        block = b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: 0", *lines))
        head = parse_response_head(block, 10, b"GET")
        assert (head.idle_hint_s, head.keep_alive) == (hint_s, keeps)

    def test_every_octet_is_survived(self) -> None:
        """Of those that a field may hold."""
        for octet in range(256):
            if octet in VALUE:
                keep_alive_timeout(b"timeout=%c5" % octet)
                keep_alive_timeout(bytes((octet,)))

    def test_requests_say_nothing(self) -> None:
        """A client's field is about its own connection; it is not passed on."""
        head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=1", 10)
        assert head.keep_alive
