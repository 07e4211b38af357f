"""Calls between a client and a server of grpcio, neither of which knows of what stands between them."""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support.certificates import Authority, identity_of
from tests.support.grpc_service import SERVICE, Calls, Channel, channel
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port

CATALOG, STOREFRONT = "spiffe://shop/catalog", "spiffe://shop/storefront"
MIB = 1024 * 1024
_numbers = itertools.count()


def fresh() -> str:
    """A name for a call."""
    return f"call-{next(_numbers)}"


@dataclass
class Place:
    """
    Two sidecars, before a server that they reach in clear and by TLS.

    Attributes:
        caller: Of who calls.
        callee: Of who is called: mutual TLS, and TLS for clients outside.
    """

    caller: SidecarProcess
    callee: SidecarProcess
    outside_port: int
    calls: Calls
    root: Authority

    def way(self, name: str) -> AbstractContextManager[Channel]:
        """A client's channel."""
        if name == "from-outside":
            return channel(self.outside_port, root_pem=self.root.pem)
        return channel(self.caller.outbound_port, name)


WAYS = ("in-clear", "over-tls", "catalog", "from-outside")
"""What the client's channel leads to: servers in clear and by TLS, the other sidecar by mutual TLS, and by TLS."""


def caller_text(folder: Path, calls: Calls, port: int, more: str = "") -> str:
    """The file of the one that calls."""
    return f"""
        service: storefront
        identity: {identity_of_file(folder)}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"{more}}}
        upstreams:
          in-clear: {{endpoints: ["127.0.0.1:{calls.port}"]}}
          over-tls:
            endpoints: ["127.0.0.1:{calls.secure_port}"]
            tls: {{server_name: localhost, trust: {folder}/root.pem}}
          catalog: {{endpoints: ["127.0.0.1:{port}"], tls: {{identities: "{CATALOG}"}}}}
    """


