"""Clients that leave and servers that die, at every phase: what the other side sees, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.process import SidecarProcess
from tests.support.wait import eventually
from tests.support.wire import Client, CutError, ServerConnection, Stream, Upstream


def line_of(proxy: SidecarProcess, path: str) -> dict[str, Any]:
    """The one access-log line of this path, once it is there."""
    lines = eventually(lambda: [row for row in proxy.access_log() if row["path"] == path], f"the log line of {path}")
    assert len(lines) == 1
    return lines[0]


def begin(client: Client, upstream: Upstream, path: str, fields: str = "", method: str = "GET") -> None:
    """Send a head."""
    client.send(f"{method} {path} HTTP/1.1\r\nHost: {upstream.authority}\r\n{fields}\r\n".encode())


# --- the client leaves ---------------------------------------------------------------------------------------------


def test_a_client_that_resets_in_its_request_body_frees_the_upstream(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """`DC` 499; the upstream sees a cut, never a complete request."""
    begin(client, upstream, "/left-in-request", "Transfer-Encoding: chunked\r\n", "POST")
    server = upstream.accept()
    server.head()
    client.send(b"5\r\nhello\r\n")
    server.read_exactly(10)
    client.reset()
    assert server.read_to_end() == b""
    line = line_of(proxy, "/left-in-request")
    assert (line["response_flags"], line["response_code"]) == ("DC", 499)
    assert line["response_code_details"] == "client_left"


def test_a_client_that_resets_while_it_waits_frees_the_upstream(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """The upstream's connection is closed, for its answer is still to come."""
    begin(client, upstream, "/left-waiting")
    server = upstream.accept()
    server.request()
    client.reset()
    assert server.is_ended()
    line = line_of(proxy, "/left-waiting")
    assert (line["response_flags"], line["response_code"]) == ("DC", 499)


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked", "X-Until: close"])
def test_a_client_that_resets_in_its_response_frees_the_upstream(
    proxy: SidecarProcess, client: Client, upstream: Upstream, framing: str
) -> None:
    """The log keeps the status that was sent."""
    path = f"/left-in-response/{framing[0]}"
    begin(client, upstream, path)
    server = upstream.accept()
    server.request()
    server.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode())
    client.head()
    client.read_until(b"hello")
    client.reset()
    assert server.is_ended()
    line = line_of(proxy, path)
    assert (line["response_flags"], line["response_code"]) == ("DC", 200)
    assert line["bytes_sent"] > 0


