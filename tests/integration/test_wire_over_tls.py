"""
The corpus of requests and responses over TLS: what arrives behind a real sidecar is what arrives in clear, octet for
octet, however records cut it. And what only TLS has: ends that are told and ends that are not.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.fakes import parse_responses
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.secure import ALERT, CLOSE_NOTIFY, Sealer, Secure, mutual
from tests.support.wait import free_port
from tests.support.wire import Client, CutError, Stream
from tests.wire.corpus import Case, cases, cuts, unescape
from tests.wire.independent import App, requests_seen

CATALOG, STOREFRONT, PAYMENTS = "spiffe://shop/catalog", "spiffe://shop/storefront", "spiffe://shop/payments"
MESH_HTTP = "sidecar-http/1.1"
WAYS = 4
"""Of cutting: whole, by line, by octet, and at random places."""
SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"

_NOISE = re.compile(
    rb"(?<=\r\n)(?:date|traceparent|x-request-id|x-forwarded-proto|x-forwarded-client-cert): [^\r\n]*\r\n"
    rb'|"(?:request_id|upstream|endpoint|route)": "[^"]*"'
)
ENDS = re.compile(rb"\r\n\r\nok|}\n")
"""Of what the app answers, and the sidecar."""
_TRIED = re.compile(rb'(?:, |"attempt": \d+)+(?="look_at")|content-length: \d+\r\n')
"""Of an answer to a body that turned out bad: whether its head was on its way by then."""


def noiseless(octets: bytes) -> bytes:
    """Without what differs from one request to the next, and what an app is told of TLS."""
    return _NOISE.sub(b"", octets)


Play = Callable[[Stream], bool]
"""What a server does with a request; true if that is its connection's end."""


