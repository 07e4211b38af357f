"""Field sections as heads (RFC 9113, 8.2 to 8.6; RFC 8441): what may not be, by section, and what the rest means."""

from __future__ import annotations

import base64

import pytest

from sidecar.http2.codes import MalformedError
from sidecar.http2.head import request_head, response_head
from sidecar.message import Framing, Kind, RequestHead, ResponseHead
from tests.support.http2 import GET, OK, POST, Pairs, fields_of

METHOD, SCHEME, PATH, AUTHORITY = GET
CONNECT: Pairs = [(b":method", b"CONNECT"), (b":authority", b"web:443")]
WEBSOCKET: Pairs = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), SCHEME, PATH, AUTHORITY]


def request(pairs: Pairs, *, ends: bool = True) -> RequestHead:
    return request_head(fields_of(pairs), ends)


def response(pairs: Pairs, *, ends: bool = True, method: bytes = b"GET") -> ResponseHead:
    return response_head(fields_of(pairs), method, ends)


def without(name: bytes) -> Pairs:
    return [pair for pair in GET if pair[0] != name]


def with_value(name: bytes, value: bytes) -> Pairs:
    return [(key, value if key == name else other) for key, other in GET]


def spelt(head: RequestHead | ResponseHead) -> Pairs:
    return [(field.name, field.value) for field in head.fields]


