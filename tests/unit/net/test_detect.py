"""What is taken for what, by its first octets."""

from __future__ import annotations

import pytest

from sidecar.net.detect import MAX_METHOD, PREFACE, Protocol, detect, goes_to_proxy, looks_like_http
from tests.support.hellos import client, sent_by

HELLO = sent_by(client("h2"), "a.example")

HTTP1 = [
    b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.0\r\nHost: x\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n", b"GET / HTTP/1.1\n",
    b"CONNECT a:443 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"M-SEARCH * HTTP/1.1\r\n",
    # What our parser refuses, and some server might not.
    b"get / http/1.1\r\n", b"GET  /a b  HTTP/1.1 \r\n", b"GET\x20/\tHTTP/1.1\r\n", b"GET / HTTP/9.9\r\n",
    b"GET /\0 HTTP/1.1\r\n", b"GET HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nXX",
]  # fmt: skip
OTHER = [
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b"*1\r\n$4\r\nPING\r\n", b"PING\r\n",
    b"set key 0 0 1\r\n", b"AMQP\x00\x00\x09\x01", b"\x10\x0c\x00\x04MQTT", b"GET /\r\n", b"EHLO example.org\r\n",
    b"OPTIONS rtsp://a RTSP/1.0\r\n", b" GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x02\x00\x00\x10",
    b"{}", b'"', b"A" * (MAX_METHOD + 1),
]  # fmt: skip
UNKNOWN = [b"", b"G", b"GET", b"GET ", b"GET /" + b"a" * 9000, b"\r\n", PREFACE[:1], PREFACE[:-1], HELLO[:4], b"\x16"]


@pytest.mark.parametrize("data", HTTP1, ids=repr)
def test_requests_are_http(data: bytes) -> None:
    """In the widest sense."""
    assert detect(data) == Protocol.HTTP1


@pytest.mark.parametrize("data", OTHER, ids=repr)
def test_what_is_neither(data: bytes) -> None:
    """PostgreSQL, SSH, Redis, memcached, AMQP, MQTT, HTTP/0.9, SMTP, RTSP, SSL 2, JSON."""
    assert detect(data) == Protocol.OTHER


@pytest.mark.parametrize("data", UNKNOWN, ids=lambda data: repr(data[:16]))
def test_what_more_octets_must_tell(data: bytes) -> None:
    """Each of them could become HTTP/1, HTTP/2 or TLS."""
    assert detect(data) == Protocol.UNKNOWN


def test_preface_and_hello() -> None:
    """Whole, and with what follows."""
    assert detect(PREFACE) == detect(PREFACE + b"\0\0\0\4") == Protocol.HTTP2
    assert detect(HELLO[:5]) == detect(HELLO) == Protocol.TLS


@pytest.mark.parametrize(
    ("data", "is_http"), [(b"GET ", True), (b"\r\nPOST /a", True), (b"GET", False), (b"\r\n", False), (b"\x16", False)]
)
def test_guess_where_nothing_more_comes(data: bytes, is_http: bool) -> None:
    """A method and a space are one."""
    assert looks_like_http(data) is is_http


@pytest.mark.parametrize(
    ("data", "is_to_proxy"),
    [
        (b"CONNECT a:443 HTTP/1.1\r\n", True),
        (b"GET http://a/ HTTP/1.1\r\n", True),
        (b"\r\nGET http://a/ HTTP/1.1\r\n", True),
        (b"GET / HTTP/1.1\r\nReferer: http://a/\r\n", False),
        (b"OPTIONS * HTTP/1.1\r\n", False),
        (b"GET ", False),
    ],
)
def test_requests_in_the_form_for_a_proxy(data: bytes, is_to_proxy: bool) -> None:
    """CONNECT, and targets that are not a path."""
    assert goes_to_proxy(data) is is_to_proxy
