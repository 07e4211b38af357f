"""Connections of HTTP/2 to servers, shared by many requests: when more are opened, and what servers do to them."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from sidecar.http2.codes import Code
from tests.support.h2_peer import H2Client, H2Server, H2ServerConnection
from tests.support.http2 import content, reset
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wire import Client


@contextmanager
def before(directory: Path, server: H2Server, more: str = "") -> Iterator[SidecarProcess]:
    """A sidecar before a server that is called `web`."""
    text = f"""
        service: storefront
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["127.0.0.1:{server.port}"], protocol: http2{more}}}}}
        drain: {{timeout: 15s}}
    """
    with running_sidecar(directory, text) as sidecar:
        yield sidecar


@pytest.fixture
def server() -> Iterator[H2Server]:
    with H2Server() as one:
        yield one


@pytest.fixture
def sidecar(tmp_path: Path, server: H2Server) -> Iterator[SidecarProcess]:
    with before(tmp_path, server) as one:
        yield one


@pytest.fixture
def client(sidecar: SidecarProcess) -> Iterator[H2Client]:
    with H2Client(sidecar.outbound_port) as one:
        yield one


def begin(client: H2Client, server: H2Server) -> H2ServerConnection:
    """The server's connection, once a request of the client's has been answered by it."""
    asked = client.ask("GET", "/", authority="web")
    connection = server.accept()
    connection.answer(connection.next_request(), 200, b"ok")
    assert client.answered(asked).data == b"ok"
    return connection


class TestGoodbyes:
    """GOAWAY of a server (RFC 9113, 6.8) and refused streams (8.7): neither has looked at what is sent again."""

    @pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
    def test_what_it_did_not_look_at_goes_by_another_connection(
        self, client: H2Client, server: H2Server, code: ErrorCodes
    ) -> None:
        """Also a POST; what it did look at is answered on the old one, which is then closed."""
        connection = begin(client, server)
        asked = [client.ask("POST", f"/{number}", authority="web", body=b"%d" % number) for number in range(4)]
        streams = [connection.next_request() for _ in asked]
        connection.go_away(streams[1], code)
        other = server.accept()
        for _ in range(2):
            again = other.next_request()
            other.answer(again, 200, b"again " + bytes(other.seen[again].data))
        for stream in streams[:2]:
            connection.answer(stream, 200, b"first " + bytes(connection.seen[stream].data))
        answers = [bytes(client.answered(one).data) for one in asked]
        assert answers == [b"first 0", b"first 1", b"again 2", b"again 3"]
        connection.wait(lambda: connection.is_closed, "the end")

    def test_what_is_asked_behind_it_goes_by_another_connection(self, client: H2Client, server: H2Server) -> None:
        """The server counts on nothing more."""
        connection = begin(client, server)
        connection.go_away(1)
        asked = client.ask("POST", "/", authority="web", body=b"x")
        other = server.accept()
        other.answer(other.next_request(), 200, b"elsewhere")
        assert client.answered(asked).data == b"elsewhere"

    def test_a_goodbye_in_two_steps(self, client: H2Client, server: H2Server) -> None:
        """The first says that no stream is too late yet, and the second which was."""
        connection = begin(client, server)
        asked = client.ask("POST", "/", authority="web", body=b"x")
        stream = connection.next_request()
        connection.go_away((1 << 31) - 1)
        connection.go_away(stream)
        connection.answer(stream, 200, b"whole")
        assert client.answered(asked).data == b"whole"

    def test_a_refused_stream_is_asked_again(self, sidecar: SidecarProcess, client: H2Client, server: H2Server) -> None:
        """Also a POST; the log says so."""
        connection = begin(client, server)
        asked = client.ask("POST", "/", authority="web", body=b"x")
        connection.reset(connection.next_request(), ErrorCodes.REFUSED_STREAM)
        again = connection.next_request()
        connection.answer(again, 200, bytes(connection.seen[again].data))
        assert client.answered(asked).data == b"x"
        line = sidecar.wait_for_log_lines(2)[-1]
        assert (line["response_code"], line["attempts"]) == (200, 2)

    def test_a_stream_that_is_reset_for_anything_else_is_not(self, client: H2Client, server: H2Server) -> None:
        """It may have been looked at."""
        connection = begin(client, server)
        asked = client.ask("POST", "/", authority="web", body=b"x")
        connection.reset(connection.next_request(), ErrorCodes.CANCEL)
        answer = client.answered(asked)
        assert (answer.status, b"upstream_reset" in answer.data) == (503, True)

    def test_a_connection_that_is_closed_idle_is_missed_by_nobody(self, client: H2Client, server: H2Server) -> None:
        """The next request has another, also a POST."""
        connection = begin(client, server)
        connection.sock.close()
        asked = client.ask("POST", "/", authority="web", body=b"x")
        other = server.accept()
        other.answer(other.next_request(), 200, b"ok")
        assert client.answered(asked).data == b"ok"


class TestRoom:
    """As many streams as the server allows, and then another connection."""

    def test_another_connection_is_opened_under_pressure(self, tmp_path: Path) -> None:
        """When one has as many as its server allows."""
        with (
            H2Server(max_streams=3) as server,
            before(tmp_path, server) as sidecar,
            H2Client(sidecar.outbound_port) as client,
        ):
            first = begin(client, server)
            asked = [client.ask("GET", f"/{number}", authority="web") for number in range(5)]
            second = server.accept()
            for connection, count in ((second, 2), (first, 3)):
                for stream in [connection.next_request() for _ in range(count)]:
                    connection.answer(stream, 200, b"ok")
            assert [bytes(client.answered(one).data) for one in asked] == [b"ok"] * 5

    def test_who_waits_has_the_next_place(self, tmp_path: Path) -> None:
        """Where no more connections may be opened."""
        with (
            H2Server(max_streams=1) as server,
            before(tmp_path, server, ", circuit_breaker: {max_connections: 1}") as sidecar,
            H2Client(sidecar.outbound_port) as client,
        ):
            connection = begin(client, server)
            asked = [client.ask("GET", f"/{number}", authority="web") for number in range(5)]
            for _ in asked:
                stream = connection.next_request()
                connection.answer(stream, 200, str(connection.seen[stream].get(":path")).encode())
            assert [bytes(client.answered(one).data) for one in asked] == [b"/%d" % number for number in range(5)]
            assert len(server.accepted) == 1


class TestTheEnd:
    """SIGTERM, in two steps for clients of HTTP/2 (RFC 9113, 6.8)."""

    def test_running_streams_end_and_late_ones_are_taken_until_the_client_has_heard(
        self, sidecar: SidecarProcess, client: H2Client, server: H2Server
    ) -> None:
        """The first GOAWAY names no last stream; the second does, when the client has answered."""
        connection = begin(client, server)
        asked = client.ask("POST", "/", authority="web", body=b"slow")
        stream = connection.next_request()
        sidecar.signal(signal.SIGTERM)
        client.wait(lambda: client.goaway is not None, "a goodbye")
        client.wait(lambda: client.goaway is not None and client.goaway[1] < 1 << 30, "the second")
        assert client.goaway == (0, asked)
        assert client.seen[asked].status == 0
        connection.answer(stream, 200, b"at last")
        assert client.answered(asked).data == b"at last"
        client.wait(lambda: client.is_closed, "the end")
        assert sidecar.wait() == 0

    def test_an_idle_connection_is_closed_at_once(
        self, sidecar: SidecarProcess, client: H2Client, server: H2Server
    ) -> None:
        """By a goodbye, and the server's with one of its own."""
        connection = begin(client, server)
        sidecar.signal(signal.SIGTERM)
        client.wait(lambda: client.is_closed, "the end")
        assert client.goaway is not None
        connection.wait(lambda: connection.is_closed, "the end")
        assert connection.goaway == (0, 0)
        assert sidecar.wait() == 0

    def test_clients_of_http1_end_beside_them(
        self, sidecar: SidecarProcess, client: H2Client, server: H2Server
    ) -> None:
        """What is running of either is answered."""
        connection = begin(client, server)
        with Client(sidecar.outbound_port) as old:
            old.get("/old", host="web")
            stream = connection.next_request()
            sidecar.signal(signal.SIGTERM)
            client.wait(lambda: client.is_closed, "the end")
            connection.answer(stream, 200, b"old")
            answer = old.response()
            assert answer.body == b"old"
            assert old.is_ended()
        assert sidecar.wait() == 0


