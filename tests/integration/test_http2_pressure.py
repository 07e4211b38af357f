"""Servers of HTTP/2 that are slow, or say much at once: what is held meanwhile, and who is not hurt by it."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import pytest

from tests.support.certificates import Authority
from tests.support.h2_peer import H2Client, H2Server, H2ServerConnection
from tests.support.http2 import content
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.secure import Secure

MIB = 1024 * 1024
HELD_BYTES = 16 * MIB
"""More than windows and the kernel's buffers hold of what nobody reads."""
LARGE = 16 * MIB
MANY = 3000
"""Frames of an octet: many times what is told in one turn, and together less than one read."""


@dataclass
class Place:
    """
    A sidecar before servers in clear and by TLS; each test has one that nobody has used.

    Attributes:
        context: Of the latter.
    """

    sidecar: SidecarProcess
    clear: dict[str, H2Server]
    secure: dict[str, H2Server]
    context: ssl.SSLContext

    def client(self) -> H2Client:
        """A connection of its own."""
        return H2Client(self.sidecar.outbound_port)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all."""
    folder = tmp_path_factory.mktemp("pressure")
    root = Authority("root")
    (folder / "root.pem").write_bytes(root.pem)
    root.leaf(["localhost"]).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.set_alpn_protocols(["h2"])
    context.num_tickets = 0
    context.keylog_filename = str(folder / "secrets")
    with contextlib.ExitStack() as stack:
        clear = {f"web-{number}": stack.enter_context(H2Server()) for number in range(3)}
        clear["wide"] = stack.enter_context(H2Server(window=1 << 30))
        secure = {f"safe-{number}": stack.enter_context(H2Server()) for number in range(2)}
        lines = [f'{name}: {{endpoints: ["127.0.0.1:{one.port}"], protocol: http2}}' for name, one in clear.items()]
        tls = f"tls: {{server_name: localhost, trust: {folder}/root.pem}}"
        lines += [f'{name}: {{endpoints: ["127.0.0.1:{one.port}"], {tls}}}' for name, one in secure.items()]
        text = (
            'service: web\noutbound: {listen: "127.0.0.1:${OUTBOUND_PORT}"}\nupstreams:\n  ' + "\n  ".join(lines) + "\n"
        )
        sidecar = stack.enter_context(running_sidecar(folder, text))
        yield Place(sidecar, clear, secure, context)


@pytest.fixture
def server(place: Place) -> tuple[str, H2Server]:
    """In clear, and its name."""
    name = next(name for name in place.clear if name != "wide")
    return name, place.clear.pop(name)


@pytest.mark.long
class TestSlowServers:
    """One stream of a connection that many share, which its server does not read."""

    def test_others_on_the_connection_go_on_and_nothing_is_heaped_up(
        self, place: Place, server: tuple[str, H2Server]
    ) -> None:
        """The window of the stream is used up; when it is opened all comes, whole."""
        name, peer = server
        body = bytes(range(256)) * (LARGE // 256)
        with place.client() as large, place.client() as small:
            asked = large.ask("POST", "/", authority=name, body=None)
            connection = peer.accept()
            of_it = connection.next_request(is_whole=False)
            connection.is_slow = True
            connection.h2.increment_flow_control_window(
                MIB
            )  # of all streams, so that it is the stream's that is used up
            connection.flush()
            sent = large.send_all_there_is_room_for(asked)
            assert sent < HELD_BYTES
            before = place.sidecar.memory_kib()
            for number in range(100):
                other = small.ask("POST", f"/{number}", authority=name, body=b"x" * 100)
                connection.answer(connection.next_request(), 200, b"quick")
                assert small.answered(other).data == b"quick"
            assert place.sidecar.memory_kib() - before < 4 * 1024
            connection.read_slowly()
            rest = threading.Thread(target=large.send, args=(asked, body), kwargs={"is_end": True})
            rest.start()
            connection.wait(lambda: connection.seen[of_it].is_ended, "all of it")
            connection.answer(of_it, 200, b"whole")
            rest.join(20)
            assert sha256(connection.seen[of_it].data[sent:]).digest() == sha256(body).digest()
            assert large.answered(asked).data == b"whole"
            assert len(peer.accepted) == 1

    def test_one_that_reads_nothing_of_its_socket(self, place: Place) -> None:
        """Whatever its windows allow; what others ask meanwhile is there when it reads."""
        with place.client() as large, place.client() as small:
            asked = large.ask("POST", "/", authority="wide", body=None)
            connection = place.clear["wide"].accept()
            connection.h2.increment_flow_control_window(1 << 30)
            connection.flush()
            of_it = connection.next_request(is_whole=False)
            before = place.sidecar.memory_kib()
            sent = large.send_all_there_is_room_for(asked)
            assert 65535 < sent < HELD_BYTES
            others = [small.ask("POST", "/", authority="wide", body=b"x" * 1000) for _ in range(50)]
            assert place.sidecar.memory_kib() - before < 8 * 1024
            for _ in others:
                connection.answer(connection.next_request(), 200, b"late")
            assert [bytes(small.answered(one).data) for one in others] == [b"late"] * 50
            rest = threading.Thread(target=large.send, args=(asked, bytes(LARGE)), kwargs={"is_end": True})
            rest.start()
            connection.wait(lambda: connection.seen[of_it].is_ended, "all of it")
            connection.answer(of_it, 200, b"whole")
            rest.join(20)
            assert len(connection.seen[of_it].data) == sent + LARGE
            assert large.answered(asked).data == b"whole"


def pieces(connection: H2ServerConnection, *streams: int) -> bytes:
    """Heads of answers, and `MANY` octets of content for each stream, a frame each and in turns, to their ends."""
    for stream in streams:
        connection.h2.send_headers(stream, [(":status", "200")])
    frames = [content(stream, b"x") for _ in range(MANY // len(streams)) for stream in streams]
    return connection.h2.data_to_send() + b"".join([*frames, *[content(stream, ends=True) for stream in streams]])


class TestMuchAtOnce:
    """More frames in one read than are told in one turn of the loop."""

    def test_all_of_it_comes_and_the_connection_goes_on(self, place: Place, server: tuple[str, H2Server]) -> None:
        """Two answers that are interleaved by octets, and one behind them in the same read."""
        name, peer = server
        with place.client() as client:
            asked = [client.ask("GET", f"/{number}", authority=name) for number in range(3)]
            connection = peer.accept()
            first, second, third = (connection.next_request() for _ in asked)
            data = pieces(connection, first, second)
            connection.h2.send_headers(third, [(":status", "204")], end_stream=True)
            connection.sock.sendall(data + connection.h2.data_to_send())
            answers = [client.answered(one) for one in asked]
            assert [(one.status, len(one.data), one.reset) for one in answers] == [
                (200, MANY // 2, None), (200, MANY // 2, None), (204, 0, None),
            ]  # fmt: skip
            again = client.ask("GET", "/", authority=name)
            connection.sock.sendall(pieces(connection, connection.next_request()))
            assert len(client.answered(again).data) == MANY

    def test_what_came_before_the_end_of_its_connection_is_told(
        self, place: Place, server: tuple[str, H2Server]
    ) -> None:
        """The server closes behind its last frame: that is read when all before it is told."""
        name, peer = server
        with place.client() as client:
            asked = client.ask("GET", "/", authority=name)
            connection = peer.accept()
            connection.sock.sendall(pieces(connection, connection.next_request()))
            connection.sock.close()
            answer = client.answered(asked)
            assert (answer.status, len(answer.data), answer.reset) == (200, MANY, None)

    @pytest.mark.parametrize("is_notified", [True, False])
    def test_what_came_before_the_end_of_tls_is_told(self, place: Place, is_notified: bool) -> None:
        """The end is in the same read: by close_notify, or by a record that is none."""
        name, peer = place.secure.popitem()
        with place.client() as client:
            asked = client.ask("GET", "/", authority=name)
            sock = peer.accept_socket()
            with Secure(sock, place.context, is_server=True) as secure:
                connection = H2ServerConnection(_Socket(secure), is_client=False)  # type: ignore[arg-type]
                data = secure.sealed(pieces(connection, connection.next_request()))
                end = secure.sealed_end() if is_notified else b"\x17\x03\x03\x00\x20" + bytes(32)
                sock.sendall(data + end)
                answer = client.answered(asked)
                assert (answer.status, len(answer.data), answer.reset) == (200, MANY, None)


class _Socket:
    """What `H2Peer` wants of a socket, by TLS."""

    def __init__(self, secure: Secure) -> None:
        self._secure = secure

    def settimeout(self, seconds: float) -> None:
        self._secure.sock.settimeout(seconds)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        self._secure.sock.setsockopt(level, name, value)

    def sendall(self, data: bytes) -> None:
        self._secure.send(data)

    def recv(self, size: int) -> bytes:
        return self._secure.receive()

    def close(self) -> None:
        self._secure.sock.close()
