"""TLS in the place of a transport, over real sockets: what is written comes out, ends are told from cuts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from sidecar import clock
from sidecar.net.tls.failures import TruncatedError, explain
from sidecar.net.tls.handshakes import STEPS_A_TURN, Handshakes
from sidecar.net.tls.transport import TlsTransport
from tests.support.certificates import DAY, NOW, Authority
from tests.support.crowd import Crowd

T = TypeVar("T")
SERVER_ID, CLIENT_ID = "spiffe://shop/catalog", "spiffe://shop/storefront"


@pytest.fixture(scope="module")
def root() -> Authority:
    """Who both believe."""
    return Authority("shop root")


def context_of(root: Authority, identity: str, *, is_server: bool, ends: float = NOW + 7 * DAY) -> ssl.SSLContext:
    """As a workload's: mutual, TLS 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if is_server:
        context.num_tickets = 1
    context.load_verify_locations(cadata=root.pem.decode())
    with tempfile.TemporaryDirectory() as folder:
        root.workload(identity, ends=ends).write(Path(folder))
        context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    context.set_alpn_protocols(["sidecar-http/1.1"])
    return context


_ends: list[End] = []


class End:
    """A protocol that keeps what it is told, and who wanted the handshake."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.lost: Exception | None = None
        self.failure: Exception | None = None
        self.transport: TlsTransport = None  # type: ignore[assignment]
        self.changed = asyncio.Event()
        self.sessions: list[ssl.SSLSession] = []
        self._keeps_open = keeps_open
        _ends.append(self)

    def _tell(self, event: str) -> None:
        self.events.append(event)
        self.changed.set()

    def keep(self, session: ssl.SSLSession, _ends_s: float) -> None:
        self.sessions.append(session)

    def on_secured(self, transport: TlsTransport) -> None:
        transport.set_protocol(self)  # type: ignore[arg-type]
        self._tell("secured")

    def on_handshake_failed(self, error: Exception) -> None:
        self.failure = error
        self._tell("failed")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def eof_received(self) -> bool:
        self._tell("eof")
        return self._keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self._tell("lost")

    def pause_writing(self) -> None:
        self._tell("paused")

    def resume_writing(self) -> None:
        self._tell("resumed")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that it is told makes this true."""
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def pair(root: Authority, server: End, client: End, **options: ssl.SSLSession | None) -> ssl.SSLContext:
    """A connection between two, whose handshake has begun; returns the client's context."""
    loop = asyncio.get_running_loop()
    gate = Handshakes(loop)
    theirs, ours = socket.socketpair()
    context = context_of(root, CLIENT_ID, is_server=False)
    server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, gate, True)
    client.transport = TlsTransport(context, client, gate, False, keep=client.keep, **options)
    for end, sock in ((server, theirs), (client, ours)):
        sock.setblocking(False)
        await loop.create_connection(lambda end=end: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
    return context


def in_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Run it on the loop of the product."""

    async def run() -> T:
        try:
            return await main()
        finally:
            # A loop does not close before its connections.
            for end in _ends:
                if end.transport is not None and "failed" not in end.events:
                    end.transport.abort()
            _ends.clear()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def test_both_know_who_the_other_one_is(root: Authority) -> None:
    """By the certificates; what is written comes out, and the end is an end."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        client.transport.write(b"ping")
        await server.until(lambda: server.received == b"ping")
        server.transport.write(b"pong")
        await client.until(lambda: client.received == b"pong")
        assert client.transport.peer is not None
        assert server.transport.peer is not None
        assert (client.transport.peer.identity, server.transport.peer.identity) == (SERVER_ID, CLIENT_ID)
        assert client.transport.peer.protocol == "sidecar-http/1.1"
        assert client.transport.peer.version == "1.3"
        assert client.transport.peer.issuer == "CN=shop root"
        assert len(client.sessions) == 1
        client.transport.close()
        await server.until(lambda: "lost" in server.events)
        await client.until(lambda: "lost" in client.events)
        assert (server.events[-2:], server.lost, client.lost) == (["eof", "lost"], None, None)

    in_loop(main)


@pytest.mark.parametrize("seed", range(4))
def test_much_comes_out_as_it_went_in(root: Authority, seed: int) -> None:
    """Pieces of any size in both directions at once; 3 MiB are more than the sockets hold."""

    async def main() -> None:
        chance = random.Random(seed)
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        await server.until(lambda: "secured" in server.events)
        sent = {}
        for end in (server, client):
            whole = chance.randbytes(3 << 20)
            sent[end] = whole
            at = 0
            while at < len(whole):
                size = chance.choice((1, 100, 16383, 16384, 16385, 40_000, 262_144, 1 << 20))
                part, at = whole[at : at + size], at + size
                if size % 2:
                    end.transport.write(part)
                else:
                    end.transport.writelines([part[:7], part[7:]])
        await server.until(lambda: len(server.received) == 3 << 20)
        await client.until(lambda: len(client.received) == 3 << 20)
        assert bytes(server.received) == sent[client]
        assert bytes(client.received) == sent[server]

    in_loop(main)


def test_who_reads_slowly_holds_the_writer(root: Authority) -> None:
    """By the socket: nothing is kept in between."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        await server.until(lambda: "secured" in server.events)
        client.transport.pause_reading()
        server.transport.set_write_buffer_limits(high=65536, low=16384)
        while "paused" not in server.events:
            server.transport.write(bytes(65536))
            await asyncio.sleep(0)
        assert server.transport.get_write_buffer_size() < 65536 * 4
        client.transport.resume_reading()
        await server.until(lambda: "resumed" in server.events)

    in_loop(main)


def test_half_a_connection_may_end(root: Authority) -> None:
    """Its end is told, and the other half goes on."""

    async def main() -> None:
        server, client = End(keeps_open=True), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        client.transport.write(b"all that I ask")
        client.transport.write_eof()
        assert not client.transport.can_write_eof()
        await server.until(lambda: "eof" in server.events)
        assert server.received == b"all that I ask"
        server.transport.write(bytes(200_000))
        server.transport.close()
        await client.until(lambda: "lost" in client.events)
        assert (len(client.received), client.events.count("eof"), client.lost) == (200_000, 1, None)
        await server.until(lambda: "lost" in server.events)
        assert (server.events.count("eof"), server.lost) == (1, None)

    in_loop(main)


@pytest.mark.parametrize("how", ["abort", "socket"])
def test_a_cut_is_no_end(root: Authority, how: str) -> None:
    """A socket that ends without close_notify, whoever ends it: what had come is whole, and the rest is missing."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        client.transport.write(b"half of")
        await server.until(lambda: server.received)
        if how == "abort":
            client.transport.abort()
        else:
            with socket.socket(fileno=os.dup(client.transport.get_extra_info("socket").fileno())) as its:
                its.shutdown(socket.SHUT_WR)
        await server.until(lambda: "lost" in server.events)
        assert (bytes(server.received), server.events.count("eof")) == (b"half of", 0)
        assert isinstance(server.lost, TruncatedError | ConnectionResetError)

    in_loop(main)


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("is_whole", [True, False])
def test_an_end_behind_a_handshake_that_waits_for_its_turn(root: Authority, says_so: bool, is_whole: bool) -> None:
    """What came with the end of the handshake is heard, however many others are before it, and then the end."""

    class Other:
        is_server = True

        def step(self) -> None:
            gate.ask(self)

    async def main() -> None:
        nonlocal gate
        loop = asyncio.get_running_loop()
        gate = Handshakes(loop)
        server = End(keeps_open=True)
        theirs, ours = socket.socketpair()
        for sock in (theirs, ours):
            sock.setblocking(False)
        server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, gate, True)
        await loop.create_connection(lambda: server.transport, sock=theirs)  # type: ignore[arg-type, return-value]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context_of(root, CLIENT_ID, is_server=False).wrap_bio(incoming, outgoing)
        while not client.version() or not outgoing.pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
            await loop.sock_sendall(ours, outgoing.read())
            incoming.write(await loop.sock_recv(ours, 65536))
        client.write(b"all that I ask")
        if says_so:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.unwrap()
        last = outgoing.read()
        for _ in range(STEPS_A_TURN):
            gate.ask(Other())
        ours.send(last if is_whole else last[:30])
        ours.shutdown(socket.SHUT_WR)
        if not is_whole:
            await server.until(lambda: "failed" in server.events)
            assert isinstance(server.failure, TruncatedError)
        elif says_so:
            await server.until(lambda: "eof" in server.events)
            assert (server.events[0], bytes(server.received)) == ("secured", b"all that I ask")
            server.transport.write(b"an answer")
            incoming.write(await loop.sock_recv(ours, 65536))
            assert client.read() == b"an answer"
        else:
            await server.until(lambda: "lost" in server.events)
            assert (server.events, bytes(server.received)) == (["secured", "lost"], b"all that I ask")
            assert isinstance(server.lost, TruncatedError)
        server.transport.abort()
        ours.close()

    gate: Handshakes
    in_loop(main)


