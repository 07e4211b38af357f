"""Requests that are refused: too large, too slow, malformed, or framed so that two servers would read two things."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client, Upstream


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """A sidecar with tight limits."""
    text = """
        service: storefront
        outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}", unmatched: passthrough}
        limits: {header_timeout: 500ms, idle_timeout: 1s, max_header_bytes: 4KiB, max_headers: 20}
    """
    with running_sidecar(tmp_path_factory.mktemp("small"), text) as sidecar:
        yield sidecar


def last_line(sidecar: SidecarProcess, raw_line: str) -> dict[str, Any]:
    """The access-log line of what began so."""
    lines = eventually(
        lambda: [row for row in sidecar.access_log() if row.get("raw_line") == raw_line], f"the log line of {raw_line}"
    )
    return lines[-1]


def refused(sidecar: SidecarProcess, data: bytes, status: int) -> None:
    """Send it; the answer has this status, and the connection is closed."""
    with Client(sidecar.outbound_port) as client:
        client.send(data)
        response = client.response()
        assert response.status == status, (data, response)
        assert response.get("connection") == "close"
        assert response.get("proxy-status")
        assert client.read_to_end() == b""


# --- too large -----------------------------------------------------------------------------------------------------


def test_limits_are_exact(small: SidecarProcess, upstream: Upstream) -> None:
    """A head of exactly `max_header_bytes`, and one of exactly `max_headers`, pass; one more does not."""
    start = f"GET /a HTTP/1.1\r\nHost: {upstream.authority}\r\n".encode()
    padded = start + b"X-Pad: " + b"p" * (4096 - len(start) - len(b"X-Pad: "))
    with Client(small.outbound_port) as client:
        for data in (padded, start + b"\r\n".join([b"X: 1"] * 19)):
            client.send(data + b"\r\n\r\n")
            server = upstream.accept() if not upstream.accepted else upstream.accepted[0]
            server.serve()
            assert client.response().status == 200
    refused(small, padded + b"p\r\n\r\n", 431)
    refused(small, start + b"X: 1\r\n" * 20 + b"\r\n", 431)
    assert not upstream.has_waiting()


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_request_line_that_is_too_long_is_414(small: SidecarProcess, is_complete: bool) -> None:
    """Whether its end ever comes or not."""
    line = b"GET /" + b"a" * 8000
    refused(small, line + b" HTTP/1.1\r\nHost: x\r\n\r\n" if is_complete else line, 414)
    assert last_line(small, line[:256].decode())["response_flags"] == "DPE"


def test_a_head_that_never_ends_is_431(small: SidecarProcess) -> None:
    """Refused at the limit, not at its end."""
    refused(small, b"GET /endless HTTP/1.1\r\nHost: x\r\n" + b"X: yyyyyyyy\r\n" * 400, 431)
    assert last_line(small, "GET /endless HTTP/1.1")["response_code_details"] == "head_too_large"


# --- too slow ------------------------------------------------------------------------------------------------------


def test_a_slow_head_is_408(small: SidecarProcess) -> None:
    """`DT`; an octet now and then does not put it off."""
    with Client(small.outbound_port) as client:
        began = time.monotonic()
        client.sock.settimeout(0.1)
        data = b""
        client.send(b"GET /slow-head HTTP/1.1\r\n")
        while not data:
            try:
                data = client.sock.recv(65536)
            except TimeoutError:
                client.send(b"X")
                assert time.monotonic() - began < 10
        assert data.startswith(b"HTTP/1.1 408 ")
        assert 0.4 < time.monotonic() - began < 10
    line = last_line(small, "GET /slow-head HTTP/1.1")
    assert (line["response_flags"], line["response_code"], line["method"]) == ("DT", 408, None)


def test_a_connection_without_a_request_is_closed_without_a_word(small: SidecarProcess) -> None:
    """`limits.idle_timeout`: nothing was asked, so nothing is answered or recorded."""
    with Client(small.outbound_port) as client:
        assert client.read_to_end() == b""


def test_a_body_that_stops_is_408(small: SidecarProcess, upstream: Upstream) -> None:
    """And the upstream is freed."""
    with Client(small.outbound_port) as client:
        head = f"POST /stopped HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: 10\r\n\r\n"
        client.send(head.encode(), b"12345")
        server = upstream.accept()
        assert client.response().status == 408
        server.head()
        assert server.read_to_end() == b"12345"


# --- malformed -----------------------------------------------------------------------------------------------------

START = b"POST / HTTP/1.1\r\nHost: x\r\n"
MALFORMED: dict[str, tuple[bytes, int]] = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "an invalid host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with userinfo": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n", 400),
    "bare LF in a field": (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\nY: b\r\n\r\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", 400),
    "fold": (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
    "fold in the first line": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a control octet": (b"GET / HTTP/1.1\r\nHost: x\r\nX: \x0b\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a fragment": (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a broken percent-encoding": (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an octet beyond ASCII in the target": (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an invalid method": (b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "https": (b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    # what smuggling is made of
    "length and coding": (START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (START + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (START + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "the same length twice": (START + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "a list of lengths": (START + b"Content-Length: 4, 4\r\n\r\nabcd", 400),
    "a signed length": (START + b"Content-Length: +4\r\n\r\nabcd", 400),
    "a negative length": (START + b"Content-Length: -4\r\n\r\nabcd", 400),
    "a hexadecimal length": (START + b"Content-Length: 0x4\r\n\r\nabcd", 400),
    "an underscore in a length": (START + b"Content-Length: 1_0\r\n\r\nabcdefghij", 400),
    "an empty length": (START + b"Content-Length:\r\n\r\n", 400),
    "a huge length": (START + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "a coding in another spelling": (START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "a coding with a vertical tab": (START + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "a quoted coding": (START + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "chunked is not last": (START + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "two codings in two fields": (
        START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding that we do not speak": (START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding on HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding with a space before its colon": (START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "CONNECT with a body": (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nContent-Length: 1\r\n\r\na", 400),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_requests_are_refused(small: SidecarProcess, name: str) -> None:
    """RFC 9112, and section 11.2 about smuggling."""
    data, status = MALFORMED[name]
    refused(small, data, status)


CHUNK_HEAD = "POST /chunks/{name} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "size": b"xyz\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "too-long": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare-lf": b"3\nabc\r\n0\r\n\r\n",
    "lf-after-data": b"3\r\nabc\n0\r\n\r\n",
    "space-before-size": b" 3\r\nabc\r\n0\r\n\r\n",
    "bare-cr-in-extension": b"3;a=\rb\r\nabc\r\n0\r\n\r\n",
    "long-extension": b"3;" + b"a" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "trailer": b"3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
    "long-trailers": b"3\r\nabc\r\n0\r\n" + b"X: yyyyyyyyyyyyyy\r\n" * 300 + b"\r\n",
}


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("name", list(BAD_CHUNKS))
def test_malformed_chunks_are_refused(small: SidecarProcess, upstream: Upstream, name: str, is_later: bool) -> None:
    """At once or in the middle of a body: 400, closed, and the upstream never sees a complete request."""
    with Client(small.outbound_port) as client:
        client.send(CHUNK_HEAD.format(name=name, host=upstream.authority).encode())
        server = upstream.accept()
        server.head()
        if is_later:
            client.send(b"5\r\nhello\r\n")
            assert server.read_exactly(10) == b"5\r\nhello\r\n"
        client.send(BAD_CHUNKS[name], b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        response = client.response()
        assert (response.status, response.get("connection")) == (400, "close")
        assert client.read_to_end() == b""
        seen = server.read_to_end()
        assert not seen.endswith(b"0\r\n\r\n")
        assert b"smuggled" not in seen


def test_what_a_body_says_is_never_a_request(small: SidecarProcess, upstream: Upstream) -> None:
    """A body that looks like a request, in both framings, is a body."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with Client(small.outbound_port) as client:
        client.get("/one", host=upstream.authority, method="POST", body=inner)
        server = upstream.accept()
        assert server.serve().body == inner
        assert client.response().status == 200
        client.send(CHUNK_HEAD.format(name="two", host=upstream.authority).encode())
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner))
        assert server.serve().body == inner
        assert client.response().status == 200
        client.get("/three", host=upstream.authority)
        assert server.serve().target == "/three"


def test_a_request_that_runs_in_a_circle_is_508(proxy: SidecarProcess) -> None:
    """A sidecar whose upstream is itself: every hop is an exchange, and it ends."""
    with Client(proxy.outbound_port) as client:
        client.get("/circle", host=f"127.0.0.1:{proxy.outbound_port}")
        assert client.response().status == 508
    lines = eventually(lambda: len(_lines(proxy)) == 66 and _lines(proxy), "every hop's line")
    assert {(row["response_code"], row["response_flags"]) for row in lines} == {(508, "-"), (508, "DPE")}


def _lines(proxy: SidecarProcess) -> list[dict[str, Any]]:
    return [row for row in proxy.access_log() if row["path"] == "/circle"]