class TestHeads:
    """How large the head of a response may be: what `limits` says, as of HTTP/1.1."""

    def test_what_the_file_allows_holds_and_is_told_to_the_server(self, tmp_path: Path) -> None:
        """Above what is allowed by default; a reload holds for what is asked after it, on the same connection."""
        large = [("x-large", "x" * 90_000)]
        many = [(f"x-{number}", "") for number in range(300)]
        limits = "\nlimits: {max_header_bytes: %s, max_headers: %d}\n"
        with H2Server() as server:
            text = textwrap.dedent(f"""
                service: storefront
                outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
                upstreams: {{web: {{endpoints: ["127.0.0.1:{server.port}"], protocol: http2}}}}
            """)
            with (
                running_sidecar(tmp_path, text + limits % ("100KiB", 310)) as sidecar,
                H2Client(sidecar.outbound_port) as client,
            ):
                client.h2.decoder.max_header_list_size = 200_000
                connection: H2ServerConnection | None = None

                def answer(fields: list[tuple[str, str]]) -> int:
                    nonlocal connection
                    asked = client.ask("GET", "/", authority="web")
                    connection = connection or server.accept()
                    connection.answer(connection.next_request(), 200, b"ok", fields)
                    return client.answered(asked).status

                assert [answer(large), answer(many)] == [200, 200]
                assert connection is not None
                assert connection.h2.remote_settings.max_header_list_size == 100 * 1024
                sidecar.rewrite(text + limits % ("64KiB", 10))
                sidecar.wait_for_generation(2)
                assert [answer(large), answer(many), answer([("x-few", "x")])] == [502, 502, 200]
                assert connection.h2.remote_settings.max_header_list_size == 64 * 1024
                assert len(server.accepted) == 1
                lines = sidecar.wait_for_log_lines(5)
            assert [line["response_code_details"] for line in lines].count("response_head_too_large") == 2

    def test_one_that_is_too_large_is_no_loss_to_others_on_its_connection(
        self, client: H2Client, server: H2Server
    ) -> None:
        """They share it: 502 for its own request alone."""
        connection = begin(client, server)
        waiting, asked = client.ask("GET", "/slow", authority="web"), client.ask("GET", "/large", authority="web")
        slow, large = connection.next_request(), connection.next_request()
        connection.answer(large, 200, b"ok", [("x-large", "x" * 90_000)])
        answer = client.answered(asked)
        assert (answer.status, b"response_head_too_large" in answer.data) == (502, True)
        connection.answer(slow, 200, b"ok")
        assert client.answered(waiting).data == b"ok"