MALFORMED: dict[str, Pairs] = {
    # 8.2.1: what a field may be
    "8.2.1: an upper-case letter in a name": [*GET, (b"X-a", b"1")],
    "8.2.1: an empty name": [*GET, (b"", b"1")],
    "8.2.1: a space in a name": [*GET, (b"x a", b"1")],
    "8.2.1: a colon in a name": [*GET, (b"x:a", b"1")],
    "8.2.1: a colon and a line in a name": [*GET, (b"x: 1\r\ny", b"1")],
    "8.2.1: NUL in a value": [*GET, (b"x", b"a\0b")],
    "8.2.1: CR in a value": [*GET, (b"x", b"a\rb")],
    "8.2.1: LF in a value": [*GET, (b"x", b"a\nb")],
    "8.2.1: CR LF in a value": [*GET, (b"x", b"a\r\ny: b")],
    "8.2.1: a value that begins with a space": [*GET, (b"x", b" a")],
    "8.2.1: a value that ends with a tab": [*GET, (b"x", b"a\t")],
    # 8.2.2: what is the connection's
    "8.2.2: connection": [*GET, (b"connection", b"close")],
    "8.2.2: connection with nothing in it": [*GET, (b"connection", b"")],
    "8.2.2: keep-alive": [*GET, (b"keep-alive", b"timeout=5")],
    "8.2.2: proxy-connection": [*GET, (b"proxy-connection", b"keep-alive")],
    "8.2.2: transfer-encoding": [*POST, (b"transfer-encoding", b"chunked")],
    "8.2.2: transfer-encoding identity": [*POST, (b"transfer-encoding", b"identity")],
    "8.2.2: upgrade": [*GET, (b"upgrade", b"h2c")],
    "8.2.2: te other than trailers": [*GET, (b"te", b"gzip")],
    "8.2.2: te with more than trailers": [*GET, (b"te", b"trailers, deflate;q=0.5")],
    # 8.3: pseudo-header fields
    "8.3: an unknown one": [*GET, (b":test", b"1")],
    "8.3: a nameless one": [*GET, (b":", b"1")],
    "8.3: an upper-case one": [(b":Method", b"GET"), *GET],
    "8.3: one of responses": [*GET, (b":status", b"200")],
    "8.3: one behind a field": [*GET[:3], (b"x", b"1"), GET[3]],
    "8.3: one behind host": [*GET[:3], (b"host", b"web"), GET[3]],
    "8.3: one behind a content-length": [*POST[:3], (b"content-length", b"0"), POST[3]],
    "8.3.1: none at all": [(b"x", b"1")],
    "8.3.1: nothing": [],
    "8.3.1: no :method": without(b":method"),
    "8.3.1: no :scheme": without(b":scheme"),
    "8.3.1: no :path": without(b":path"),
    "8.3.1: neither :authority nor host": without(b":authority"),
    "8.3.1: two :method": [METHOD, *GET],
    "8.3.1: two :scheme": [SCHEME, *GET],
    "8.3.1: two :path": [PATH, *GET],
    "8.3.1: two :authority": [AUTHORITY, *GET],
    "8.3.1: an empty :path": with_value(b":path", b""),
    "8.3.1: an empty :method": with_value(b":method", b""),
    "8.3.1: an empty :scheme": with_value(b":scheme", b""),
    "8.3.1: an empty :authority": with_value(b":authority", b""),
    "8.3.1: an empty :authority beside a host": [*with_value(b":authority", b""), (b"host", b"web")],
    "8.3.1: an empty host": [*without(b":authority"), (b"host", b"")],
    "8.3.1: * without OPTIONS": with_value(b":path", b"*"),
    "8.3.1: * as the beginning of a path": [(b":method", b"OPTIONS"), *with_value(b":path", b"*/a")[1:]],
    "8.3.1: a host that is not the :authority": [*GET, (b"host", b"other")],
    "8.3.1: a host with another port": [*GET, (b"host", b"web:81")],
    "8.3.1: two hosts": [*GET, (b"host", b"web"), (b"host", b"web")],
    "8.3.1: two hosts without :authority": [*without(b":authority"), (b"host", b"web"), (b"host", b"web")],
    "8.3.1: user information in :authority": with_value(b":authority", b"a@web"),
    "8.3.1: user information in host": [*without(b":authority"), (b"host", b"a:b@web")],
    # what a line of HTTP/1.1 would break at
    "8.3.1: a space in :method": with_value(b":method", b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET"),
    "8.3.1: a space in :path": with_value(b":path", b"/a HTTP/1.1"),
    "8.3.1: a line in :path": with_value(b":path", b"/a\r\nx: 1"),
    "8.3.1: LF in :path": with_value(b":path", b"/a\nb"),
    "8.3.1: NUL in :path": with_value(b":path", b"/a\0"),
    "8.3.1: an octet beyond ASCII in :path": with_value(b":path", b"/\xff"),
    "8.3.1: a fragment": with_value(b":path", b"/a#b"),
    "8.3.1: a broken percent-encoding": with_value(b":path", b"/%zz"),
    "8.3.1: a :path that is a URI": with_value(b":path", b"http://web/"),
    "8.3.1: a :path without its slash": with_value(b":path", b"a/b"),
    "8.3.1: a :path that is an authority": with_value(b":path", b"web:80"),
    "8.3.1: a path in :authority": with_value(b":authority", b"web/a"),
    "8.3.1: a query in :authority": with_value(b":authority", b"web?a"),
    "8.3.1: a fragment in :authority": with_value(b":authority", b"web#a"),
    "8.3.1: a backslash in :authority": with_value(b":authority", b"web\\a"),
    "8.3.1: a space in :authority": with_value(b":authority", b"web a"),
    "8.3.1: a space before :authority": with_value(b":authority", b" web"),
    "8.3.1: a line in :authority": with_value(b":authority", b"web\r\nx: 1"),
    "8.3.1: a port that is no number": with_value(b":authority", b"web:80a"),
    "8.3.1: a port that is too large": with_value(b":authority", b"web:65536"),
    "8.3.1: a line in :scheme": with_value(b":scheme", b"http\r\n"),
    "8.3.1: a URI in :scheme": with_value(b":scheme", b"http://web/a"),
    # 8.5: CONNECT
    "8.5: CONNECT with :path": [*CONNECT, PATH],
    "8.5: CONNECT with :scheme": [*CONNECT, SCHEME],
    "8.5: CONNECT without :authority": CONNECT[:1],
    "8.5: CONNECT without a port": [CONNECT[0], AUTHORITY],
    "8.5: CONNECT with a length": [*CONNECT, (b"content-length", b"1")],
    "RFC 8441, 4: :protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
    "RFC 8441, 4: no :path": [pair for pair in WEBSOCKET if pair != PATH],
    "RFC 8441, 4: no :scheme": [pair for pair in WEBSOCKET if pair != SCHEME],
    "RFC 8441, 4: no :authority": [pair for pair in WEBSOCKET if pair != AUTHORITY],
    "RFC 8441, 4: two :protocol": [(b":protocol", b"websocket"), *WEBSOCKET],
    "RFC 8441, 4: a line in :protocol": [(b":method", b"CONNECT"), (b":protocol", b"a\r\nb"), *WEBSOCKET[2:]],
    "RFC 8441, 4: a list in :protocol": [(b":method", b"CONNECT"), (b":protocol", b"h2c, websocket"), *WEBSOCKET[2:]],
    # 8.1.1: lengths
    "8.1.1: a length of what has no content": [*POST, (b"content-length", b"1")],
    "8.1.1: the same length twice": [*POST, (b"content-length", b"0"), (b"content-length", b"0")],
    "8.1.1: a list of lengths": [*POST, (b"content-length", b"0, 0")],
    "8.1.1: a signed length": [*POST, (b"content-length", b"+0")],
    "8.1.1: a negative length": [*POST, (b"content-length", b"-1")],
    "8.1.1: a hexadecimal length": [*POST, (b"content-length", b"0x0")],
    "8.1.1: an underscore in a length": [*POST, (b"content-length", b"1_0")],
    "8.1.1: an empty length": [*POST, (b"content-length", b"")],
    "8.1.1: a huge length": [*POST, (b"content-length", b"99999999999999999999")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests(name: str) -> None:
    """ "An endpoint that receives a malformed request MUST treat it as a stream error of type PROTOCOL_ERROR"."""
    with pytest.raises(MalformedError):
        request(MALFORMED[name])


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_its_places(octet: int) -> None:
    """Of names, values, :path, :authority and :method: none that is the end of something in HTTP/1.1 gets through."""
    text = bytes([octet])
    places: dict[str, Pairs] = {
        "name": [*GET, (b"x" + text + b"y", b"1")],
        "value": [*GET, (b"x", b"a" + text + b"b")],
        "path": with_value(b":path", b"/a" + text + b"b"),
        "authority": with_value(b":authority", b"a" + text + b"b"),
        "method": with_value(b":method", b"A" + text + b"B"),
    }
    spaces = set(range(0x21)) | {0x7F}
    forbidden = {
        "name": spaces | set(b":(),/;<=>?@[\\]{}\"") | set(range(0x41, 0x5B)) | set(range(0x80, 0x100)),
        "value": spaces - set(b" \t"),
        "path": spaces | set(b"#") | set(range(0x80, 0x100)),
        "authority": spaces | set(b"/?#@\\\"<>") | set(range(0x80, 0x100)),
        "method": spaces | set(b":(),/;<=>?@[\\]{}\"") | set(range(0x80, 0x100)),
    }  # fmt: skip
    for place, pairs in places.items():
        try:
            head = request(pairs)
        except MalformedError:
            continue
        assert octet not in forbidden[place], place
        assert b"\r" not in head.path + (head.query or b"")


def test_a_request() -> None:
    """What it means: its host first, as HTTP/1.1 has it."""
    head = request([*GET[:2], (b":path", b"/a?b=c"), (b":authority", b"Web:8080"), (b"x", b"1"), (b"te", b"trailers")])
    assert (head.method, head.path, head.query, head.host, head.port) == (b"GET", b"/a", b"b=c", b"web", 8080)
    assert spelt(head) == [(b"host", b"Web:8080"), (b"x", b"1"), (b"te", b"trailers")]
    assert head.framing is Framing.NONE
    assert head.kinds & Kind.TE


def test_host_stands_for_authority() -> None:
    """8.3.1: of a request that was HTTP/1.1 before; and beside an :authority that says the same it comes once."""
    for pairs in ([*without(b":authority"), (b"x", b"1"), (b"host", b"web")], [*GET, (b"x", b"1"), (b"host", b"WEB")]):
        head = request(pairs)
        assert (head.host, head.port) == (b"web", None)
        assert spelt(head) == [(b"host", b"web"), (b"x", b"1")]


def test_cookies_are_joined_where_the_first_was() -> None:
    """8.2.3: with `; `, before anybody sees them who does not know HTTP/2."""
    head = request([*GET, (b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")])
    assert spelt(head)[1:] == [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"1")]
    assert head.crumb is not None
    assert head.crumb.value == b"a=1; b=2; c=3"


def test_framing_of_requests() -> None:
    """By END_STREAM and content-length; HTTP/1.1 will have chunks for what says none."""
    length = (b"content-length", b"5")
    assert request(POST, ends=False).framing is Framing.CHUNKED
    assert request([*POST, length], ends=False).framing is Framing.LENGTH
    assert request([*POST, length], ends=False).content_length == 5
    assert request([*POST, (b"content-length", b"0")]).framing is Framing.NONE
    with pytest.raises(MalformedError):
        request([(b":method", b"TRACE"), *GET[1:]], ends=False)


def test_options_of_everything() -> None:
    """`*` is the path of OPTIONS alone."""
    head = request([(b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY])
    assert (head.path, head.query) == (b"*", None)


def test_connect() -> None:
    """8.5: to a host and a port, with no path."""
    head = request(CONNECT, ends=False)
    assert (head.method, head.path, head.host, head.port) == (b"CONNECT", b"", b"web", 443)
    assert head.framing is Framing.NONE


def test_extended_connect_is_the_upgrade_that_means_the_same() -> None:
    """RFC 8441, 5: GET, `Upgrade`, and a key, which HTTP/2 needs none of: what the client calls one may be none."""
    head = request([*WEBSOCKET, (b"sec-websocket-key", b"theirs"), (b"sec-websocket-version", b"13")], ends=False)
    assert (head.method, head.path, head.framing) == (b"GET", b"/", Framing.NONE)
    fields = dict(spelt(head))
    assert (fields[b"upgrade"], fields[b"connection"]) == (b"websocket", b"upgrade")
    assert fields[b"sec-websocket-version"] == b"13"
    assert len(base64.b64decode(fields[b"sec-websocket-key"])) == 16
    assert head.kinds & Kind.UPGRADE


def test_the_key_of_an_extended_connect_is_kept_if_it_is_one() -> None:
    """Envoy passes on that of a client of HTTP/1.1, which waits for the answer to it."""
    key = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
    assert spelt(request([*WEBSOCKET, key], ends=False)).count(key) == 1
    fields = spelt(request([*WEBSOCKET, key, key], ends=False))
    assert key not in fields
    assert [name for name, _ in fields].count(b"sec-websocket-key") == 1


BAD_RESPONSES: dict[str, Pairs] = {
    "8.3.2: no :status": [(b"x", b"1")],
    "8.3.2: nothing": [],
    "8.3.2: two :status": OK * 2,
    "8.3.2: a :status of two digits": [(b":status", b"20")],
    "8.3.2: a :status of four digits": [(b":status", b"2000")],
    "8.3.2: a :status that is no number": [(b":status", b"2xx")],
    "8.3.2: a :status with a reason": [(b":status", b"200 OK")],
    "8.3.2: a :status below 100": [(b":status", b"099")],
    "8.3.2: an empty :status": [(b":status", b"")],
    "8.3: one of requests": [*OK, (b":path", b"/")],
    "8.3: an unknown one": [*OK, (b":x", b"/")],
    "8.3: one behind a field": [(b"x", b"1"), *OK],
    "8.6: 101": [(b":status", b"101")],
    "8.1: an interim response that is the end": [(b":status", b"103")],
    "8.1.1: a length of what has no content": [*OK, (b"content-length", b"1")],
    "8.1.1: the same length twice": [*OK, (b"content-length", b"0"), (b"content-length", b"0")],
    "8.1.1: a list of lengths": [*OK, (b"content-length", b"0,0")],
    "8.2.1: an upper-case letter": [*OK, (b"X", b"1")],
    "8.2.1: LF in a value": [*OK, (b"x", b"1\n")],
    "8.2.1: CR LF in a value": [*OK, (b"x", b"1\r\nset-cookie: a=b")],
    "8.2.2: connection": [*OK, (b"connection", b"close")],
    "8.2.2: transfer-encoding": [*OK, (b"transfer-encoding", b"chunked")],
    "8.2.2: upgrade": [*OK, (b"upgrade", b"h2c")],
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
def test_malformed_responses(name: str) -> None:
    """8.1.1: the same of what a server says."""
    with pytest.raises(MalformedError):
        response(BAD_RESPONSES[name])


def test_framing_of_responses() -> None:
    """By END_STREAM, content-length, status and the method that is answered."""
    length = [*OK, (b"content-length", b"5")]
    assert response(OK, ends=False).framing is Framing.CHUNKED
    assert response(length, ends=False).framing is Framing.LENGTH
    assert response(length, method=b"HEAD").framing is Framing.NONE
    assert response([(b":status", b"304"), length[1]]).framing is Framing.NONE
    assert response([(b":status", b"204")]).framing is Framing.NONE
    assert response([(b":status", b"103")], ends=False).status == 103
    assert response([*OK, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]).framing is Framing.CHUNKED