def identity_of_file(folder: Path) -> str:
    """Of the caller."""
    return (folder / "identity.json").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all."""
    folder = tmp_path_factory.mktemp("grpc")
    root = Authority("shop root")
    (folder / "root.pem").write_bytes(root.pem)
    root.leaf(["localhost"]).write(folder)
    own = identity_of(folder / "catalog", root.workload(CATALOG), root)
    (folder / "identity.json").write_text(identity_of(folder / "storefront", root.workload(STOREFRONT), root))
    outside_port = free_port()
    with Calls(root.leaf(["localhost"])) as calls:
        text = f"""
            service: catalog
            identity: {own}
            inbound:
              app: {{address: "127.0.0.1:{calls.port}", protocol: http2}}
              listen:
                - "127.0.0.1:${{INBOUND_PORT}}"
                - address: "127.0.0.1:{outside_port}"
                  name: outside
                  tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}
        """
        with (
            running_sidecar(folder / "callee", text) as callee,
            running_sidecar(folder / "caller", caller_text(folder, calls, callee.inbound_port)) as caller,
        ):
            yield Place(caller, callee, outside_port, calls, root)


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, place: Place) -> Iterator[Channel]:
    """A channel each way."""
    with place.way(request.param) as one:
        yield one


class TestKinds:
    """All four, each way."""

    def test_one_message_one_answer(self, client: Channel) -> None:
        """Again and again on one connection."""
        assert [client.unary("Echo", b"%d" % number) for number in range(20)] == [b"%d" % n for n in range(20)]

    def test_a_message_may_be_empty(self, client: Channel) -> None:
        """Of a call there are still five octets."""
        assert client.unary("Echo", b"") == b""

    def test_a_stream_of_messages_one_answer(self, client: Channel) -> None:
        """In order."""
        pieces = [b"%d," % number for number in range(500)]
        assert client.method("stream_unary", "Join")(iter(pieces), timeout=20) == b"".join(pieces)

    def test_one_message_a_stream_of_answers(self, client: Channel) -> None:
        """As reflection does, in order and to the end."""
        answers = list(client.method("unary_stream", "Count")(b"500", timeout=20))
        assert answers == [b"%d" % number for number in range(500)]
        assert list(client.method("unary_stream", "Count")(b"0", timeout=20)) == []

    def test_both_in_turns(self, client: Channel) -> None:
        """Each answer is there before the next is asked: nothing on the way waits for more."""
        words: queue.Queue[bytes | None] = queue.Queue()
        talk = client.method("stream_stream", "Talk")(iter(words.get, None), timeout=20)
        for word in (b"a", b"b" * 70_000, b"c"):
            words.put(word)
            assert next(talk) == word.upper()
        words.put(None)
        assert list(talk) == []
        assert talk.code() is grpc.StatusCode.OK


class TestMetadata:
    """Both ways, text and octets."""

    def test_of_requests_heads_and_trailers(self, place: Place, client: Channel) -> None:
        """Names and values arrive as they were given, repeated ones in their order."""
        name = fresh()
        given: list[tuple[str, str | bytes]] = [("x-call", name), ("x-text", "a b=c,d"), ("x-many", "1")]
        given += [("x-many", "2"), ("x-octets-bin", bytes(range(256)))]
        answer, call = client.method("unary_unary", "Echo").with_call(b"", metadata=given, timeout=20)
        assert answer == b""
        assert [pair for pair in place.calls.seen(name).metadata if pair[0].startswith("x-")] == given
        for where, found in (("head", call.initial_metadata()), ("end", call.trailing_metadata())):
            assert [tuple(pair) for pair in found if pair.key.startswith(where)] == [
                (f"{where}-{key}", value) for key, value in given
            ]

    @pytest.mark.parametrize("text", ["plain", "with % and more: 100%", "größer als nötig", "two\nlines"])
    def test_of_errors(self, client: Channel, text: str) -> None:
        """Status, details in any script, and the octets beside them."""
        with pytest.raises(grpc.RpcError) as caught:
            client.unary("Fail", text.encode())
        error = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, text)
        assert ("x-why-bin", b"\x00\xff why") in [tuple(pair) for pair in error.trailing_metadata()]

    def test_of_an_error_behind_messages(self, client: Channel) -> None:
        """What came before it is the client's."""
        answers = client.method("unary_stream", "FailLate")(b"one", timeout=20)
        assert next(answers) == b"one"
        with pytest.raises(grpc.RpcError):
            next(answers)
        assert (answers.code(), answers.details()) == (grpc.StatusCode.DATA_LOSS, "behind the first")

    def test_of_what_nobody_serves(self, client: Channel) -> None:
        """The server's own answer."""
        with pytest.raises(grpc.RpcError) as caught:
            client.unary("Nothing", b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


class TestTime:
    """Deadlines and cancels."""

    def test_the_server_is_given_what_is_left(self, place: Place, client: Channel) -> None:
        """A second of fifteen is more than grpcio's clients add when they write it."""
        name = fresh()
        client.unary("Echo", b"", timeout=15.0, metadata=[("x-call", name)])
        left_s = place.calls.seen(name).left_s
        assert left_s is not None
        assert 0 < left_s <= 16.0

    def test_no_time_is_none(self, place: Place, client: Channel) -> None:
        """For a call without."""
        name = fresh()
        client.unary("Echo", b"", timeout=None, metadata=[("x-call", name)])
        left_s = place.calls.seen(name).left_s
        assert left_s is None or left_s > 86400

    def test_a_call_that_is_too_slow(self, place: Place, client: Channel) -> None:
        """DEADLINE_EXCEEDED, and the server need not go on."""
        name = fresh()
        with pytest.raises(grpc.RpcError) as caught:
            client.unary("Wait", b"", timeout=0.3, metadata=[("x-call", name)])
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert place.calls.seen(name).is_over.wait(20)

    @pytest.mark.parametrize(("kind", "method"), [("unary_unary", "Wait"), ("unary_stream", "Drip")])
    def test_a_client_that_cancels(self, place: Place, client: Channel, kind: str, method: str) -> None:
        """The server hears of it, whether it has begun to answer or not."""
        name = fresh()
        ask = client.method(kind, method)
        options = {"timeout": 20, "metadata": [("x-call", name)]}
        call = ask.future(b"x", **options) if kind == "unary_unary" else ask(b"x", **options)
        seen = place.calls.seen(name)
        if kind == "unary_stream":
            assert next(call) == b"x"
        call.cancel()
        assert seen.is_over.wait(20)
        assert client.unary("Echo", b"next") == b"next"


@pytest.mark.parametrize("size", [16 * MIB, 65536, 65535])
def test_large_messages(client: Channel, size: int) -> None:
    """Both ways at once, whole."""
    message = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
    assert client.unary("Echo", message) == message


def test_two_large_streams_share_what_there_is(place: Place) -> None:
    """While one client does not read, another of the same connection does."""
    with place.way("catalog") as client:
        slow = client.method("stream_stream", "Talk")(iter([b"x" * MIB] * 8), timeout=20)
        assert next(slow) == b"X" * MIB
        for _ in range(20):
            assert client.unary("Echo", b"y" * 100_000) == b"y" * 100_000
        assert sum(len(answer) for answer in slow) == 7 * MIB


class TestLives:
    """What calls outlive, and what they do not."""

    @pytest.fixture
    def own(self, place: Place, tmp_path: Path) -> Iterator[tuple[SidecarProcess, str]]:
        """A sidecar whose file the test may change."""
        text = f"""
            service: storefront
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes:
                - {{match: {{grpc: {{service: {SERVICE}, method: Drip}}}}, to: calls, timeout: 1s}}
                - {{match: {{host: calls}}, to: calls}}
            upstreams:
              calls: {{endpoints: ["127.0.0.1:{place.calls.port}"]}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            yield sidecar, text

    def test_a_stream_outlives_a_reload(self, place: Place, own: tuple[SidecarProcess, str]) -> None:
        """It goes on where it was; what is begun behind it takes the new route."""
        sidecar, text = own
        words: queue.Queue[bytes | None] = queue.Queue()
        with channel(sidecar.outbound_port, "calls") as client:
            talk = client.method("stream_stream", "Talk")(iter(words.get, None), timeout=20)
            words.put(b"before")
            assert next(talk) == b"BEFORE"
            sidecar.rewrite(
                text.replace("{match: {host: calls}, to: calls}", "{match: {host: calls}, respond: {status: 403}}")
            )
            sidecar.wait_for_generation(2)
            with pytest.raises(grpc.RpcError) as caught:
                client.unary("Echo", b"")
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            words.put(b"behind")
            assert next(talk) == b"BEHIND"
            words.put(None)
            assert list(talk) == []
            assert talk.code() is grpc.StatusCode.OK

    def test_the_routes_time_ends_a_stream_with_a_status(self, own: tuple[SidecarProcess, str]) -> None:
        """
        In its trailers, though its head and a message are the client's already. (To a client that gives it a time the
        server says so itself: it is told what the route allows.)
        """
        sidecar, _ = own
        with channel(sidecar.outbound_port, "calls") as client:
            drip = client.method("unary_stream", "Drip")(b"x")
            assert next(drip) == b"x"
            with pytest.raises(grpc.RpcError):
                next(drip)
            assert drip.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert drip.details().startswith("sidecar: ")
        (line,) = sidecar.wait_for_log_lines(1)
        assert (line["grpc_status"], line["response_code"]) == ("DEADLINE_EXCEEDED", 200)

    def test_a_server_that_is_gone_in_the_middle(self, place: Place, tmp_path: Path) -> None:
        """UNAVAILABLE, and why, whether the stream had begun or not."""
        with Calls() as calls:
            text = f"""
                service: storefront
                outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
                upstreams: {{calls: {{endpoints: ["127.0.0.1:{calls.port}"]}}}}
            """
            with running_sidecar(tmp_path, text) as sidecar, channel(sidecar.outbound_port, "calls") as client:
                drip = client.method("unary_stream", "Drip")(b"x", timeout=20)
                assert next(drip) == b"x"
                calls.kill()
                with pytest.raises(grpc.RpcError):
                    next(drip)
                assert drip.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                with pytest.raises(grpc.RpcError) as caught:
                    client.unary("Echo", b"")
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "connect_failed" in str(caught.value.details())

    def test_running_calls_outlive_the_order_to_end(self, place: Place, tmp_path: Path) -> None:
        """They are answered; and what its client begins meanwhile goes elsewhere, to be told that nobody is there."""
        text = f"""
            service: storefront
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{calls: {{endpoints: ["127.0.0.1:{place.calls.port}"]}}}}
            drain: {{timeout: 15s}}
        """
        name = fresh()
        with running_sidecar(tmp_path, text) as sidecar, channel(sidecar.outbound_port, "calls") as client:
            wait = client.method("unary_unary", "Wait").future(b"at last", timeout=20, metadata=[("x-call", name)])
            seen = place.calls.seen(name)
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "the end to begin")

            def is_refused() -> bool:
                try:
                    client.unary("Echo", b"")
                except grpc.RpcError as error:
                    return error.code() is grpc.StatusCode.UNAVAILABLE
                return False

            eventually(is_refused, "new calls to go elsewhere")
            assert not wait.done()
            seen.may_go_on.set()
            assert wait.result() == b"at last"
            sidecar.wait()


@pytest.mark.long
def test_a_thousand_streams_at_once(place: Place) -> None:
    """Each says a word and waits for the others; ten clients, and connections of as many streams as a server allows."""
    turns = threading.Event()

    def words(number: int) -> Iterator[bytes]:
        yield b"first %d" % number
        turns.wait(60)
        yield b"second %d" % number

    with contextlib.ExitStack() as stack, Calls(workers=1100) as calls:
        text = f"""
            service: storefront
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{calls: {{endpoints: ["127.0.0.1:{calls.port}"]}}}}
        """
        directory = place.caller.directory.parent / "thousand"
        sidecar = stack.enter_context(running_sidecar(directory, text))
        clients = [stack.enter_context(channel(sidecar.outbound_port, "calls")) for _ in range(10)]
        talks = [
            clients[number % 10].method("stream_stream", "Talk")(words(number), timeout=120) for number in range(1000)
        ]
        assert [next(talk) for talk in talks] == [b"FIRST %d" % number for number in range(1000)]
        turns.set()
        assert [list(talk) for talk in talks] == [[b"SECOND %d" % number] for number in range(1000)]