class Scripted:
    """
    A server that answers each request with what the test has given it, but `/second` with `SECOND`.

    Attributes:
        port: Where it listens on 127.0.0.1.
        carried: For each request the number of its connection.
        sent: Set when all is sent that was given to it.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.carried: list[int] = []
        self.sent = threading.Event()
        self._context = context
        self._play: Play = lambda _: False
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def give(self, play: Play) -> None:
        """What to do with the next requests."""
        self.carried.clear()
        self.sent.clear()
        self._play = play

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(number, plain), daemon=True).start()

    def _serve(self, number: int, plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with plain, contextlib.suppress(OSError, CutError):
            stream = Stream(plain) if self._context is None else Secure(plain, self._context, is_server=True)
            plain.settimeout(None)
            is_over = False
            while not is_over:
                line = stream.read_until(b"\r\n\r\n").split(b"\r\n")[0]
                self.carried.append(number)
                if b" /second " in line:
                    stream.send(SECOND)
                    continue
                try:
                    is_over = self._play(stream)
                finally:
                    self.sent.set()


@dataclass
class Place:
    """
    Who is there.

    Attributes:
        sidecar: Takes mutual TLS and clear text on one port, TLS of clients outside on another.
        outside_port: That one.
        app: Behind it.
        servers: By the name of the upstream: `in-clear`, and by mutual TLS `over-tls` and `by-hand`.
        folder: For certificates.
    """

    sidecar: SidecarProcess
    outside_port: int
    app: App
    servers: dict[str, Scripted]
    folder: Path
    root: Authority
    mesh: ssl.SSLContext
    outside: ssl.SSLContext

    def in_clear(self) -> Stream:
        """To the permissive port."""
        return Client(self.sidecar.inbound_port)

    def as_sidecar(self, **options: bool) -> Secure:
        """To the same port, by mutual TLS."""
        return self._secure(self.sidecar.inbound_port, self.mesh, **options)

    def from_outside(self, **options: bool) -> Secure:
        """To the port for clients outside, whose certificates are asked for, too."""
        return self._secure(self.outside_port, self.outside, **options)

    def _secure(self, port: int, context: ssl.SSLContext, **options: bool) -> Secure:
        sock = socket.create_connection(("127.0.0.1", port), 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Secure(sock, context, **options)

    def ask(
        self, stream: Stream, pieces: Sequence[bytes], answers: int, *, at_once: bool = False
    ) -> tuple[bytes, list[bytes]]:
        """What a client receives that sends these and ends when it has so many answers, and what arrives at the app."""
        with stream:
            send(stream, pieces, at_once=at_once)
            received = heard(stream, lambda octets: len(ENDS.findall(octets)) == answers)
            assert not isinstance(stream, Secure) or not stream.is_cut, "expected a close_notify"
        return noiseless(received), [noiseless(one) for one in self.app.take()]

    def answered(self, upstream: str, play: Play, method: str = "GET", *, then: str = "") -> tuple[bytes, list[int]]:
        """What a client receives whose first request is answered so, and who asks again; and by which connections."""
        server = self.servers[upstream]
        server.give(play)
        with Client(self.sidecar.outbound_port) as client:
            client.get("/first", host=upstream, method=method)
            assert server.sent.wait(15), "expected the request"
            with contextlib.suppress(OSError):
                client.get("/second", host=then or upstream)
            received = heard(client, lambda octets: octets.endswith(b"second"))
        return noiseless(received), server.carried[:]


def heard(stream: Stream, is_all: Callable[[bytes], bool]) -> bytes:
    """All that comes; the client ends when that is all that it asked for, and hears the end."""
    received = b""
    while not is_all(received) and (more := stream.receive()):
        received += more
    with contextlib.suppress(OSError):
        stream.finish_sending()
    return received + stream.read_to_end()


def send(stream: Stream, pieces: Sequence[bytes], *, at_once: bool) -> None:
    """Each a record, all in one segment or each in its own; who is not heard out stops."""
    with contextlib.suppress(OSError):
        if at_once:
            stream.send(*pieces)
        else:
            for piece in pieces:
                stream.send(piece)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One sidecar for all."""
    folder = tmp_path_factory.mktemp("wire")
    root = Authority("shop root")
    own = folder / "catalog"
    mutual(own, root.workload(CATALOG), root, is_server=True)
    (folder / "root.pem").write_bytes(root.pem)
    root.leaf(["localhost"]).write(folder)

    def payments(name: str) -> Scripted:
        leaf = root.workload(PAYMENTS)
        return Scripted(mutual(folder / name, leaf, root, is_server=True, protocol=MESH_HTTP))

    servers = {"in-clear": Scripted(None), "over-tls": payments("over-tls"), "by-hand": payments("by-hand")}
    ports = {name: server.port for name, server in servers.items()}
    outside_port = free_port()
    with App() as app:
        text = f"""
            service: catalog
            identity: {{from: {{files: {{certificate: {own}/tls.crt, key: {own}/tls.key, trust: {folder}/root.pem}}}}}}
            inbound:
              app: "127.0.0.1:{app.port}"
              tls: permissive
              listen:
                - "127.0.0.1:${{INBOUND_PORT}}"
                - address: "127.0.0.1:{outside_port}"
                  name: outside
                  tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key, client_trust: {folder}/root.pem}}
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams:
              in-clear: {{endpoints: ["127.0.0.1:{ports["in-clear"]}"]}}
              over-tls: {{endpoints: ["127.0.0.1:{ports["over-tls"]}"], tls: {{identities: "{PAYMENTS}"}}}}
              by-hand: {{endpoints: ["127.0.0.1:{ports["by-hand"]}"], tls: {{identities: "{PAYMENTS}"}}}}
            limits: {{max_header_bytes: 8KiB, max_headers: 64, header_timeout: 60s}}
        """
        with running_sidecar(folder / "sidecar", text) as sidecar:
            leaf = root.workload(STOREFRONT)
            mesh = mutual(folder / "mesh", leaf, root, is_server=False, protocol=MESH_HTTP)
            outside = mutual(folder / "outside", leaf, root, is_server=False)
            yield Place(sidecar, outside_port, app, servers, folder, root, mesh, outside)
        assert not app.requests, "nothing arrives behind an answer"
    for server in servers.values():
        server.close()


# --- the corpus ----------------------------------------------------------------------------------------------