def test_a_stranger_is_told_apart(root: Authority) -> None:
    """The server refuses who chains to another root; the client, which in TLS 1.3 is through already, is told."""

    async def main() -> None:
        server, client = End(), End()
        loop = asyncio.get_running_loop()
        gate = Handshakes(loop)
        other = Authority("other root")
        theirs, ours = socket.socketpair()
        stranger = context_of(other, CLIENT_ID, is_server=False)
        stranger.load_verify_locations(cadata=root.pem.decode())
        server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, gate, True)
        client.transport = TlsTransport(stranger, client, gate, False)
        for end, sock in ((server, theirs), (client, ours)):
            sock.setblocking(False)
            await loop.create_connection(lambda end=end: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
        await server.until(lambda: "failed" in server.events)
        assert isinstance(server.failure, ssl.SSLCertVerificationError)
        await client.until(lambda: "lost" in client.events or "failed" in client.events)
        assert client.events == ["secured", "lost"]
        assert isinstance(client.lost, ssl.SSLError)
        assert client.lost.reason == "TLSV1_ALERT_UNKNOWN_CA"

    in_loop(main)


class Deaf(End):
    """A client that does not read what comes behind the handshake, and looks when its connection is lost."""

    unread = b""

    def on_secured(self, transport: TlsTransport) -> None:
        super().on_secured(transport)
        transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.unread = self.transport.read_unread()
        super().connection_lost(exc)

    async def write_until_lost(self) -> None:
        """Into a socket whose other end is gone."""
        async with asyncio.timeout(30):
            while "lost" not in self.events:
                self.transport.write(b"a request")
                await asyncio.sleep(0)


def test_why_a_server_has_left_is_told_though_a_write_is_what_finds_it_gone(root: Authority) -> None:
    """Its alert is there, unread, when the write fails."""

    async def main() -> None:
        server, client = End(), Deaf()
        loop = asyncio.get_running_loop()
        gate = Handshakes(loop)
        stranger = context_of(Authority("other root"), CLIENT_ID, is_server=False)
        stranger.load_verify_locations(cadata=root.pem.decode())
        theirs, ours = socket.socketpair()
        server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, gate, True)
        client.transport = TlsTransport(stranger, client, gate, False)
        for end, sock in ((server, theirs), (client, ours)):
            sock.setblocking(False)
            await loop.create_connection(lambda end=end: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
        await server.until(lambda: "failed" in server.events)
        await client.write_until_lost()
        assert isinstance(client.lost, ssl.SSLError), client.lost
        assert client.lost.reason == "TLSV1_ALERT_UNKNOWN_CA"

    in_loop(main)


def test_an_answer_is_read_though_a_write_is_what_finds_the_server_gone(root: Authority) -> None:
    """What came whole before it left, with its end, is there for who looks; the write is why the connection is lost."""

    async def main() -> None:
        server, client = End(), Deaf()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        await server.until(lambda: "secured" in server.events)
        server.transport.write(b"an answer")
        server.transport.close()
        await client.write_until_lost()
        assert client.unread == b"an answer"
        assert isinstance(client.lost, BrokenPipeError), client.lost

    in_loop(main)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(64), b"\x80\x2e\x01\x03\x01" + bytes(40)]
)
def test_what_is_no_handshake_fails(root: Authority, sent: bytes) -> None:
    """At once, or when its sender leaves."""

    async def main() -> None:
        server = End()
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        theirs.setblocking(False)
        server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, Handshakes(loop), True)
        await loop.create_connection(lambda: server.transport, sock=theirs)  # type: ignore[arg-type, return-value]
        ours.sendall(sent)
        ours.shutdown(socket.SHUT_WR)
        await server.until(lambda: "failed" in server.events)
        assert server.transport.is_closing()
        ours.close()

    in_loop(main)


