"""Any version of HTTP before the sidecar, any behind it: what each says arrives as the other writes it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes

from tests.support.h2_peer import H2Client, H2Server
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wire import Client, CutError, Upstream

SERVERS = 32
"""Each test has one of its own, whose connections nobody has used."""
MIB = 1024 * 1024
HELD_BYTES = 16 * MIB
"""More than windows and the kernel's buffers hold of what nobody reads, and less than what is sent."""


class Place:
    """
    A sidecar, and servers that know HTTP/2 or HTTP/1.1 only, each an upstream.

    Attributes:
        sidecar: That stands between.
    """

    def __init__(self, sidecar: SidecarProcess, new: list[H2Server], old: list[Upstream]) -> None:
        self.sidecar = sidecar
        self._new = list(enumerate(new))
        self._old = list(enumerate(old))

    def new(self) -> tuple[str, H2Server]:
        """A server of HTTP/2 that nobody has used, and its name."""
        number, server = self._new.pop()
        return f"new-{number}", server

    def old(self) -> tuple[str, Upstream]:
        """A server of HTTP/1.1 that nobody has used, and its name."""
        number, server = self._old.pop()
        return f"old-{number}", server

    def by_old(self) -> Client:
        """A client of HTTP/1.1."""
        return Client(self.sidecar.outbound_port)

    def by_new(self) -> H2Client:
        """A client of HTTP/2."""
        return H2Client(self.sidecar.outbound_port)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all."""
    with contextlib.ExitStack() as stack:
        new = [stack.enter_context(H2Server()) for _ in range(SERVERS)]
        old = [stack.enter_context(Upstream()) for _ in range(SERVERS)]
        lines = [
            *(f'  new-{n}: {{endpoints: ["127.0.0.1:{one.port}"], protocol: http2}}' for n, one in enumerate(new)),
            *(f'  old-{n}: {{endpoints: ["127.0.0.1:{one.port}"], protocol: http1}}' for n, one in enumerate(old)),
        ]
        text = 'service: web\noutbound: {listen: "127.0.0.1:${OUTBOUND_PORT}"}\nupstreams:\n' + "\n".join(lines) + "\n"
        sidecar = stack.enter_context(running_sidecar(tmp_path_factory.mktemp("pairs"), text))
        yield Place(sidecar, new, old)


class TestOldBeforeNew:
    """A client of HTTP/1.1, a server of HTTP/2."""

    @pytest.fixture
    def pair(self, place: Place) -> Iterator[tuple[Client, str, H2Server]]:
        name, server = place.new()
        with place.by_old() as client:
            yield client, name, server

    def test_get(self, pair: tuple[Client, str, H2Server]) -> None:
        """Pseudo-fields are what the request line and `Host` said; what is about the connection stays here."""
        client, name, server = pair
        client.get("/a?b=c", host=name, fields="X-One: 1\r\nConnection: x-own\r\nX-Own: 1\r\nCookie: a=1\r\n")
        connection = server.accept()
        asked = connection.next_request()
        seen = connection.seen[asked]
        pseudo = [pair for pair in seen.fields if pair[0].startswith(":")]
        assert pseudo == [(":method", "GET"), (":scheme", "http"), (":path", "/a?b=c"), (":authority", name)]
        assert (seen.get("x-one"), seen.get("cookie"), seen.get("x-own")) == ("1", "a=1", None)
        assert not {"host", "connection", "transfer-encoding"} & {name for name, _ in seen.fields}
        connection.answer(asked, 200, b"hi", [("x-two", "2")])
        answer = client.response()
        assert (answer.status, answer.body, answer.get("x-two")) == (200, b"hi", "2")
        assert answer.get("transfer-encoding") == "chunked"

    def test_post_of_known_length(self, pair: tuple[Client, str, H2Server]) -> None:
        """The length goes on, and so does the answer's."""
        client, name, server = pair
        client.get("/", host=name, method="POST", body=b"x" * 100_000)
        connection = server.accept()
        asked = connection.next_request()
        assert (connection.seen[asked].get("content-length"), len(connection.seen[asked].data)) == ("100000", 100_000)
        connection.answer(asked, 201, b"made", [("content-length", "4")])
        answer = client.response()
        assert (answer.status, answer.body, answer.get("content-length")) == (201, b"made", "4")

    def test_post_in_chunks_with_trailers_and_an_answer_with_trailers(self, pair: tuple[Client, str, H2Server]) -> None:
        """Both ways."""
        client, name, server = pair
        client.send(f"POST / HTTP/1.1\r\nHost: {name}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        client.send(b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n")
        connection = server.accept()
        asked = connection.next_request()
        seen = connection.seen[asked]
        assert (bytes(seen.data), seen.trailers, seen.get("te")) == (b"hello", [("x-sum", "7")], "trailers")
        connection.answer(asked, 200, b"answer", trailers=[("x-end", "8")])
        answer = client.response()
        assert (answer.body, answer.trailers) == (b"answer", [("x-end", "8")])

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_answers_without_content(self, pair: tuple[Client, str, H2Server], method: str, status: int) -> None:
        """The connection goes on behind them; a length that is of something else is told."""
        client, name, server = pair
        client.get("/", host=name, method=method)
        connection = server.accept()
        fields = [("content-length", "5")] if status != 204 else []
        connection.answer(connection.next_request(), status, b"", fields)
        answer = client.response(method)
        assert (answer.status, answer.get("content-length")) == (status, "5" if status != 204 else None)
        client.get("/", host=name)
        connection.answer(connection.next_request(), 200, b"next")
        assert client.response().body == b"next"

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_content_where_there_may_be_none(
        self, pair: tuple[Client, str, H2Server], method: str, status: int
    ) -> None:
        """What a server sends behind such a head would be read as the next answer: nothing of it arrives."""
        client, name, server = pair
        client.get("/", host=name, method=method)
        connection = server.accept()
        asked = connection.next_request()
        connection.begin(asked, status)
        client.read_until(b"\r\n\r\n")
        connection.send(asked, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", is_end=True)
        assert client.read_to_end() == b""

    def test_hints_and_leave_to_go_on(self, pair: tuple[Client, str, H2Server]) -> None:
        """103 and 100 come as they are; behind 100 the content follows."""
        client, name, server = pair
        client.send(f"POST / HTTP/1.1\r\nHost: {name}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n".encode())
        connection = server.accept()
        asked = connection.next_request(is_whole=False)
        assert connection.seen[asked].get("expect") == "100-continue"
        connection.h2.send_headers(asked, [(":status", "103"), ("link", "</a.css>")])
        connection.h2.send_headers(asked, [(":status", "100")])
        connection.flush()
        hint = client.response()
        assert (hint.status, hint.get("link")) == (103, "</a.css>")
        assert client.response().status == 100
        client.send(b"body")
        connection.wait(lambda: connection.seen[asked].is_ended, "the content")
        connection.answer(asked, 200, bytes(connection.seen[asked].data))
        assert client.response().body == b"body"

    def test_an_answer_before_the_end_of_the_request(self, pair: tuple[Client, str, H2Server]) -> None:
        """It arrives; the server is told that the rest will not come."""
        client, name, server = pair
        client.send(f"POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: 1000\r\n\r\nsome".encode())
        connection = server.accept()
        asked = connection.next_request(is_whole=False)
        connection.answer(asked, 413, b"no")
        assert client.response().status == 413
        connection.wait(lambda: connection.seen[asked].reset is not None, "the reset")
        assert connection.seen[asked].reset in (ErrorCodes.CANCEL, ErrorCodes.NO_ERROR)

    def test_a_server_that_resets_before_its_answer(self, pair: tuple[Client, str, H2Server]) -> None:
        """The client has an answer of ours, and its connection."""
        client, name, server = pair
        client.get("/", host=name, method="POST", body=b"x")
        connection = server.accept()
        connection.reset(connection.next_request(), ErrorCodes.INTERNAL_ERROR)
        answer = client.response()
        assert (answer.status, b'"upstream_reset"' in answer.body) == (503, True)
        client.get("/", host=name)
        connection.answer(connection.next_request(), 200, b"next")
        assert client.response().body == b"next"

    def test_a_server_that_resets_in_its_answer(self, pair: tuple[Client, str, H2Server]) -> None:
        """The client can see that it is not whole."""
        client, name, server = pair
        client.get("/", host=name)
        connection = server.accept()
        asked = connection.next_request()
        connection.begin(asked)
        connection.send(asked, b"half")
        connection.reset(asked, ErrorCodes.INTERNAL_ERROR)
        with pytest.raises(CutError):
            client.response()

    def test_a_client_that_leaves(self, pair: tuple[Client, str, H2Server]) -> None:
        """The server's stream is cancelled, and others of its connection go on."""
        client, name, server = pair
        client.get("/", host=name)
        connection = server.accept()
        asked = connection.next_request()
        client.reset()
        connection.wait(lambda: connection.seen[asked].reset is not None, "the reset")
        assert connection.seen[asked].reset == ErrorCodes.CANCEL


class TestNewBeforeOld:
    """A client of HTTP/2, a server of HTTP/1.1."""

    @pytest.fixture
    def pair(self, place: Place) -> Iterator[tuple[H2Client, str, Upstream]]:
        name, server = place.old()
        with place.by_new() as client:
            yield client, name, server

    def test_get(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """The authority is its `Host`, crumbs of cookies are one field, and it has no body."""
        client, name, server = pair
        asked = client.ask("GET", "/a?b=c", [("cookie", "a=1"), ("cookie", "b=2"), ("x-one", "1")], authority=name)
        connection = server.accept()
        request = connection.request()
        assert request.start == "GET /a?b=c HTTP/1.1"
        assert (request.get("host"), request.get("cookie"), request.get("x-one")) == (name, "a=1; b=2", "1")
        assert (request.get("transfer-encoding"), request.get("content-length")) == (None, None)
        connection.answer(b"hi", fields="X-Two: 2\r\nConnection: x-own\r\nX-Own: 1\r\nKeep-Alive: timeout=9\r\n")
        answer = client.answered(asked)
        assert (answer.status, answer.data, answer.get("x-two"), answer.get("content-length")) == (200, b"hi", "2", "2")
        assert not {"x-own", "connection", "keep-alive"} & {name for name, _ in answer.fields}

    def test_post_of_known_length(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """As length."""
        client, name, server = pair
        asked = client.ask("POST", "/", [("content-length", "100000")], authority=name, body=b"x" * 100_000)
        request = server.accept().serve(b"made", status="201 Created")
        assert (request.get("content-length"), len(request.body), request.chunks) == ("100000", 100_000, None)
        assert client.answered(asked).status == 201

    def test_post_of_unknown_length_with_trailers(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """As chunks; trailers both ways."""
        client, name, server = pair
        asked = client.ask("POST", "/", [("te", "trailers")], authority=name, body=None)
        client.send(asked, b"hello", trailers=[("x-sum", "7")])
        connection = server.accept()
        request = connection.request()
        assert (request.body, request.trailers, request.get("te")) == (b"hello", [("x-sum", "7")], "trailers")
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-End: 8\r\n\r\n")
        answer = client.answered(asked)
        assert (answer.data, answer.trailers) == (b"hi", [("x-end", "8")])

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_answers_without_content(self, pair: tuple[H2Client, str, Upstream], method: str, status: int) -> None:
        """They end with their head."""
        client, name, server = pair
        asked = client.ask(method, "/", authority=name)
        connection = server.accept()
        connection.request()
        connection.send(f"HTTP/1.1 {status} x\r\n{'' if status == 204 else 'Content-Length: 5'}\r\n\r\n"[:-2].encode())
        connection.send(b"" if status == 204 else b"\r\n")
        answer = client.answered(asked)
        assert (answer.status, answer.data, answer.reset) == (status, b"", None)
        assert answer.get("content-length") == (None if status == 204 else "5")

    def test_content_that_ends_with_the_connection(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """Ends the stream."""
        client, name, server = pair
        asked = client.ask("GET", "/", authority=name)
        connection = server.accept()
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")
        connection.close()
        answer = client.answered(asked)
        assert (answer.data, answer.is_ended) == (b"to the end", True)

    def test_hints_and_leave_to_go_on(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """As they are."""
        client, name, server = pair
        fields = [("expect", "100-continue"), ("content-length", "4")]
        asked = client.ask("POST", "/", fields, authority=name, body=None)
        connection = server.accept()
        assert connection.head().get("expect") == "100-continue"
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        seen = client.seen[asked]
        client.wait(lambda: len(seen.interim) == 2, "both")
        assert [dict(one)[":status"] for one in seen.interim] == ["103", "100"]
        assert dict(seen.interim[0])["link"] == "</a.css>"
        client.send(asked, b"body", is_end=True)
        assert connection.read_exactly(4) == b"body"
        connection.answer(b"ok")
        assert client.answered(asked).data == b"ok"

    def test_an_answer_before_the_end_of_the_request(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """It is whole, and then the client is told that the rest is not wanted (RFC 9113, 8.1)."""
        client, name, server = pair
        asked = client.ask("POST", "/", authority=name, body=None)
        client.send(asked, b"some")
        connection = server.accept()
        connection.read_until(b"some\r\n")
        connection.answer(b"no", status="413 x")
        answer = client.answered(asked)
        assert (answer.status, answer.data) == (413, b"no")
        client.wait(lambda: answer.reset is not None, "the reset")
        assert answer.reset == ErrorCodes.NO_ERROR
        again = client.ask("GET", "/", authority=name)
        server.accept().serve(b"next")
        assert client.answered(again).data == b"next"

    def test_a_server_that_is_gone_in_its_answer(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """A reset, of this stream only."""
        client, name, server = pair
        asked, other = (client.ask("GET", "/", authority=name) for _ in range(2))
        first, second = server.accept(), server.accept()
        for one in (first, second):
            one.request()
        first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        first.close()
        second.answer(b"whole")
        answers = [client.answered(one) for one in (asked, other)]
        cut = next(one for one in answers if one.reset is not None)
        whole = next(one for one in answers if one.reset is None)
        assert (bytes(cut.data), cut.reset, bytes(whole.data)) == (b"half", ErrorCodes.INTERNAL_ERROR, b"whole")

    def test_a_client_that_resets(self, pair: tuple[H2Client, str, Upstream]) -> None:
        """Its server's connection is closed; the client's others go on."""
        client, name, server = pair
        asked = client.ask("GET", "/", authority=name)
        connection = server.accept()
        connection.request()
        client.reset(asked)
        assert connection.is_ended()
        again = client.ask("GET", "/", authority=name)
        server.accept().serve(b"next")
        assert client.answered(again).data == b"next"


@pytest.mark.long
class TestSlow:
    """Who does not read, holds who sends, and nothing grows."""

    def stalled(self, sock: socket.socket) -> int:
        """Octets that a socket takes until it has taken none for a second."""
        sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 4 * HELD_BYTES:
                sent += sock.send(bytes(65536))
        sock.settimeout(15.0)
        return sent

    def test_a_server_of_http2_holds_a_client_of_http2(self, place: Place) -> None:
        """By windows alone; others of both connections go on, and so does it when the server reads."""
        name, server = place.new()
        with place.by_new() as client:
            asked = client.ask("POST", "/", authority=name, body=None)
            connection = server.accept()
            connection.is_slow = True
            sent = client.send_all_there_is_room_for(asked)
            assert sent < HELD_BYTES
            other = client.ask("GET", "/", authority=name)
            first = connection.next_request(is_whole=False)
            connection.answer(connection.next_request(), 200, b"quick")
            assert client.answered(other).data == b"quick"
            connection.read_slowly()
            connection.wait(lambda: len(connection.seen[first].data) == sent, "all that was sent")

    def test_a_server_of_http2_holds_a_client_of_http1(self, place: Place) -> None:
        """By the client's socket."""
        name, server = place.new()
        with place.by_old() as client:
            client.send(f"POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
            connection = server.accept()
            connection.is_slow = True
            sent = self.stalled(client.sock)
            assert sent < HELD_BYTES
            first = connection.next_request(is_whole=False)
            connection.read_slowly()
            connection.wait(lambda: len(connection.seen[first].data) == sent, "all that was sent")

    def test_a_server_of_http1_holds_a_client_of_http2(self, place: Place) -> None:
        """By the stream's window; another stream goes on."""
        name, server = place.old()
        with place.by_new() as client:
            asked = client.ask("POST", "/", [("content-length", str(1 << 40))], authority=name, body=None)
            connection = server.accept()
            sent = client.send_all_there_is_room_for(asked)
            assert sent < HELD_BYTES
            other = client.ask("GET", "/", authority=name)
            server.accept().serve(b"quick")
            assert client.answered(other).data == b"quick"
            connection.head()
            connection.read_exactly(sent)

    def test_a_client_of_http2_holds_a_server_of_http2(self, place: Place) -> None:
        """As above, the other way."""
        name, server = place.new()
        with place.by_new() as client:
            client.is_slow = True
            asked = client.ask("GET", "/", authority=name)
            connection = server.accept()
            of_it = connection.next_request()
            connection.begin(of_it)
            sent = connection.send_all_there_is_room_for(of_it)
            assert sent < HELD_BYTES
            client.wait(lambda: len(client.seen[asked].data) >= 65535, "a window of it")
            client.read_slowly()
            client.wait(lambda: len(client.seen[asked].data) == sent, "all that was sent")

    def test_a_client_of_http1_holds_a_server_of_http2(self, place: Place) -> None:
        """The client's socket is what is full."""
        name, server = place.new()
        with Client(place.sidecar.outbound_port, receive_buffer=65536) as client:
            client.get("/", host=name)
            connection = server.accept()
            of_it = connection.next_request()
            connection.begin(of_it, fields=[("content-length", str(1 << 40))])
            sent = connection.send_all_there_is_room_for(of_it)
            assert sent < HELD_BYTES
            client.head()
            client.read_exactly(sent)
            client.reset()  # whose end alone says only that it sends no more

    def test_a_client_of_http2_holds_a_server_of_http1(self, place: Place) -> None:
        """The server's socket is what is full."""
        name, server = place.old()
        with place.by_new() as client:
            client.is_slow = True
            asked = client.ask("GET", "/", authority=name)
            connection = server.accept()
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
            sent = self.stalled(connection.sock)
            assert sent < HELD_BYTES
            client.wait(lambda: len(client.seen[asked].data) >= 65535, "a window of it")
            client.read_slowly()
            client.wait(lambda: len(client.seen[asked].data) == sent, "all that was sent")
