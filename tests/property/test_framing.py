"""
Framing held against two independent parsers: what we accept, h11 accepts, and llhttp where it knows the method, with
the same start line, fields and body, and the same bytes left for the next message.
"""

from __future__ import annotations

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.errors import ProtocolError
from sidecar.http1.body import ChunkedReader, encode_chunk, encode_end
from sidecar.http1.framing import nominated
from sidecar.http1.grammar import GrammarError, field_of, make_field
from sidecar.http1.head import find_head_end, parse_request_head, parse_response_head
from sidecar.http1.target import split_target
from sidecar.message import Framing, RequestHead, ResponseHead
from tests.support.thoroughness import examples

Fields = list[tuple[bytes, bytes]]
Message = tuple[tuple[object, ...], Fields, bytes, bytes]
"""Start line, fields, body, and what is left."""

QUICK = settings(deadline=None, max_examples=examples(400))

LINES = [
    b"Host: a",
    b"Host: b",
    b"host:a:80",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"content-length:005",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length : 5",
    b"Content-Length: 5 ",
    b"Content-Length:\t5",
    b"Content-Length: 0x5",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:CHUNKED",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding:\r\n chunked",
    b"Connection: close",
    b"Connection: keep-alive, x",
    b"X: a\x80\xff b\t",
    b"X:",
    b"x-y:1",
    b"X: a\nb",
    b"X: a\rb",
    b"X: \x00",
    b" folded",
    b": empty",
    b"no colon",
    b"Cookie: a=b",
    b"Expect: 100-continue",
]
BODIES = [
    b"",
    b"hello",
    b"helloworld",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\n0\r\n\r\n",
    b"0x5\r\nhello",
    b"05\r\nhello\r\n000\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nhello",
    b"5;a\nb\r\nhello\r\n0\r\n\r\n",
]
REQUEST_LINES = [
    b"GET / HTTP/1.1",
    b"POST /a?b=c HTTP/1.1",
    b"HEAD /%7e/../x HTTP/1.1",
    b"PUT http://a:80/b HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"POST / HTTP/1.0",
    b"DELETE /a HTTP/1.1",
    b"GET / HTTP/1.2",
    b"GET  / HTTP/1.1",
    b"GET /",
    b"ODD~ /a HTTP/1.1",
    b"GET /a b HTTP/1.1",
]
STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 99 x",
    b"HTTP/1.1 2000 x",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1 500 \xe9",
    b"ICY 200 OK",
]
OCTETS = b"\r\n\t \x00\x0b\x7f\x80:;,0a%#?/"


@st.composite
def messages(draw: st.DrawFn, start_lines: list[bytes]) -> bytes:
    """A message of plausible parts, and then perhaps some octets of it changed."""
    lines = [draw(st.sampled_from(start_lines)), *draw(st.lists(st.sampled_from(LINES), max_size=4))]
    if draw(st.booleans()):
        lines.insert(1, b"Host: a")
    data = b"\r\n".join(lines) + b"\r\n\r\n" + draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        octet = bytes([draw(st.sampled_from(OCTETS))])
        data = data[:place] + octet + data[place + draw(st.integers(0, 1)) :]
    return data


def body_of(head: RequestHead | ResponseHead, rest: bytes) -> tuple[bytes, bytes] | None:
    """Body and what is left, or None if it is not complete."""
    if head.framing is Framing.NONE:
        return b"", rest
    if head.framing is Framing.LENGTH:
        length = head.content_length
        return (rest[:length], rest[length:]) if len(rest) >= length else None
    if head.framing is Framing.CLOSE:
        return rest, b""
    reader = ChunkedReader(8192)
    body, end = reader.feed(rest)
    return (body, rest[end:]) if reader.is_complete else None


def as_h11_shows(fields: Fields) -> Fields:
    """The coding in lower case; everything else as it came."""
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]


def end_to_end(fields: Fields) -> Fields:
    """Fields that another parser shows, without those that `Connection` names, which ours takes out."""
    names = nominated([make_field(*pair) for pair in fields if pair[0] == b"connection"])
    return [pair for pair in fields if pair[0] not in names or make_field(pair[0], b"0").kind]


def ours_of_request(data: bytes) -> Message | None:
    """What our parser makes of it; None if it waits for more; ProtocolError or GrammarError if it refuses."""
    end = find_head_end(data)
    if end < 0:
        return None
    head = parse_request_head(data[:end], 100)
    read = body_of(head, data[end + 4 :])
    if read is None:
        return None
    start = (head.method, head.path, head.query, head.version)
    return start, [(field.name, field.value) for field in head.fields], *read


def h11_of_request(data: bytes) -> Message:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    head = connection.next_event()
    assert isinstance(head, h11.Request), head
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    _, path, query = split_target(head.method, head.target)
    fields = end_to_end([(bytes(name), bytes(value)) for name, value in head.headers])
    return (head.method, path, query, int(head.http_version[2:])), fields, body, connection.trailing_data[0]


