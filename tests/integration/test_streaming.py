"""Bodies over real sockets: they stream both ways, as fast as the slower side, and end as they really ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.support.kernel import held_octets
from tests.support.process import SidecarProcess
from tests.support.wait import eventually
from tests.support.wire import Client, ServerConnection, Upstream


def begin(client: Client, upstream: Upstream, fields: str = "", method: str = "POST", path: str = "/") -> None:
    """Send a head without its body."""
    client.send(f"{method} {path} HTTP/1.1\r\nHost: {upstream.authority}\r\n{fields}\r\n".encode())


def test_a_response_streams_piece_by_piece(client: Client, upstream: Upstream) -> None:
    """Each piece is with the client before the next is sent, of known length, chunked, and ended by closing."""
    heads = {
        "Content-Length: 15\r\n": lambda piece: piece,
        "Transfer-Encoding: chunked\r\n": lambda piece: b"%x\r\n%b\r\n" % (len(piece), piece),
        "": lambda piece: piece,
    }
    for fields, framed in heads.items():
        client.get("/", host=upstream.authority)
        server = upstream.accept() if not upstream.accepted else upstream.accepted[0]
        server.request()
        server.send(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode())
        head = client.head()
        is_chunked = head.get("transfer-encoding") == "chunked"
        assert is_chunked == ("Length" not in fields)
        for number in range(3):
            piece = b"piece" if number else b"first"
            server.send(framed(piece))
            if is_chunked:
                assert client.read_until(b"\r\n") == b"5\r\n"
            assert client.read_exactly(5) == piece
            if is_chunked:
                assert client.read_exactly(2) == b"\r\n"
        if "chunked" in fields:
            server.send(b"0\r\n\r\n")
        elif not fields:
            server.close()
        if is_chunked:
            assert client.read_until(b"\r\n\r\n") == b"0\r\n\r\n"


def test_a_request_streams_piece_by_piece(client: Client, upstream: Upstream) -> None:
    """Of known length and chunked: the upstream has each piece before the next is sent."""
    begin(client, upstream, "Content-Length: 15\r\n")
    server = upstream.accept()
    server.head()
    for piece in (b"first", b"piece", b"third"):
        client.send(piece)
        assert server.read_exactly(5) == piece
    server.answer()
    assert client.response().status == 200

    begin(client, upstream, "Transfer-Encoding: chunked\r\n")
    assert server.head().get("transfer-encoding") == "chunked"
    for piece in (b"first", b"piece", b"third"):
        client.send(b"5;ext=1\r\n", piece, b"\r\n")
        assert server.read_exactly(10) == b"5\r\n" + piece + b"\r\n"
    client.send(b"0\r\n\r\n")
    assert server.read_exactly(5) == b"0\r\n\r\n"
    server.answer()
    assert client.response().status == 200


def test_both_directions_stream_at_once(client: Client, upstream: Upstream) -> None:
    """An echo: the response begins while the request goes on, and the last byte comes after the last was sent."""
    begin(client, upstream, "Transfer-Encoding: chunked\r\n")
    server = upstream.accept()
    server.head()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    for number in range(20):
        chunk = b"2\r\n%02d\r\n" % number
        client.send(chunk)
        assert server.read_exactly(7) == chunk
        server.send(chunk)
        assert client.read_exactly(7) == chunk
    client.send(b"0\r\n\r\n")
    assert server.read_exactly(5) == b"0\r\n\r\n"
    server.send(b"0\r\n\r\n")
    assert client.read_exactly(5) == b"0\r\n\r\n"
    client.get("/next", host=upstream.authority)
    server.serve(b"in step")
    assert client.response().body == b"in step"


def test_trailers_pass_both_ways(client: Client, upstream: Upstream) -> None:
    """But for those that would change what was acted on."""
    trailer = b"X-Sum: 1\r\nContent-Length: 9\r\nHost: evil\r\nX-More: 2\r\n"
    begin(client, upstream, "Transfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n")
    client.send(b"3\r\nabc\r\n0\r\n", trailer, b"\r\n")
    server = upstream.accept()
    request = server.request()
    assert request.body == b"abc"
    assert request.trailers == [("x-sum", "1"), ("x-more", "2")]
    assert (request.get("te"), request.get("connection")) == ("trailers", "te")
    server.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nxyz\r\n0\r\n", trailer, b"\r\n"
    )
    response = client.response()
    assert response.body == b"xyz"
    assert response.trailers == [("x-sum", "1"), ("x-more", "2")]
    assert response.get("trailer") == "X-Sum"


def test_any_cut_of_the_bytes_makes_the_same_message(client: Client, upstream: Upstream) -> None:
    """A request and a response, octet by octet."""
    request = (
        f"POST /cut HTTP/1.1\r\nHost: {upstream.authority}\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\nWiki\r\n6;x=y\r\npedia \r\n0\r\nX-T: 1\r\n\r\n"
    ).encode()
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n1\r\nx\r\n0\r\nX-T: 2\r\n\r\n"
    for octet in request:
        client.send(bytes([octet]))
    server = upstream.accept()
    message = server.request()
    assert (message.body, message.trailers) == (b"Wikipedia ", [("x-t", "1")])
    for octet in response:
        server.send(bytes([octet]))
    answer = client.response()
    assert (answer.body, answer.trailers) == (b"0123456789x", [("x-t", "2")])


# --- early answers -------------------------------------------------------------------------------------------------


def test_an_early_answer_reaches_a_client_that_still_sends(client: Client, upstream: Upstream) -> None:
    """413 at 1 KiB of 64 MiB: the client gets it whole although it never stops sending."""
    begin(client, upstream, f"Content-Length: {64 << 20}\r\n")
    client.send(b"x" * 1024)
    server = upstream.accept()
    server.head()
    server.answer(b"too much", status="413 Content Too Large")
    server.close()
    sent = _send_until_broken(client, 64 << 20)
    response = client.response()
    assert (response.status, response.body) == (413, b"too much")
    assert response.get("connection") == "close"
    client.close()
    sent.join(10)
    assert not sent.is_alive()


def _send_until_broken(client: Client, size: int) -> threading.Thread:
    def send() -> None:
        try:
            for _ in range(size // 65536):
                client.sock.sendall(b"x" * 65536)
        except OSError:
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_an_early_answer_with_little_missing_keeps_the_connection(client: Client, upstream: Upstream) -> None:
    """The rest of the body is dropped and is not read as a request."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    begin(client, upstream, f"Content-Length: {len(body)}\r\n")
    client.send(body[:10])
    server = upstream.accept()
    server.head()
    server.answer(b"early", status="403 Forbidden")
    response = client.response()
    assert (response.status, response.get("connection")) == (403, None)
    client.send(body[10:])
    client.get("/next", host=upstream.authority)
    assert upstream.accept().serve(b"next").target == "/next"
    assert client.response().body == b"next"


