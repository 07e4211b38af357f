"""Envoy before the sidecar, behind it, and on both sides, all by HTTP/2: gRPC and what is not."""

from __future__ import annotations

import itertools
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import httpx
import pytest
from h2.errors import ErrorCodes
from websockets.sync.client import connect

from tests.support import envoy as peer
from tests.support.envoy import Envoy
from tests.support.grpc_service import Calls, Channel, channel
from tests.support.h2_peer import H2Client, H2Server
from tests.support.origin import Origin, large
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.web_app import WebApp

pytestmark = pytest.mark.long

MIB = 1024 * 1024
WAYS = ("before", "behind", "around")
BRIEF = {"max_requests_per_connection": 7}
"""Each of Envoy's connections ends by GOAWAY after so many requests, on either side."""
AGED = {"max_connection_duration": "0.3s"}
_numbers = itertools.count()


def fresh() -> str:
    """A name for a call."""
    return f"call-{next(_numbers)}"


@dataclass
class Place:
    """
    The sidecar, with Envoy around it, and who is behind them.

    Attributes:
        ports: Of Envoy, by name.
        by_hand: Behind Envoy, for the test to play.
    """

    folder: Path
    sidecar: SidecarProcess
    envoy: Envoy
    calls: Calls
    app: Origin
    by_hand: H2Server
    ports: dict[str, int]

    def way(self, name: str, to: str = "calls") -> tuple[int, str]:
        """
        The port that a client asks, and the authority that it names.

        Args:
            name: Of `WAYS`, or `brief` or `aged`: around, and connections end often.
            to: `calls`, `app`, `by-hand` or `chat`.
        """
        if name == "before":
            return self.ports["front"], to
        if name == "behind":
            return self.sidecar.outbound_port, f"{to}-by-envoy"
        if name == "around":
            return self.ports["front"], f"{to}-by-envoy"
        return self.ports[f"front-{name}"], f"{to}-by-{name}"

    def channel(self, name: str) -> Iterator[Channel]:
        """A client of gRPC."""
        port, authority = self.way(name)
        with channel(port, authority) as one:
            yield one


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all."""
    folder = tmp_path_factory.mktemp("envoy")
    peer.program()
    names = ["calls", "app", "by-hand", "chat"]
    ends = {"envoy": None, "brief": BRIEF, "aged": AGED}
    fronts = ["front", "front-brief", "front-aged"]
    ports = {name: free_port() for name in [*fronts, *(f"{name}-{end}" for name in names for end in ends)]}
    with Calls() as calls, Origin("app") as app, H2Server() as by_hand, WebApp() as chat:
        lines = [
            f'  {name}-by-{end}: {{endpoints: ["127.0.0.1:{ports[f"{name}-{end}"]}"], protocol: http2}}'
            for name in names
            for end in ends
        ]
        text = "\n".join(
            [
                "service: storefront",
                'outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}"}',
                "upstreams:",
                f'  calls: {{endpoints: ["127.0.0.1:{calls.port}"]}}',
                f'  app: {{endpoints: ["127.0.0.1:{app.port}"]}}',
                f'  chat: {{endpoints: ["127.0.0.1:{chat.port}"]}}',
                f'  by-hand: {{endpoints: ["127.0.0.1:{by_hand.port}"], protocol: http2}}',
                *lines,
            ]
        )
        old = [peer.cluster("app", [app.port]), peer.cluster("chat", [chat.port])]
        for one_of_http1 in old:
            del one_of_http1["typed_extension_protocol_options"]
        with running_sidecar(folder / "sidecar", text) as sidecar:
            common = {"front": None, "front-brief": BRIEF, "front-aged": AGED}
            drained: dict[str, object] = {"drain_timeout": "0.1s"}
            listeners = [
                *(peer.listener(name, ports[name], f"to-{name}") for name in fronts),
                *(
                    peer.listener(f"{name}-{end}", ports[f"{name}-{end}"], name, ends[end], drained)
                    for name in names
                    for end in ends
                ),
            ]
            clusters = [
                *(peer.cluster(f"to-{name}", [sidecar.outbound_port], common[name]) for name in fronts),
                peer.cluster("calls", [calls.port]),
                *old,
                peer.cluster("by-hand", [by_hand.port]),
            ]
            with peer.envoy(folder, listeners, clusters) as one:
                yield Place(folder, sidecar, one, calls, app, by_hand, ports)


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, place: Place) -> Iterator[Channel]:
    """A channel each way."""
    yield from place.channel(request.param)


class TestCalls:
    """gRPC each way."""

    def test_all_four_kinds(self, client: Channel) -> None:
        """Unary, either side streaming, both in turns."""
        assert client.unary("Echo", b"word") == b"word"
        join = client.method("stream_unary", "Join")
        assert join(iter([b"a", b"b", b"c"]), timeout=20) == b"abc"
        assert list(client.method("unary_stream", "Count")(b"100", timeout=20)) == [b"%d" % n for n in range(100)]
        words: queue.Queue[bytes | None] = queue.Queue()
        talk = client.method("stream_stream", "Talk")(iter(words.get, None), timeout=20)
        for word in (b"one", b"two"):
            words.put(word)
            assert next(talk) == word.upper()
        words.put(None)
        assert list(talk) == []

    def test_metadata_and_trailers(self, client: Channel) -> None:
        """Before and behind the message, binary too."""
        given = [("x-call", fresh()), ("x-some-bin", b"\x00\xff")]
        answer, call = client.method("unary_unary", "Echo").with_call(b"", timeout=20, metadata=given)
        assert answer == b""
        assert {f"head-{key}" for key, _ in given} <= {key for key, _ in call.initial_metadata()}
        assert {(f"end-{key}", value) for key, value in given} <= set(call.trailing_metadata())

    def test_errors_alone_and_behind_messages(self, client: Channel) -> None:
        """As the server said them."""
        with pytest.raises(grpc.RpcError) as caught:
            client.unary("Fail", b"not now: 100 %")
        assert (caught.value.code(), caught.value.details()) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "not now: 100 %",
        )
        assert ("x-why-bin", b"\x00\xff why") in caught.value.trailing_metadata()
        late = client.method("unary_stream", "FailLate")(b"x", timeout=20)
        assert next(late) == b"x"
        with pytest.raises(grpc.RpcError):
            next(late)
        assert late.code() is grpc.StatusCode.DATA_LOSS

    def test_a_client_that_cancels_is_heard_by_the_server(self, place: Place, client: Channel) -> None:
        """RST_STREAM goes through; the connection stays."""
        name = fresh()
        drip = client.method("unary_stream", "Drip")(b"x", timeout=20, metadata=[("x-call", name)])
        assert next(drip) == b"x"
        drip.cancel()
        assert place.calls.seen(name).is_over.wait(20)
        assert client.unary("Echo", b"next") == b"next"

    def test_a_call_that_is_too_slow_ends_for_both(self, place: Place, client: Channel) -> None:
        """By its own deadline."""
        name = fresh()
        with pytest.raises(grpc.RpcError) as caught:
            client.method("unary_unary", "Wait")(b"", timeout=0.3, metadata=[("x-call", name)])
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert place.calls.seen(name).is_over.wait(20)

    @pytest.mark.parametrize("size", [16 * MIB, 65535])
    def test_large_messages_both_ways(self, client: Channel, size: int) -> None:
        """Against the windows of all who are between."""
        message = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
        assert client.unary("Echo", message) == message

    def test_a_slow_stream_and_others_beside_it(self, client: Channel) -> None:
        """What one client does not read holds up none of its other calls."""
        slow = client.method("stream_stream", "Talk")(iter([b"x" * MIB] * 8), timeout=20)
        assert next(slow) == b"X" * MIB
        for _ in range(20):
            assert client.unary("Echo", b"y" * 100_000) == b"y" * 100_000
        assert sum(len(answer) for answer in slow) == 7 * MIB


class TestPlain:
    """Requests that are no gRPC, each way; the app behind is of HTTP/1.1."""

    @pytest.fixture(params=WAYS)
    def web(self, request: pytest.FixtureRequest, place: Place) -> Iterator[tuple[httpx.Client, str]]:
        port, host = place.way(request.param, "app")
        with httpx.Client(
            http1=False, http2=True, trust_env=False, base_url=f"http://127.0.0.1:{port}", headers={"host": host}
        ) as one:
            yield one, host

    def test_bodies_heads_and_answers_without_content(self, web: tuple[httpx.Client, str]) -> None:
        """A GET, a HEAD, 16 MiB up, three down."""
        client, _ = web
        assert client.get("/").text == "app"
        head = client.head("/large/a")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "3000000", b"")
        body = bytes(range(256)) * (16 * MIB // 256)
        assert client.post("/digest", content=body).text == sha256(body).hexdigest()
        assert client.get("/large/b").content == large("b")

    def test_a_hundred_at_once(self, web: tuple[httpx.Client, str]) -> None:
        """On one connection."""
        client, _ = web
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda number: client.get(f"/{number}").status_code, range(100)))
        assert answers == [200] * 100

    @pytest.mark.parametrize("way", WAYS)
    def test_a_websocket(self, place: Place, way: str) -> None:
        """Between Envoy and the sidecar an extended CONNECT, whichever of them asks; at both ends an upgrade."""
        port, host = place.way(way, "chat")
        sock = socket.create_connection(("127.0.0.1", port), 15)
        with connect(f"ws://{host}/echo", sock=sock, proxy=None, max_size=4 * MIB) as client:
            for message in ("word", b"", bytes(MIB)):
                client.send(message)
                assert client.recv(timeout=15) == message
        assert client.close_code == 1000
        lines = eventually(
            lambda: [one for one in place.sidecar.access_log() if one["path"] == "/echo" and one["authority"] == host],
            "its line",
        )
        assert {one["response_code"] for one in lines} == {101}


class TestByHand:
    """What servers do, each way: resets, and content that nobody reads."""

    @pytest.fixture(params=WAYS)
    def pair(self, request: pytest.FixtureRequest, place: Place) -> Iterator[tuple[H2Client, str]]:
        port, authority = place.way(request.param, "by-hand")
        with H2Client(port) as one:
            yield one, authority

    def test_a_server_that_resets_in_its_answer(self, place: Place, pair: tuple[H2Client, str]) -> None:
        """The client's stream is reset, its connection is not."""
        client, authority = pair
        asked = client.ask("GET", "/", authority=authority)
        connection = place.by_hand.accept()
        stream = connection.next_request()
        connection.begin(stream, 200)
        connection.send(stream, b"part")
        client.wait(lambda: bytes(client.seen[asked].data) == b"part", "what came")
        connection.reset(stream, ErrorCodes.INTERNAL_ERROR)
        assert client.answered(asked).reset is not None
        again = client.ask("GET", "/", authority=authority)
        connection.answer(connection.next_request(), 200, b"ok")
        assert client.answered(again).data == b"ok"
        connection.sock.close()

    def test_a_client_that_resets_in_its_request(self, place: Place, pair: tuple[H2Client, str]) -> None:
        """The server's stream is reset."""
        client, authority = pair
        asked = client.ask("POST", "/", authority=authority, body=None)
        client.send(asked, b"part")
        connection = place.by_hand.accept()
        stream = connection.next_request(is_whole=False)
        connection.wait(lambda: bytes(connection.seen[stream].data) == b"part", "what came")
        client.reset(asked)
        connection.wait(lambda: connection.seen[stream].reset is not None, "the reset")
        connection.sock.close()

    def test_trailers_of_a_request(self, place: Place, pair: tuple[H2Client, str]) -> None:
        """And of the answer, early hints before it."""
        client, authority = pair
        asked = client.ask("POST", "/", authority=authority, body=None)
        client.send(asked, b"part", trailers=[("x-sum", "1")])
        connection = place.by_hand.accept()
        stream = connection.next_request()
        assert connection.seen[stream].trailers == [("x-sum", "1")]
        connection.answer(stream, 200, b"ok", trailers=[("x-sum", "2")])
        answer = client.answered(asked)
        assert (answer.data, answer.trailers) == (b"ok", [("x-sum", "2")])
        connection.sock.close()

    def test_what_nobody_reads_is_not_asked_for(self, place: Place, pair: tuple[H2Client, str]) -> None:
        """The server is held when the client is, and goes on with it, whole."""
        client, authority = pair
        client.is_slow = True
        asked = client.ask("GET", "/", authority=authority)
        connection = place.by_hand.accept()
        stream = connection.next_request()
        connection.begin(stream, 200)
        sent = connection.send_all_there_is_room_for(stream)
        assert sent < 8 * MIB
        rest = threading.Thread(target=connection.send, args=(stream, bytes(MIB)), kwargs={"is_end": True})
        rest.start()
        client.wait(lambda: len(client.seen[asked].data) >= 65535, "the window")
        client.read_slowly()
        answer = client.answered(asked)
        rest.join(20)
        assert (len(answer.data), answer.reset) == (sent + MIB, None)
        connection.sock.close()