def test_a_ticket_is_nothing_to_the_protocol_and_data_is(root: Authority) -> None:
    """Though the kernel holds something in both cases; what was read ahead is not lost."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        client.transport.pause_reading()
        await server.until(lambda: "secured" in server.events)  # and has sent its ticket
        assert client.transport.is_quiet(False)
        assert client.transport.is_quiet(False)
        server.transport.write(b"unasked")
        assert not client.transport.is_quiet(False)
        server.transport.write(b" for")
        assert client.transport.read_unread() == b"unasked for"
        server.transport.write(b", and more")
        assert not client.transport.is_quiet(False)
        client.transport.resume_reading()
        server.transport.write(b".")
        await client.until(lambda: client.received == b", and more.")
        client.transport.pause_reading()
        server.transport.close()
        await server.until(lambda: "lost" in server.events)
        assert not client.transport.is_quiet(False)
        await client.until(lambda: "eof" in client.events)

    in_loop(main)


def test_a_session_is_taken_up_again(root: Authority) -> None:
    """By the context that has it."""

    async def main() -> tuple[bool, bool]:
        contexts = context_of(root, SERVER_ID, is_server=True), context_of(root, CLIENT_ID, is_server=False)
        resumed = []
        session = None
        for _ in range(2):
            server, client = await connected(contexts, session)
            await server.until(lambda: "secured" in server.events)  # noqa: B023
            server.transport.write(b"x")
            await client.until(lambda: client.received)  # noqa: B023
            session = session or client.sessions[0]  # one that is taken up brings another only where that costs nothing
            assert client.transport.peer is not None
            assert server.transport.peer is not None
            assert server.transport.peer.identity == CLIENT_ID
            resumed.append(client.transport.peer.is_resumed)
            client.transport.abort()
            server.transport.abort()
        return resumed[0], resumed[1]

    assert in_loop(main) == (False, True)


@pytest.mark.parametrize("ended", [SERVER_ID, CLIENT_ID])
def test_a_session_ends_with_the_certificate_that_began_it(
    root: Authority, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody shows or verifies one when it is taken up, and OpenSSL does not look: a ticket would let it live on."""
    ends = {SERVER_ID: NOW + 7 * DAY, CLIENT_ID: NOW + 7 * DAY, ended: NOW + DAY}

    async def main() -> None:
        contexts = (
            context_of(root, SERVER_ID, is_server=True, ends=ends[SERVER_ID]),
            context_of(root, CLIENT_ID, is_server=False, ends=ends[CLIENT_ID]),
        )
        server, client = await connected(contexts, None)
        await server.until(lambda: "secured" in server.events)
        server.transport.write(b"x")
        await client.until(lambda: client.received)
        monkeypatch.setattr(time, "time", lambda: NOW + 2.0 * DAY)
        server, client = await connected(contexts, client.sessions[0])
        refusing = client if ended == SERVER_ID else server
        await refusing.until(lambda: "failed" in refusing.events)
        assert refusing.failure is not None
        reason, detail = explain(refusing.failure, is_client=refusing is server)
        assert reason.name == ("upstream" if refusing is client else "client") + "_certificate_expired"
        assert detail.startswith("certificate has expired; the clock here says")

    in_loop(main)