class Llhttp:
    """Collects what llhttp says."""

    def __init__(self) -> None:
        self.url = self.body = b""
        self.fields: Fields = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


KNOWN_METHODS = frozenset((b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE"))


@QUICK
@given(messages(REQUEST_LINES))
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\nGET")
def test_request_that_we_accept_is_read_the_same_by_others(data: bytes) -> None:
    """Method, target, version, fields, body, and where the next message begins."""
    try:
        ours = ours_of_request(data)
    except (ProtocolError, GrammarError):
        return
    if ours is None:
        return
    start, fields, body, rest = ours
    assert h11_of_request(data) == (start, as_h11_shows(fields), body, rest)
    if start[0] in KNOWN_METHODS:
        seen = Llhttp()
        parser = httptools.HttpRequestParser(seen)
        parser.feed_data(data[: len(data) - len(rest)])
        assert seen.is_complete
        assert parser.get_method() == start[0]
        assert split_target(parser.get_method(), seen.url)[1:] == start[1:3]
        assert parser.get_http_version() == f"1.{start[3]}"
        theirs = end_to_end([(name, value.strip(b" \t")) for name, value in seen.fields])
        assert theirs[: len(fields)] == fields  # behind them come the trailers
        assert seen.body == body


def ours_of_response(data: bytes, method: bytes) -> Message | None:
    end = find_head_end(data)
    if end < 0:
        return None
    head = parse_response_head(data[:end], 100, method)
    read = body_of(head, data[end + 4 :])
    if read is None:
        return None
    return (head.status, head.version), [(field.name, field.value) for field in head.fields], *read


@QUICK
@given(messages(STATUS_LINES), st.sampled_from([b"GET", b"HEAD", b"POST"]))
def test_response_that_we_accept_is_read_the_same_by_h11(data: bytes, method: bytes) -> None:
    """Status, version, fields, body, and what is left behind it."""
    try:
        ours = ours_of_response(data, method)
    except (ProtocolError, GrammarError):
        return
    if ours is None:
        return
    (status, version), fields, body, rest = ours
    if dict(fields).get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        # Only where no body can follow; the coding of no body is nobody's business, and h11 refuses it all the same.
        assert method == b"HEAD" or status in (204, 304)
        return
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    head = connection.next_event()
    assert isinstance(head, h11.Response), head
    assert (head.status_code, int(head.http_version[2:])) == (status, version)
    assert end_to_end([(bytes(name), bytes(value)) for name, value in head.headers]) == as_h11_shows(fields)
    read = b""
    while isinstance(event := connection.next_event(), h11.Data):
        read += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert read == body
    assert connection.trailing_data[0] == rest


@QUICK
@given(st.binary(max_size=400) | messages(REQUEST_LINES) | messages(STATUS_LINES))
def test_no_octets_raise_anything_but_what_is_documented(data: bytes) -> None:
    """Parsers refuse with ProtocolError or GrammarError, whatever they are given."""
    for parse in (
        find_head_end,
        lambda block: parse_request_head(block, 100),
        lambda block: parse_response_head(block, 100, b"GET"),
        ChunkedReader(1000).feed,
    ):
        try:
            parse(data)
        except (ProtocolError, GrammarError):
            continue


@QUICK
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";x", b' ;\ta="b"'])), max_size=6),
    st.lists(st.sampled_from([b"x: 1", b"Y:2", b"z: \xff"]), max_size=3),
    st.lists(st.integers(1, 30), max_size=40),
    st.binary(max_size=20),
)
def test_chunked_body_is_the_same_in_any_pieces(
    chunks: list[tuple[bytes, bytes]], trailers: list[bytes], sizes: list[int], behind: bytes
) -> None:
    """Payload, trailers and the end do not depend on how it arrives."""
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk, extension in chunks)
    body += encode_end([field_of(line) for line in trailers])
    data = body + behind
    reader = ChunkedReader(1000)
    payload, position = b"", 0
    pieces = iter([*sizes, *[len(data)] * 2])
    while not reader.is_complete:
        piece = data[position : position + next(pieces)]
        found, end = reader.feed(piece)
        payload += found
        position += end
    assert payload == b"".join(chunk for chunk, _ in chunks)
    assert [field.wire for field in reader.trailers] == trailers
    assert position == len(body)


@QUICK
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_what_we_encode_an_independent_parser_reads(payloads: list[bytes]) -> None:
    """Our chunks are chunks to h11."""
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(encode_chunk(payload) for payload in payloads) + encode_end([field_of(b"x: 1")])
    assert h11_of_request(data)[2] == b"".join(payloads)


@pytest.mark.parametrize("method", [b"CONNECT", b"GET"])
@QUICK
@given(target=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_normalised_targets_are_stable_and_sendable(method: bytes, target: str) -> None:
    """What comes out of the normal form goes in again unchanged, and holds no octet that a target may not."""
    try:
        _, path, query = split_target(method, target.encode())
    except GrammarError:
        return
    if method == b"GET":
        sent = path if query is None else path + b"?" + query
        assert split_target(method, sent) == (None, path, query)
