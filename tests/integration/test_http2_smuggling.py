"""
What smuggles requests past servers of HTTP/1.1, said in HTTP/2: nothing of it reaches a server of HTTP/1.1 in a way
that reads as another request than was meant, or as two.
"""

from __future__ import annotations

from collections.abc import Iterator

import h11
import pytest

from sidecar.http2.codes import Code, FrameType
from tests.support.http2 import HELLO, Frame, Pairs, content, headers, parse
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wire import Client, ServerConnection, Upstream

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


class Http2Client:
    """A client of HTTP/2 that writes frames by hand, and reads until its stream has ended."""

    def __init__(self, port: int) -> None:
        self.wire = Client(port)
        self.wire.send(HELLO)
        self._rest = b""
        self._frames: list[Frame] = []

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def until_over(self, stream_id: int = 1) -> list[Frame]:
        """The frames of a stream, up to its end; that of the connection is a fault."""
        while True:
            found = [one for one in self._frames if one.stream_id == stream_id]
            if any(one.kind == FrameType.RST_STREAM or _ends(one) for one in found):
                return found
            data = self.wire.receive()
            assert data, self._frames
            more, self._rest = parse(self._rest + data)
            self._frames += more


def _ends(one: Frame) -> bool:
    return one.kind in (FrameType.HEADERS, FrameType.DATA) and one.ends


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    """A server of HTTP/1.1, played by hand."""
    with Upstream() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(server: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """A sidecar that leads to it, whatever is asked for."""
    text = f"""
        service: storefront
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}", routes: [{{to: old}}]}}
        upstreams: {{old: {{protocol: http1, endpoints: ["{server.authority}"]}}}}
    """
    with running_sidecar(tmp_path_factory.mktemp("old"), text) as sidecar:
        yield sidecar


@pytest.fixture
def upstream(server: Upstream) -> Iterator[Upstream]:
    """The server, with none of another test's connections."""
    yield server
    for connection in server.accepted:
        connection.close()
    server.accepted.clear()


@pytest.fixture
def http2(proxy: SidecarProcess) -> Iterator[Http2Client]:
    """A connection to the proxy."""
    with Http2Client(proxy.outbound_port) as client:
        yield client


def get(to: str, /, **changes: bytes) -> Pairs:
    """A request's fields; changes are of pseudo-header fields."""
    pairs = {"method": b"GET", "scheme": b"http", "path": b"/", "authority": to.encode()} | changes
    return [(b":" + name.encode(), value) for name, value in pairs.items()]


A = "AUTHORITY"
"""Stands for the server's own."""
REFUSED: dict[str, Pairs] = {
    "a line in a name": [*get(A), (b"x: 1\r\ntransfer-encoding", b"chunked")],
    "a request in a name": [*get(A), (b"x: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nx", b"1")],
    "a colon in a name": [*get(A), (b"transfer-encoding: chunked\r\nx", b"1")],
    "a space behind a name": [*get(A), (b"transfer-encoding ", b"chunked")],
    "a space before a name": [*get(A), (b" x", b"1")],
    "CR LF in a value": [*get(A), (b"x", b"1\r\ntransfer-encoding: chunked")],
    "a request in a value": [*get(A), (b"x", b"1\r\n\r\n" + SMUGGLED)],
    "LF in a value": [*get(A), (b"x", b"1\ntransfer-encoding: chunked")],
    "CR in a value": [*get(A), (b"x", b"1\rtransfer-encoding: chunked")],
    "NUL in a value": [*get(A), (b"x", b"1\0")],
    "CR LF at a value's end": [*get(A), (b"x", b"1\r\n")],
    "a fold": [*get(A), (b"x", b"1\r\n 2")],
    "a request in :method": get(A, method=b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET"),
    "a target in :method": get(A, method=b"GET /smuggled HTTP/1.1\r\nx:"),
    "a space in :method": get(A, method=b"GET /smuggled"),
    "a request in :path": get(A, path=b"/ HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"),
    "a version in :path": get(A, path=b"/smuggled HTTP/1.1"),
    "LF in :path": get(A, path=b"/\nx: 1"),
    "a tab in :path": get(A, path=b"/\tHTTP/1.1"),
    "a fragment": get(A, path=b"/a#/../smuggled"),
    "a URI as :path": get(A, path=b"http://other/smuggled"),
    "a :path that is none": get(A, path=b"@other/smuggled"),
    "a :path that begins with a host": get(A, path=b"other/smuggled"),
    "a backslash in :path": get(A, path=b"/a\\..\\b"),
    "an encoded line in :path": get(A, path=b"/%0d%0aHost:%20x"),
    "an octet beyond ASCII in :path": get(A, path=b"/\xe2\x80\xa8"),
    "a line in :authority": get(A, authority=b"AUTHORITY\r\nx: 1"),
    "a space in :authority": get(A, authority=b"AUTHORITY x"),
    "a path in :authority": get(A, authority=b"AUTHORITY/smuggled"),
    "user information in :authority": get(A, authority=b"other@AUTHORITY"),
    "a backslash in :authority": get(A, authority=b"AUTHORITY\\@other"),
    "a fragment in :authority": get(A, authority=b"AUTHORITY#other"),
    "two :authority": [*get(A), (b":authority", b"other")],
    "a host that is another": [*get(A), (b"host", b"other")],
    "two hosts": [*get(A), (b"host", b"AUTHORITY"), (b"host", b"AUTHORITY")],
    "a line in :scheme": get(A, scheme=b"http://other/\r\nx:"),
    "a URI in :scheme": get(A, scheme=b"https://other/smuggled?"),
    "transfer-encoding": [*get(A, method=b"POST"), (b"transfer-encoding", b"chunked")],
    "transfer-encoding in another case": [*get(A, method=b"POST"), (b"Transfer-Encoding", b"chunked")],
    "transfer-encoding with a length": [
        *get(A, method=b"POST"), (b"content-length", b"4"), (b"transfer-encoding", b"chunked")
    ],
    "connection": [*get(A), (b"connection", b"content-length")],
    "upgrade": [*get(A), (b"upgrade", b"h2c"), (b"http2-settings", b"")],
    "te": [*get(A), (b"te", b"chunked")],
    "two lengths": [*get(A, method=b"POST"), (b"content-length", b"4"), (b"content-length", b"5")],
    "a list of lengths": [*get(A, method=b"POST"), (b"content-length", b"4, 4")],
    "a signed length": [*get(A, method=b"POST"), (b"content-length", b"+4")],
    "a length with zeros": [*get(A, method=b"POST"), (b"content-length", b"00%d" % len(SMUGGLED))],
    "a length with a space": [*get(A, method=b"POST"), (b"content-length", b" 4")],
    "an unknown pseudo-header field": [*get(A), (b":x\r\ny", b"1")],
    "a pseudo-header field behind others": [*get(A)[:3], (b"x", b"1"), get(A)[3]],
    "CONNECT with a path": [(b":method", b"CONNECT"), *get(A)[1:]],
    "a tunnel with a length": [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), *get(A)[1:], (b"content-length", b"%d" % len(SMUGGLED))
    ],
    "a protocol that is a line": [
        (b":method", b"CONNECT"), (b":protocol", b"websocket\r\ntransfer-encoding: chunked"), *get(A)[1:]
    ],
}  # fmt: skip


def _to(upstream: Upstream, pairs: Pairs) -> Pairs:
    authority = upstream.authority.encode()
    return [(name, value.replace(b"AUTHORITY", authority)) for name, value in pairs]


@pytest.mark.parametrize("name", REFUSED)
def test_what_http11_cannot_say_is_refused(http2: Http2Client, upstream: Upstream, name: str) -> None:
    """RST_STREAM with PROTOCOL_ERROR, of this stream alone; no server hears of it, with content or without."""
    pairs = _to(upstream, REFUSED[name])
    http2.wire.send(headers(1, pairs), headers(3, pairs, ends=False), content(3, SMUGGLED, ends=True))
    for stream_id in (1, 3):
        assert [(one.kind, one.code) for one in http2.until_over(stream_id)] == [
            (FrameType.RST_STREAM, Code.PROTOCOL_ERROR)
        ]
    http2.wire.send(headers(5, get(upstream.authority, path=b"/last")))
    assert upstream.accept().serve().target == "/last"
    assert not upstream.has_waiting()


# --- what is passed on, and reads as one request ----------------------------------------------------------------------

LIES: dict[str, tuple[bytes, list[bytes]]] = {
    "more than its length": (b"4", [b"abcd" + SMUGGLED]),
    "more than its length, later": (b"4", [b"ab", b"cd", SMUGGLED]),
    "more than its length, behind its end": (b"4", [b"abcd", SMUGGLED]),
    "less than its length": (b"%d" % (len(SMUGGLED) + 1), [SMUGGLED]),
    "less than its length, in parts": (b"400", [b"ab", SMUGGLED]),
    "a length of nothing": (b"0", [SMUGGLED]),
}


@pytest.mark.parametrize("name", LIES)
def test_lengths_that_lie(http2: Http2Client, upstream: Upstream, name: str) -> None:
    """RST_STREAM; and of what a server has seen of it, nothing stands where another request could."""
    length, parts = LIES[name]
    http2.wire.send(headers(1, [*get(upstream.authority, method=b"POST"), (b"content-length", length)], ends=False))
    for at, part in enumerate(parts):
        http2.wire.send(content(1, part, ends=at == len(parts) - 1))
    found = http2.until_over()
    (fault,) = [one for one in found if one.kind == FrameType.RST_STREAM]
    assert fault.code == Code.PROTOCOL_ERROR
    http2.wire.send(headers(3, get(upstream.authority, path=b"/last")))
    seen = []
    while not any(b"/last" in data for data in seen):
        server = upstream.accept()
        data = server.read_until(b"\r\n\r\n")
        if b"/last" not in data:
            data += server.read_to_end()
        else:
            server.answer()
        seen.append(data)
    for data in seen:
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] in (b"/", b"/last")
        assert len(rest) <= int(length)
        assert len(rest) < int(length) or b"smuggled" not in rest[int(length) :]