def statuses(octets: bytes) -> list[int]:
    """Of all responses in there."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", octets)]


@pytest.mark.parametrize(
    "case", [*cases("requests/valid"), *cases("requests/invalid")], ids=lambda case: f"{case.name}"
)
def test_request_is_judged_as_in_clear(place: Place, case: Case) -> None:
    """The same requests reach the app, and the same answers the client, however records cut them."""
    expected = [*case.requests("request"), *case.requests("before")]
    refused = [int(case.one("status"))] if "status" in case.expectations and not case.one("wait") else []
    answers = len(expected) + len(refused)
    reference = place.ask(place.in_clear(), [case.data], answers)
    assert [seen for octets in reference[1] for seen in requests_seen(octets)[0]] == expected
    assert statuses(reference[0]) == [200] * len(expected) + refused
    for number, (how, pieces) in enumerate(itertools.islice(cuts(case), WAYS)):
        secure = (place.as_sidecar, place.from_outside)[number % 2]
        found = place.ask(secure(), pieces, answers, at_once=number < 3)
        if case.one("reason") == "bad_request_body":
            found, reference = (_TRIED.sub(b"", found[0]), found[1]), (_TRIED.sub(b"", reference[0]), reference[1])
        assert found == reference, how


def played(case: Case, pieces: Sequence[bytes], *, at_once: bool) -> Play:
    """A response of the corpus."""

    def play(stream: Stream) -> bool:
        send(stream, pieces, at_once=at_once)
        if case.one("eof"):
            stream.finish_sending()
        return bool(case.one("eof"))

    return play


@pytest.mark.parametrize("case", cases("responses/valid"), ids=lambda case: f"{case.name}")
def test_valid_response_is_forwarded_as_in_clear(place: Place, case: Case) -> None:
    """Status and body as expected, the connection reused only where it is clean, and the next answer is its own."""
    method = case.one("method", "GET")
    reference, _ = place.answered("in-clear", played(case, [case.data], at_once=True), method)
    numbers, body = case.one("response").split(" ")
    expected = [102] * 100 + [200] if numbers.startswith("*100") else [int(number) for number in numbers.split(",")]
    methods = [*[method.encode()] * len(expected), b"GET"]
    found = parse_responses(reference, methods)
    assert [one.status for one in found] == [*expected, 200]
    assert (found[-2].body, found[-1].body) == (b"" if body == "-" else unescape(body), b"second")
    for number, (how, pieces) in enumerate(itertools.islice(cuts(case), WAYS)):
        received, carried = place.answered("over-tls", played(case, pieces, at_once=number % 2 == 0), method)
        # A body that ends by closing goes on in chunks as it comes.
        assert parse_responses(received, methods) == found, how
        assert (carried[0] == carried[1]) == (case.one("reused", "yes") == "yes"), how


@pytest.mark.parametrize("case", cases("responses/invalid"), ids=lambda case: f"{case.name}")
def test_invalid_response_is_502_or_cut_as_in_clear(place: Place, case: Case) -> None:
    """Nothing of it reaches the client as a whole response, and its connection is never used again."""
    reference, _ = place.answered("in-clear", played(case, [case.data], at_once=True))
    for number, (how, pieces) in enumerate(itertools.islice(cuts(case), WAYS)):
        received, carried = place.answered("over-tls", played(case, pieces, at_once=number % 2 == 0))
        assert b"EVIL" not in received, how
        if case.one("body") and received.startswith(b"HTTP/1.1 200 "):
            # The head was good and on its way: all that is left is not to let it look complete.
            assert not received.endswith(b"0\r\n\r\n"), how
            assert b"second" not in received, how
        else:
            assert [status for status in statuses(received) if status >= 200] == [502, 200], how
            assert received.endswith(b"\r\n\r\nsecond"), how
            assert carried[0] != carried[1], how
            if reference.endswith(b"second"):
                assert received == reference, how


# --- ends ----------------------------------------------------------------------------------------------------

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
OF_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
LAST = b"0\r\n\r\n"


def judge_hello(received: bytes, *, is_whole: bool) -> None:
    """Of a client that was answered `hello`, or only a part of it that it can tell from the whole."""
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    if is_whole:
        first, second = parse_responses(received)
        assert (first.body, second.body) == (b"hello", b"second")
    else:
        (first,) = parse_responses(received, is_closed=True)
        assert not first.is_complete


@pytest.mark.parametrize("says_so", [True, False], ids=["close_notify", "cut"])
@pytest.mark.parametrize(
    ("response", "needs_end", "is_whole"),
    [
        (UNTIL_CLOSE, True, True), (OF_LENGTH % 5, False, True), (CHUNKED + LAST, False, True),
        (OF_LENGTH % 6, False, False), (CHUNKED, False, False), (CHUNKED + b"0\r\n", False, False),
    ],
)  # fmt: skip
def test_truncation_of_a_response_is_not_its_end(
    place: Place, response: bytes, needs_end: bool, is_whole: bool, says_so: bool
) -> None:
    """A body that ends by closing ends by close_notify; one that has an end of its own needs none."""

    def play(stream: Stream) -> bool:
        assert isinstance(stream, Secure)
        stream.send(response)
        if says_so:
            stream.finish_sending()
        else:
            stream.cut()
        return True

    received, _ = place.answered("over-tls", play)
    judge_hello(received, is_whole=is_whole and (says_so or not needs_end))


BY_SEALER = {
    "behind close_notify": (lambda s: [s.seal(UNTIL_CLOSE), s.seal(CLOSE_NOTIFY, ALERT), s.seal(b"EVIL")], True),
    "behind close_notify, of length": (
        lambda s: [s.seal(OF_LENGTH % 5), s.seal(CLOSE_NOTIFY, ALERT), s.seal(OF_LENGTH % 5)], True,
    ),
    "padded and empty": (
        lambda s: [s.seal(b""), s.seal(UNTIL_CLOSE[:9], padding=300), s.seal(b"", padding=9),
                   *(s.seal(UNTIL_CLOSE[at : at + 1], padding=at) for at in range(9, len(UNTIL_CLOSE))),
                   s.seal(b""), s.seal(CLOSE_NOTIFY, ALERT)], True,
    ),
    "fatal alert": (lambda s: [s.seal(UNTIL_CLOSE), s.seal(b"\x02\x14", ALERT)], False),
    "half an alert": (lambda s: [s.seal(UNTIL_CLOSE), s.seal(b"\x01", ALERT)], False),
    "alert by nobody": (lambda s: [s.seal(UNTIL_CLOSE), b"\x15\x03\x03\0\x02" + CLOSE_NOTIFY], False),
    "altered close_notify": (lambda s: [s.seal(UNTIL_CLOSE), s.seal(CLOSE_NOTIFY, ALERT)[:-1] + b"\0\0"], False),
    "half a close_notify": (lambda s: [s.seal(UNTIL_CLOSE), s.seal(CLOSE_NOTIFY, ALERT)[:-1]], False),
    "lost record": (lambda s: [s.seal(UNTIL_CLOSE), (s.seal(b"lost"), s.seal(CLOSE_NOTIFY, ALERT))[1]], False),
    "record twice": (lambda s: [s.seal(UNTIL_CLOSE)] + [s.seal(b"")] * 2 + [s.seal(CLOSE_NOTIFY, ALERT)], False),
}  # fmt: skip
Making = Callable[[Sealer], list[bytes]]


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
@pytest.mark.parametrize(("make", "is_whole"), BY_SEALER.values(), ids=BY_SEALER.keys())
def test_only_a_close_notify_of_the_server_is_an_end(place: Place, make: Making, is_whole: bool, at_once: bool) -> None:
    """What is behind it is not heard; what was altered, lost or put there by somebody on the way cuts."""

    def play(stream: Stream) -> bool:
        assert isinstance(stream, Secure)
        records = make(stream.sealer())
        for segment in [b"".join(records)] if at_once else records:
            with contextlib.suppress(OSError):
                stream.sock.sendall(segment)
        stream.cut()
        return True

    received, _ = place.answered("by-hand", play, then="in-clear")
    assert b"EVIL" not in received
    judge_hello(received, is_whole=is_whole)


ONE, TWO = (b"GET /%b HTTP/1.1\r\nHost: web\r\n\r\n" % name for name in (b"one", b"two"))
OURS = b"OPTIONS / HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
def test_what_a_client_sends_behind_its_end_is_not_heard(place: Place, at_once: bool) -> None:
    """One that was asked before is answered, and the answer ends in order."""
    with place.as_sidecar() as client:
        sealer = client.sealer()
        records = [sealer.seal(ONE), sealer.seal(CLOSE_NOTIFY, ALERT), sealer.seal(TWO)]
        for segment in [b"".join(records)] if at_once else records:
            with contextlib.suppress(OSError):
                client.sock.sendall(segment)
        received = client.read_to_end()
    assert statuses(received) == [200]
    assert [seen for octets in place.app.take() for seen in requests_seen(octets)[0]] == [(b"GET", b"/one", b"")]


@pytest.mark.parametrize("ends_socket", [False, True], ids=["close_notify", "and the socket"])
def test_half_closed_client_is_answered(place: Place, ends_socket: bool) -> None:
    """Whoever answers, also what it sent with the end of its handshake, in a crowd of others."""
    clients = [place.as_sidecar(holds_flight=True) for _ in range(12)]
    for client in clients:
        records = client.sealed(ONE, TWO, OURS) + client.sealed_end()
        client.sock.sendall(records)
        if ends_socket:
            client.cut()
    for client in clients:
        with client:
            assert statuses(client.read_to_end()) == [200, 200, 200]
            assert not client.is_cut
    assert len(place.app.take()) == 24


@pytest.mark.parametrize("says_so", [True, False], ids=["close_notify", "cut"])
@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ONE[:-2],
    ],
)
def test_truncation_of_a_request_is_not_its_end(place: Place, request_: bytes, says_so: bool) -> None:
    """It reaches the app as cut, or not at all, and is not answered."""
    with place.as_sidecar() as client:
        client.send(request_)
        if says_so:
            client.finish_sending()
        else:
            client.cut()
        assert not client.read_to_end()
    assert not place.app.take()
