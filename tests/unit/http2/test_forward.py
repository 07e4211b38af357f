"""What an intermediary changes on the way into HTTP/2 (RFC 9110, 7.6; RFC 9113, 8.2), and that it is well-formed."""

from __future__ import annotations

import pytest

from sidecar.http1.head import parse_request_head, parse_response_head
from sidecar.http2.forward import (
    SCHEMES,
    reply_fields,
    request_fields,
    response_fields,
    switch_fields,
    switched_head,
    upgrade_fields,
)
from sidecar.http2.head import request_head, response_head
from sidecar.message import Field, ResponseHead, Version
from tests.support.http2 import GET, OK, Pairs, fields_of


def spelt(fields: list[Field]) -> Pairs:
    return [(one.name, one.value) for one in fields]


def forwarded(*lines: bytes, host: bytes | None = None, added: bytes = b"") -> Pairs:
    """A request of HTTP/1.1 as HTTP/2 has it; it is one that we would take."""
    head = parse_request_head(b"\r\n".join(lines), 100)
    fields = request_fields(head, head.fields, head.path, host, added, SCHEMES[0])
    again = request_head(fields, True)
    assert (again.method, again.path, again.query) == (head.method, head.path, head.query)
    return spelt(fields)


def answered(*lines: bytes) -> Pairs:
    """The same of a response."""
    head = parse_response_head(b"\r\n".join(lines), 100, b"GET")
    fields = response_fields(head, head.fields)
    assert response_head(fields, b"GET", head.status >= 200 and b"content-length" not in dict(spelt(fields))).status
    return [pair for pair in spelt(fields) if pair[0] not in (b"date", b"via")]


def test_a_request_begins_with_its_pseudo_header_fields() -> None:
    """8.3.1, `:authority` instead of `Host`; names in lower case, values as they came."""
    assert forwarded(b"PUT /a?b HTTP/1.1", b"HoSt: Web:80", b"X-Odd:\t v  w ", b"ACCEPT:*/*") == [
        (b":method", b"PUT"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"Web:80"),
        (b"x-odd", b"v  w"), (b"accept", b"*/*"),
    ]  # fmt: skip


def test_what_is_added_comes_behind() -> None:
    """Lines of forwarding and of traces; and another host takes the place of the client's."""
    pairs = forwarded(b"GET / HTTP/1.1", b"Host: web", host=b"other", added=b"via: 1.1 sidecar\r\nx-request-id: 7\r\n")
    assert pairs[3:] == [(b":authority", b"other"), (b"via", b"1.1 sidecar"), (b"x-request-id", b"7")]


@pytest.mark.parametrize(
    "line",
    [b"Connection: close", b"Connection: x-own\r\nX-Own: 1", b"Keep-Alive: timeout=5", b"Proxy-Connection: close",
     b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"TE: gzip", b"Proxy-Authorization: Basic x"],
)  # fmt: skip
def test_what_is_the_connections_stays(line: bytes) -> None:
    """8.2.2: none of it may be in HTTP/2."""
    method = b"POST" if b"Encoding" in line else b"GET"
    assert forwarded(method + b" / HTTP/1.1", b"Host: web", line)[4:] == []


def test_te_trailers_goes_on() -> None:
    """8.2.2, the one value that may; which gRPC asks for."""
    assert forwarded(b"GET / HTTP/1.1", b"Host: web", b"TE: trailers", b"Connection: te")[4:] == [(b"te", b"trailers")]
    head = request_head(fields_of([*GET, (b"te", b"trailers")]), True)
    fields = request_fields(head, head.fields, head.path, None, b"", SCHEMES[1])
    assert spelt(fields)[4:] == [(b"te", b"trailers")]
    assert spelt(fields)[1] == (b":scheme", b"https")


def test_what_never_may_be_indexed_stays_so() -> None:
    """RFC 7541, 6.2.3: the field goes on as it is."""
    head = request_head(fields_of([*GET, (b"authorization", b"secret")]), True)
    sent = request_fields(head, head.fields, head.path, None, b"", SCHEMES[0])
    assert sent[-1] is next(one for one in head.fields if one.name == b"authorization")


def test_a_response() -> None:
    """Its status, without the reason; what is the connection's stays."""
    assert answered(b"HTTP/1.1 404 Not Found", b"Server: x", b"Connection: close, x-own", b"X-Own: 1",
                    b"Transfer-Encoding: chunked", b"Keep-Alive: 5", b"X-A: 1") == [
        (b":status", b"404"), (b"server", b"x"), (b"x-a", b"1")
    ]  # fmt: skip


def test_a_response_without_content_says_no_length() -> None:
    """RFC 9110, 8.6: neither 1xx nor 204."""
    assert answered(b"HTTP/1.1 204 No Content", b"Content-Length: 0") == [(b":status", b"204")]
    assert answered(b"HTTP/1.1 103 Early Hints", b"Link: </a>", b"Content-Length: 0")[1:] == [(b"link", b"</a>")]


def test_replies_say_how_long_they_are() -> None:
    """Where they may."""
    assert spelt(reply_fields(503, [], 5)) == [(b":status", b"503"), (b"content-length", b"5")]
    assert spelt(reply_fields(204, [], 0)) == [(b":status", b"204")]
    assert spelt(reply_fields(400, fields_of([(b"x", b"1")]), 0))[1] == (b"x", b"1")


def test_a_tunnel_is_a_200() -> None:
    """RFC 8441, 5: without what only HTTP/1.1 needs; the answer to a key may be awaited behind the client."""
    assert spelt(switch_fields(None, []))[0] == OK[0]
    lines = [b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Accept: x", b"X: 1"]
    head = parse_response_head(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines]), 100, b"GET")
    assert spelt(switch_fields(head, head.fields)) == [*OK, (b"sec-websocket-accept", b"x"), (b"x", b"1")]


def test_an_upgrade_is_asked_for_with_its_key_and_its_answer_is_the_servers_or_ours() -> None:
    """RFC 6455, 4.2.2, with its own example: a server of HTTP/2 need not answer to the key, Envoy's does."""
    key, accept = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    asked = upgrade_fields(fields_of([(b":method", b"GET"), (b"sec-websocket-key", key)]), b"websocket")
    assert spelt(asked)[-1] == (b"sec-websocket-key", key)
    head = ResponseHead(200, b"", Version.HTTP2)
    assert (b"sec-websocket-accept", accept) in spelt(switched_head(head, b"websocket", key).fields)
    head.fields = fields_of([(b"sec-websocket-accept", b"theirs")])
    answers = [
        value for name, value in spelt(switched_head(head, b"websocket", key).fields) if name.endswith(b"accept")
    ]
    assert answers == [b"theirs"]