def as_h11_reads(server: ServerConnection) -> tuple[h11.Request, bytes]:
    """One request, as another's parser reads it, with nothing behind it."""
    parser = h11.Connection(h11.SERVER)
    body = b""
    event = parser.next_event()
    request = None
    while not isinstance(event, h11.EndOfMessage):
        if event is h11.NEED_DATA:
            parser.receive_data(server.sock.recv(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        event = parser.next_event()
    assert request is not None
    assert parser.trailing_data[0] == b""
    return request, body


TAKEN: dict[str, tuple[Pairs, bytes, bytes]] = {
    "a body that is a request": (get(A, method=b"POST"), SMUGGLED, b"/"),
    "a body that is the end of chunks": (get(A, method=b"POST"), b"0\r\n\r\n" + SMUGGLED, b"/"),
    "a body of a GET": (get(A), SMUGGLED, b"/"),
    "a body of a HEAD": (get(A, method=b"HEAD"), SMUGGLED, b"/"),
    "a body of an OPTIONS": (get(A, method=b"OPTIONS", path=b"*"), SMUGGLED, b"*"),
    "a body with its length": (
        [*get(A, method=b"POST"), (b"content-length", b"%d" % len(SMUGGLED))], SMUGGLED, b"/"
    ),
    "names that read as others": (
        [*get(A, method=b"POST"), (b"content_length", b"4"), (b"transfer_encoding", b"chunked")], SMUGGLED, b"/"
    ),
    "an expectation": ([*get(A, method=b"POST"), (b"expect", b"x")], SMUGGLED, b"/"),
    "two slashes in :path": (get(A, path=b"//other/a"), b"", b"//other/a"),
    "a URI in a query": (get(A, path=b"/?http://other/"), b"", b"/?http://other/"),
    "cookies": ([*get(A), (b"cookie", b"a=1"), (b"cookie", b"b=2")], b"", b"/"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_passed_on_is_one_request(http2: Http2Client, upstream: Upstream, name: str) -> None:
    """With the fields, the content and the target that were said, as h11 reads it; and no octet behind it."""
    pairs, body, target = TAKEN[name]
    pairs = _to(upstream, pairs)
    http2.wire.send(headers(1, pairs, ends=not body), content(1, body, ends=True) if body else b"")
    server = upstream.accept()
    request, seen = as_h11_reads(server)
    assert seen == body
    assert bytes(request.target) == target
    names = [bytes(key) for key, _ in request.headers]
    assert [value for key, value in request.headers if key == b"host"] == [upstream.authority.encode()]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") == bool(body)
    assert names.count(b"cookie") == (name == "cookies")
    assert not {b"connection", b"keep-alive", b"upgrade", b"te"} & set(names)
    server.answer(b"")
    assert any(_ends(one) for one in http2.until_over())
    assert server.is_open()


def test_a_body_that_is_given_up_is_not_ended(http2: Http2Client, upstream: Upstream) -> None:
    """A stream that is reset in the middle: the server sees no end of its chunks, and its connection closes."""
    http2.wire.send(headers(1, get(upstream.authority, method=b"POST"), ends=False), content(1, b"hello"))
    server = upstream.accept()
    server.head()
    assert server.read_exactly(10) == b"5\r\nhello\r\n"
    http2.wire.send(b"\0\0\4\3\0\0\0\0\1\0\0\0\x08")
    assert server.read_to_end() == b""


def test_trailers_that_frame_are_no_fields(http2: Http2Client, upstream: Upstream) -> None:
    """RFC 9110, 6.5.1: what frames or routes is not taken from behind the content."""
    trailers = [(b"x-sum", b"1"), (b"content-length", b"5"), (b"host", b"other"), (b"authorization", b"x")]
    http2.wire.send(
        headers(1, [*get(upstream.authority, method=b"POST"), (b"te", b"trailers")], ends=False),
        content(1, b"abc"),
        headers(1, trailers),
    )
    request = upstream.accept().serve()
    assert request.body == b"abc"
    assert [name for name, _ in request.trailers] == ["x-sum"]