def test_a_client_that_resets_between_requests_harms_nothing(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """The upstream's connection stays in the pool."""
    begin(client, upstream, "/left-idle")
    server = upstream.accept()
    server.serve()
    client.response()
    client.reset()
    with Client(proxy.outbound_port) as other:
        begin(other, upstream, "/left-idle/next")
        server.serve(b"other")
        assert other.response().body == b"other"


def test_a_client_that_closes_while_it_waits_is_recorded_once_the_answer_cannot_be_sent(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """An orderly close cannot be told from a half-close: the exchange is carried through, and ends either way."""
    begin(client, upstream, "/closed-waiting")
    server = upstream.accept()
    server.request()
    client.close()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
    try:
        for _ in range(61):
            server.send(b"x" * 65536)
    except OSError:
        pass
    line = line_of(proxy, "/closed-waiting")
    assert (line["response_flags"], line["response_code"]) == ("DC", 200)
    assert server.is_ended()


# --- the upstream dies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_an_upstream_that_dies_before_its_response_is_503(
    proxy: SidecarProcess, client: Client, upstream: Upstream, ending: str
) -> None:
    """`UC` when it closed, `UR` when it reset; the client's connection lives on."""
    path = f"/dead-before/{ending}"
    begin(client, upstream, path)
    server = upstream.accept()
    server.request()
    getattr(server, ending)()
    response = client.response()
    assert response.status == 503
    assert "sidecar; error=connection_terminated" in (response.get("proxy-status") or "")
    line = line_of(proxy, path)
    assert (line["response_flags"], line["response_code"]) == ("UC" if ending == "close" else "UR", 503)
    begin(client, upstream, path + "/next")
    upstream.accept().serve(b"alive")
    assert client.response().body == b"alive"


def test_an_upstream_that_dies_in_the_request_body_is_503(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """The client is told although it has not sent everything."""
    begin(client, upstream, "/dead-in-request", f"Content-Length: {1 << 24}\r\n", "POST")
    server = upstream.accept()
    server.head()
    client.send(b"x" * 1000)
    server.read_exactly(1000)
    server.reset()
    response = client.response()
    assert (response.status, response.get("connection")) == (503, "close")
    assert line_of(proxy, "/dead-in-request")["response_flags"] == "UR"


def test_an_upstream_that_dies_in_its_head_is_503(proxy: SidecarProcess, client: Client, upstream: Upstream) -> None:
    """Half a head is no response, and is not sent again: something was processed."""
    begin(client, upstream, "/dead-in-head")
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    server.close()
    assert client.response().status == 503
    assert line_of(proxy, "/dead-in-head")["response_flags"] == "UC"
    assert not upstream.has_waiting()


CUTS: dict[str, tuple[bytes, Callable[[ServerConnection], None]]] = {
    "length": (b"Content-Length: 100\r\n\r\n12345", ServerConnection.close),
    "length-reset": (b"Content-Length: 100\r\n\r\n12345", ServerConnection.reset),
    "in-a-chunk": (b"Transfer-Encoding: chunked\r\n\r\nA\r\n12345", ServerConnection.close),
    "between-chunks": (b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", ServerConnection.close),
    "before-the-trailers-end": (
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: 1\r\n",
        ServerConnection.close,
    ),
    "until-close-reset": (b"X-Until: close\r\n\r\n12345", ServerConnection.reset),
}


@pytest.mark.parametrize("name", list(CUTS))
def test_a_cut_response_is_cut_for_the_client(
    proxy: SidecarProcess, client: Client, upstream: Upstream, name: str
) -> None:
    """Never ended as if it were whole; `UC`, and the status that was sent."""
    data, end = CUTS[name]
    path = f"/cut/{name}"
    begin(client, upstream, path)
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.1 200 OK\r\n", data)
    head = client.head()
    client.unread = client.read_until(b"12345") + client.unread
    end(server)
    with pytest.raises(CutError):
        client.read_exactly(100) if head.get("content-length") else client.chunked_body(head)
    line = line_of(proxy, path)
    assert (line["response_flags"], line["response_code"]) == ("UC", 200)
    assert line["response_code_details"] == "response_cut"


def test_a_cut_response_of_an_http_1_0_client_is_reset(client: Client, upstream: Upstream) -> None:
    """For whom the end of the connection would be the end of the body."""
    client.send(f"GET /cut/1.0 HTTP/1.0\r\nHost: {upstream.authority}\r\n\r\n".encode())
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")
    client.head()
    assert client.read_exactly(5) == b"12345"
    server.close()
    with pytest.raises(ConnectionResetError):
        client.sock.recv(1)


# --- the upstream lies ---------------------------------------------------------------------------------------------

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
GARBAGE = {
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n\r\n",
    "status": b"HTTP/1.1 20 OK\r\n\r\n",
    "version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "fold": b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length-and-coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "switch": SWITCH,
    "too-large": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    "too-many": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("name", list(GARBAGE))
def test_a_bad_response_is_502_and_its_connection_is_not_used_again(
    proxy: SidecarProcess, client: Client, upstream: Upstream, name: str
) -> None:
    """`UPE`; the client's own connection is not to blame and lives on."""
    path = f"/garbage/{name}"
    begin(client, upstream, path)
    server = upstream.accept()
    server.request()
    server.send(GARBAGE[name])
    response = client.response()
    assert response.status == 502
    assert server.is_ended()
    line = line_of(proxy, path)
    assert (line["response_flags"], line["response_code"]) == ("UPE", 502)
    begin(client, upstream, path + "/next")
    upstream.accept().serve(b"clean")
    assert client.response().body == b"clean"


def test_a_bad_chunk_in_the_middle_cuts_the_response(proxy: SidecarProcess, client: Client, upstream: Upstream) -> None:
    """The head is gone already, so the client sees a cut."""
    begin(client, upstream, "/bad-chunk")
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    head = client.head()
    client.unread = client.read_until(b"hello\r\n") + client.unread
    server.send(b"zz\r\n")
    with pytest.raises(CutError):
        client.chunked_body(head)
    line = line_of(proxy, "/bad-chunk")
    assert (line["response_flags"], line["response_code_details"]) == ("UPE", "bad_response_body")
    assert server.is_ended()


# --- bytes that belong to nobody -----------------------------------------------------------------------------------

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
BEHIND = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "none": b"HTTP/1.1 204 No Content\r\n\r\n",
    "head": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
}


@pytest.mark.parametrize("is_together", [True, False])
@pytest.mark.parametrize("name", list(BEHIND))
def test_bytes_behind_a_response_never_reach_another_client(
    proxy: SidecarProcess, client: Client, upstream: Upstream, name: str, is_together: bool
) -> None:
    """In the same packet or after it: they are dropped with their connection."""
    method = "HEAD" if name == "head" else "GET"
    begin(client, upstream, "/behind", method=method)
    server = upstream.accept()
    server.request()
    if is_together:
        server.send(BEHIND[name], EVIL)
        assert client.response(method).status in (200, 204)
    else:
        server.send(BEHIND[name])
        assert client.response(method).status in (200, 204)
        server.send(EVIL)
    assert server.is_ended()
    with Client(proxy.outbound_port) as other:
        for stream in (client, other):
            begin(stream, upstream, "/behind")
            if stream is client:
                server = upstream.accept()
            server.serve(b"mine")
            assert stream.response().body == b"mine"


def test_a_response_before_the_request_is_complete_is_not_given_to_the_next(client: Client, upstream: Upstream) -> None:
    """Two answers to one request that is still being sent."""
    begin(client, upstream, "/double", "Content-Length: 10\r\n", "POST")
    server = upstream.accept()
    server.head()
    server.send(BEHIND["length"], EVIL)
    assert client.response().body == b"ok"
    client.send(b"0123456789")
    begin(client, upstream, "/double/next")
    upstream.accept().serve(b"mine")
    assert client.response().body == b"mine"


@pytest.mark.parametrize("kind", ["connect", "upgrade"])
@pytest.mark.parametrize("is_clients", [True, False], ids=["client resets", "server resets"])
def test_a_tunnel_that_one_side_resets_is_reset_at_the_other(
    proxy: SidecarProcess, client: Client, upstream: Upstream, kind: str, is_clients: bool
) -> None:
    """An end in order would say that all has come: in a tunnel nothing else says it."""
    if kind == "connect":
        begin(client, upstream, upstream.authority, method="CONNECT")
        client.read_until(b"\r\n\r\n")
        server = upstream.accept()
    else:
        begin(client, upstream, "/reset-tunnel", "Connection: Upgrade\r\nUpgrade: websocket\r\n")
        server = upstream.accept()
        server.head()
        server.send(SWITCH)
        client.read_until(b"\r\n\r\n")
    client.send(b"up")
    assert server.read_exactly(2) == b"up"
    server.send(b"down")
    assert client.read_exactly(4) == b"down"
    sides: list[Stream] = [client, server] if is_clients else [server, client]
    sides[0].reset()
    with pytest.raises(ConnectionResetError):
        sides[1].sock.recv(1)