def test_an_early_answer_frees_the_upstream(client: Client, upstream: Upstream) -> None:
    """Its connection holds half a request and is closed, not pooled."""
    begin(client, upstream, "Content-Length: 1000\r\n")
    client.send(b"half")
    server = upstream.accept()
    server.head()
    server.answer()
    assert client.response().status == 200
    assert server.read_to_end() in (b"half", b"")


# --- half-closed clients -------------------------------------------------------------------------------------------


def test_a_half_closed_client_gets_its_answer(client: Client, upstream: Upstream) -> None:
    """`printf ... | nc` and some HTTP libraries send their end of file before they read."""
    client.send(
        f"POST /a HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: 1\r\n\r\n1".encode(),
        f"GET /b HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode(),
    )
    client.finish_sending()
    server = upstream.accept()
    server.serve(b"one")
    server.serve(b"two" * 100_000)
    assert client.response().body == b"one"
    assert client.response().body == b"two" * 100_000
    assert client.is_ended()


def test_a_half_closed_client_with_half_a_request_is_not_waited_for(
    proxy: SidecarProcess, client: Client, upstream: Upstream
) -> None:
    """It can never be answered."""
    begin(client, upstream, "Content-Length: 10\r\n", path="/half")
    server = upstream.accept()
    server.head()
    client.send(b"12345")
    assert server.read_exactly(5) == b"12345"
    client.finish_sending()
    assert client.is_ended()
    assert server.is_ended()
    (line,) = eventually(lambda: [row for row in proxy.access_log() if row["path"] == "/half"], "the log line")
    assert (line["response_flags"], line["response_code"], line["bytes_received"]) == ("DC", 499, 5)


# --- back-pressure -------------------------------------------------------------------------------------------------


def _fill(send: Callable[[bytes], int], limit: int) -> int:
    """Send until nothing more is taken for half a second; returns how much was taken."""
    taken = 0
    while taken < limit:
        try:
            taken += send(b"x" * 65536)
        except TimeoutError:
            return taken
    return taken


def test_a_server_is_paused_while_the_client_does_not_read(proxy: SidecarProcess, upstream: Upstream) -> None:
    """Of 256 MiB only what the sockets hold is taken; it goes on when the client reads, and all arrives."""
    size = 256 << 20
    with Client(proxy.outbound_port, receive_buffer=65536) as client:
        client.get("/", host=upstream.authority)
        server = upstream.accept()
        server.request()
        server.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        server.sock.settimeout(0.5)
        taken = _fill(server.sock.send, size)
        assert taken < held_octets()
        assert proxy.memory_kib() < 200_000
        client.head()
        _pass(server, client, taken, taken + (8 << 20))
        server.reset()


def test_a_client_is_paused_while_the_server_does_not_read(proxy: SidecarProcess) -> None:
    """The same for requests."""
    size = 256 << 20
    with Upstream(receive_buffer=65536) as upstream, Client(proxy.outbound_port) as client:
        begin(client, upstream, f"Content-Length: {size}\r\n")
        server = upstream.accept()
        client.sock.settimeout(0.5)
        taken = _fill(client.sock.send, size)
        assert taken < held_octets()
        server.head()
        _pass(client, server, taken, taken + (8 << 20))


def _pass(source: Client | ServerConnection, sink: Client | ServerConnection, sent: int, size: int) -> None:
    """Send up to `size` while the other side reads as much."""
    source.sock.settimeout(15)
    sending = threading.Thread(target=lambda: source.sock.sendall(b"x" * (size - sent)), daemon=True)
    sending.start()
    left = size
    while left > 0:
        data = sink.receive()
        assert data
        assert data.count(b"x") == len(data)
        left -= len(data)
    sending.join(15)
    assert not sending.is_alive()