async def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext], session: ssl.SSLSession | None) -> tuple[End, End]:
    """A server and a client that have begun their handshake, to take up a session if there is one."""
    loop = asyncio.get_running_loop()
    gate = Handshakes(loop)
    server, client = End(), End()
    theirs, ours = socket.socketpair()
    server.transport = TlsTransport(contexts[0], server, gate, True)
    client.transport = TlsTransport(contexts[1], client, gate, False, "", session, client.keep)
    for end, sock in ((server, theirs), (client, ours)):
        sock.setblocking(False)
        await loop.create_connection(lambda end=end: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
    return server, client


def test_a_crowd_of_handshakes_takes_turns() -> None:
    """Two steps in a turn of the loop, in the order in which they came."""

    class Loop:
        def __init__(self) -> None:
            self.soon: list[Callable[[], None]] = []

        def call_soon(self, action: Callable[[], None]) -> None:
            self.soon.append(action)

        def turn(self) -> None:
            soon, self.soon = self.soon, []
            for action in soon:
                action()

    class One:
        is_server = True

        def __init__(self, name: int) -> None:
            self.name = name

        def step(self) -> None:
            done.append(self.name)

    done: list[int] = []
    loop = Loop()
    gate = Handshakes(loop)  # type: ignore[arg-type]
    for name in range(7):
        gate.ask(One(name))
    seen = [list(done)]
    while loop.soon:
        loop.turn()
        seen.append(list(done))
    assert seen[0] == list(range(STEPS_A_TURN))
    assert seen[-1] == list(range(7))
    assert all(len(after) - len(before) <= STEPS_A_TURN for before, after in itertools.pairwise(seen))
    gate.ask(One(7))
    assert done[-1] == 7


def test_of_two_steps_one_is_for_a_handshake_with_a_server() -> None:
    """A request waits for it, which a crowd of clients that is not even in must not hold up; nor the other way."""

    class Loop:
        def __init__(self) -> None:
            self.soon: list[Callable[[], None]] = []

        def call_soon(self, action: Callable[[], None]) -> None:
            self.soon.append(action)

    class One:
        def __init__(self, name: str, *, is_server: bool) -> None:
            self.name = name
            self.is_server = is_server

        def step(self) -> None:
            done.append(self.name)

    done: list[str] = []
    loop = Loop()
    gate = Handshakes(loop)  # type: ignore[arg-type]
    for number in range(20):
        gate.ask(One(f"client {number}", is_server=True))
    for number in range(4):
        gate.ask(One(f"server {number}", is_server=False))
    turns = [done]
    while loop.soon:
        soon, loop.soon, done = loop.soon, [], []
        for action in soon:
            action()
        turns.append(done)
    assert [sorted(turn) for turn in turns[:5]] == [
        ["client 0", "client 1"],
        *([f"client {number + 2}", f"server {number}"] for number in range(4)),
    ]
    assert sum(map(len, turns)) == 24


def test_a_loop_that_has_much_else_to_do_does_more_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of what its turns take: were it two steps of each, a crowd would wait for seconds."""

    class Loop:
        def __init__(self) -> None:
            self.soon: list[Callable[[], None]] = []

        def call_soon(self, action: Callable[[], None]) -> None:
            self.soon.append(action)

    class One:
        is_server = True

        def step(self) -> None:
            nonlocal now_ns, steps
            now_ns += 300_000
            steps += 1

    now_ns = steps = 0
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns)
    loop = Loop()
    gate = Handshakes(loop)  # type: ignore[arg-type]
    for turn_ns, expected in ((1_000_000, 2), (20_000_000, 18), (40_000_000, 34), (10_000_000_000, 34)):
        for _ in range(200):
            gate.ask(One())
        now_ns += turn_ns
        steps = 0
        (turn,) = loop.soon
        loop.soon = []
        turn()
        assert steps == expected, turn_ns
        while loop.soon:
            (turn,) = loop.soon
            loop.soon = []
            turn()


def test_a_step_that_goes_wrong_keeps_no_other_from_going_on() -> None:
    """A fault of one connection is that connection's."""

    class Loop:
        def __init__(self) -> None:
            self.soon: list[Callable[[], None]] = []

        def call_soon(self, action: Callable[[], None]) -> None:
            self.soon.append(action)

    class One:
        is_server = True

        def __init__(self, name: int) -> None:
            self.name = name

        def step(self) -> None:
            if self.name in (1, 3):
                raise RuntimeError("a fault")
            done.append(self.name)

    done: list[int] = []
    loop = Loop()
    gate = Handshakes(loop)  # type: ignore[arg-type]
    for name in range(9):
        with contextlib.suppress(RuntimeError):
            gate.ask(One(name))
    while loop.soon:
        soon, loop.soon = loop.soon, []
        for action in soon:
            with contextlib.suppress(RuntimeError):
                action()
    assert done == [0, 2, 4, 5, 6, 7, 8]
    gate.ask(One(10))
    assert done[-1] == 10


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("is_refused", [True, False])
def test_what_came_before_an_end_is_looked_at_though_a_crowd_was_before_it(
    root: Authority, end: str, is_refused: bool
) -> None:
    """The alert says why; a handshake that is whole, with a request behind it, has not failed because that is all."""

    async def main() -> None:
        server, crowd = End(keeps_open=True), Crowd()
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
        theirs.setblocking(False)
        context = context_of(root, SERVER_ID, is_server=True)
        server.transport = TlsTransport(context, server, crowd.gate, True)
        await loop.create_connection(lambda: server.transport, sock=theirs)  # type: ignore[arg-type, return-value]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        believed = Authority("other root") if is_refused else root
        client = context_of(believed, CLIENT_ID, is_server=False).wrap_bio(incoming, outgoing)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                ours.sendall(outgoing.read())
                while not incoming.pending:
                    crowd.turn()
                    await asyncio.sleep(0)
                    try:
                        incoming.write(ours.recv(65536, socket.MSG_DONTWAIT))
                    except BlockingIOError:
                        continue
            except ssl.SSLCertVerificationError:
                break
        if not is_refused:
            client.write(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ssl.SSLWantReadError):
                client.unwrap()
        ours.sendall(outgoing.read())
        if end == "reset":
            while not crowd.waiting:
                await asyncio.sleep(0)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ours.close()
        else:
            ours.shutdown(socket.SHUT_WR)
        while server.transport._cut is None and not server.events:
            await asyncio.sleep(0)
        crowd.turn()
        await server.until(lambda: "failed" in server.events or "eof" in server.events)
        if is_refused:
            assert isinstance(server.failure, ssl.SSLError)
            assert server.failure.reason == "TLSV1_ALERT_UNKNOWN_CA"
        elif end == "end":
            assert bytes(server.received) == b"GET / HTTP/1.1\r\n\r\n"
            assert server.events == ["secured", "eof"]
        else:
            assert isinstance(server.failure, ConnectionResetError)
        ours.close()

    in_loop(main)


def test_a_connection_that_is_gone_is_not_secured_any_more(root: Authority) -> None:
    """Its last octets may be all of a handshake: nobody is told of a connection at which nothing can be done."""

    async def main() -> None:
        server, crowd = End(), Crowd()
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        client = End()
        server.transport = TlsTransport(context_of(root, SERVER_ID, is_server=True), server, crowd.gate, True)  # type: ignore[arg-type]
        client.transport = TlsTransport(context_of(root, CLIENT_ID, is_server=False), client, Handshakes(loop), False)
        for end, sock in ((server, theirs), (client, ours)):
            sock.setblocking(False)
            await loop.create_connection(lambda end=end: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
        while "secured" not in client.events:
            crowd.turn()
            await asyncio.sleep(0)
        while not crowd.waiting:
            await asyncio.sleep(0)
        server.transport._raw.abort()  # as it is between a reset and the loop's word of it
        crowd.turn()
        await server.until(lambda: server.events)
        assert server.events == ["failed"]
        assert server.transport.peer is None

    in_loop(main)


def test_what_is_written_is_sealed(root: Authority) -> None:
    """The socket carries nothing that can be read."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        await server.until(lambda: "secured" in server.events)
        server.transport.pause_reading()
        client.transport.write(b"a secret that nobody sees" * 4)
        seen = os.read(server.transport.get_extra_info("socket").fileno(), 65536)
        assert seen[:3] == b"\x17\x03\x03"
        assert b"secret" not in seen

    in_loop(main)


def test_a_record_that_is_none_leaves_no_cycle(root: Authority) -> None:
    """What ends so is freed at once: a reload would exempt it from collection, with some 50 KiB of OpenSSL's."""

    async def main() -> None:
        server, client = End(), End()
        await pair(root, server, client)
        await client.until(lambda: "secured" in client.events)
        await server.until(lambda: "secured" in server.events)
        with socket.socket(fileno=os.dup(client.transport.get_extra_info("socket").fileno())) as its:
            its.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await server.until(lambda: "lost" in server.events)
        assert isinstance(server.lost, ssl.SSLError)
        await client.until(lambda: "lost" in client.events)
        for end in (server, client):
            del end.transport, end.lost
        _ends.clear()
        async with asyncio.timeout(30):
            while any(isinstance(one, TlsTransport) for one in gc.get_objects()):
                await asyncio.sleep(0.01)

    gc.collect()
    gc.disable()
    try:
        in_loop(main)
    finally:
        gc.enable()