class TestGoodbyes:
    """Connections that Envoy ends by GOAWAY, on either side of the sidecar."""

    @pytest.mark.parametrize("name", ["brief", "aged"])
    def test_no_call_is_lost(self, place: Place, name: str) -> None:
        """Neither short ones, nor streams that are longer than their connection is to be."""
        port, authority = place.way(name)
        before = place.envoy.counts()
        with channel(port, authority) as client:
            talking = threading.Event()

            def talk(number: int) -> list[bytes]:
                def words() -> Iterator[bytes]:
                    yield b"first"
                    talking.wait(20)
                    yield b"last"

                return list(client.method("stream_stream", "Talk")(words(), timeout=30))

            def ask(number: int) -> bytes:
                return client.unary("Echo", b"%d" % number)

            with ThreadPoolExecutor(16) as pool:
                talks = [pool.submit(talk, number) for number in range(4)]
                answers = list(pool.map(ask, range(1500)))
                talking.set()
                assert [one.result(30) for one in talks] == [[b"FIRST", b"LAST"]] * 4
        assert answers == [b"%d" % number for number in range(1500)]
        opened = {name_: count - before.get(name_, 0) for name_, count in place.envoy.counts().items()}
        assert opened[f"http.calls-{name}.downstream_cx_total"] > 2, "connections of the sidecar's have ended"
        assert opened[f"cluster.to-front-{name}.upstream_cx_total"] > 2, "connections to the sidecar have ended"

    def test_no_request_is_lost_when_envoy_drains(self, place: Place, tmp_path: Path) -> None:
        """It says GOAWAY to the sidecar, which goes by another connection."""
        port = free_port()
        common: dict[str, object] = {}
        with peer.envoy(
            tmp_path,
            [peer.listener("behind", port, "calls", common, {"drain_timeout": "0.2s"})],
            [peer.cluster("calls", [place.calls.port])],
        ) as one:
            text = f"""
                service: storefront
                outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
                upstreams: {{calls: {{endpoints: ["127.0.0.1:{port}"], protocol: http2}}}}
            """
            (tmp_path / "sidecar").mkdir()
            with (
                running_sidecar(tmp_path / "sidecar", text) as sidecar,
                channel(sidecar.outbound_port, "calls") as client,
            ):
                name = fresh()
                wait = client.method("unary_unary", "Wait").future(b"at last", timeout=30, metadata=[("x-call", name)])
                seen = place.calls.seen(name)
                one.drain()

                def is_elsewhere() -> bool:
                    for number in range(50):
                        assert client.unary("Echo", b"%d" % number) == b"%d" % number
                    return one.counts()["http.behind.downstream_cx_total"] > 1

                eventually(is_elsewhere, "another connection")
                seen.may_go_on.set()
                assert wait.result() == b"at last"

    def test_no_request_is_lost_when_the_sidecar_drains(self, place: Place, tmp_path: Path) -> None:
        """Envoy hears its GOAWAY and goes to another; what runs there ends in its own time."""
        text = f"""
            service: storefront
            inbound:
              listen: "127.0.0.1:${{INBOUND_PORT}}"
              app: {{address: "127.0.0.1:{place.calls.port}", protocol: http2}}
            drain: {{timeout: 15s, delay: 1s}}
        """
        (tmp_path / "first").mkdir()
        (tmp_path / "second").mkdir()
        port = free_port()
        with running_sidecar(tmp_path / "first", text) as first, running_sidecar(tmp_path / "second", text) as second:
            both = peer.cluster("both", [first.inbound_port, second.inbound_port])
            with peer.envoy(tmp_path, [peer.listener("front", port, "both")], [both]), channel(port) as client:
                for number in range(20):
                    assert client.unary("Echo", b"%d" % number) == b"%d" % number
                names = [fresh(), fresh()]
                waits = [
                    client.method("unary_unary", "Wait").future(b"at last", timeout=30, metadata=[("x-call", name)])
                    for name in names
                ]
                seen = [place.calls.seen(name) for name in names]
                first.signal(signal.SIGTERM)

                def is_draining() -> bool:
                    for number in range(50):
                        assert client.unary("Echo", b"%d" % number) == b"%d" % number
                    return not first.is_ready()

                eventually(is_draining, "the end to begin")
                for number in range(500):
                    assert client.unary("Echo", b"%d" % number) == b"%d" % number
                assert first.process is not None
                for one in seen:
                    one.may_go_on.set()
                assert [wait.result() for wait in waits] == [b"at last"] * 2
                assert first.wait() == 0
                assert client.unary("Echo", b"x") == b"x"