class TestCuts:
    """What a server says before it gives a stream up, in one read with that, to clients of HTTP/1.1."""

    @staticmethod
    def last_word(stream: int) -> bytes:
        """A piece of content, and a reset."""
        return content(stream, b"last word") + reset(stream, Code.CONNECT_ERROR)

    def test_a_tunnel(self, tmp_path: Path) -> None:
        """As Envoy ends a WebSocket: its closing word is the client's before the end is."""
        with (
            H2Server(takes_tunnels=True) as server,
            before(tmp_path, server) as sidecar,
            Client(sidecar.outbound_port) as client,
        ):
            wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            client.send(b"GET / HTTP/1.1\r\nHost: web\r\n%b\r\n" % wish)
            connection = server.accept()
            stream = connection.next_request(is_whole=False)
            connection.begin(stream, 200)
            assert client.head().start.startswith("HTTP/1.1 101 ")
            connection.sock.sendall(self.last_word(stream))
            assert client.read_exactly(9) == b"last word"
            with pytest.raises(ConnectionResetError):
                client.sock.recv(1)

    def test_a_response(self, tmp_path: Path, sidecar: SidecarProcess, server: H2Server) -> None:
        """Its content is cut behind that."""
        with Client(sidecar.outbound_port) as client:
            client.get("/", host="web")
            connection = server.accept()
            stream = connection.next_request()
            connection.begin(stream, 200)
            client.head()
            connection.sock.sendall(self.last_word(stream))
            assert client.read_exactly(14) == b"9\r\nlast word\r\n"
            assert client.sock.recv(1) == b""
