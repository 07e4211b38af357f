"""Dialing over real sockets of this machine, and over a loop whose answers the test gives."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar import errors
from sidecar.errors import Reason
from sidecar.net.flow import Outbox
from sidecar.net.names import Names
from sidecar.net.resolve import Resolver, TooManyLookupsError
from sidecar.net.timers import Timers
from sidecar.net.tls.sides import ClientSide
from sidecar.proxy.server.dialer import Dialer
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.proxy.server.state import State
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.stats import COUNTS
from tests.support.certificates import Authority
from tests.support.fakes import FakeLoop, FakeTransport
from tests.support.held_loop import run_held


class Waiter:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.connections: list[IdleConnection] = []
        self.failures: list[Reason] = []
        self.told = asyncio.Event()

    def on_connection(self, connection: IdleConnection) -> None:
        self.connections.append(connection)
        self.told.set()

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        self.failures.append(reason)
        self.told.set()


def endpoint_of(address: str, timeout_s: float = 5.0) -> Endpoint:
    return Cluster(ClusterSpec("web", ((address, 1.0),), connect_timeout_s=timeout_s)).endpoints[0]


async def dial_for(endpoint: Endpoint, names: Names | None = None) -> Waiter:
    loop = asyncio.get_running_loop()
    took: list[int] = []
    dialer = Dialer(loop, Timers(loop), Outbox(loop), lambda name, took_ns: took.append(took_ns), names)
    waiter = Waiter()
    pool.wait(endpoint, waiter, dialer.dial)
    await waiter.told.wait()
    await asyncio.gather(*dialer._tasks, return_exceptions=True)
    assert len(took) == len(waiter.connections)
    return waiter


def names_of(answer: Callable[[], Awaitable[list[str]]]) -> Names:
    """Of which every lookup ends so."""

    async def lookup(name: str) -> list[str]:
        return await answer()

    return Names(Resolver(lookup, keeps_order=True), Resolver(lookup, keeps_order=True))


def test_tcp_endpoint_is_connected() -> None:
    """The waiting request gets the connection; the counts say so."""

    async def run() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        endpoint = endpoint_of(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        waiter = await dial_for(endpoint)
        assert len(waiter.connections) == 1
        assert (endpoint.connecting, endpoint.cluster.stats.connections_opened) == (0, 1)
        for connection in waiter.connections:
            assert isinstance(connection, ServerConnection)
            connection.abort()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_unix_endpoint_is_connected(tmp_path: Path) -> None:
    """The app side may be a Unix socket."""

    async def run() -> None:
        path = str(tmp_path / "app.sock")
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), path)
        waiter = await dial_for(endpoint_of(f"unix:{path}"))
        (connection,) = waiter.connections
        assert isinstance(connection, ServerConnection)
        connection.abort()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_refused_connection_is_told_and_counted() -> None:
    """A port on which nobody listens."""

    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and nobody else can take it
            endpoint = endpoint_of(f"127.0.0.1:{taken.getsockname()[1]}")
            waiter = await dial_for(endpoint)
        assert waiter.failures == [errors.CONNECT_FAILED]
        assert (endpoint.connecting, endpoint.cluster.stats.connect_failures) == (0, 1)

    asyncio.run(run())


class TestNames:
    """An endpoint by name: resolving is told apart from connecting."""

    def test_every_address_is_tried(self) -> None:
        """Of two the first refuses."""

        async def run() -> None:
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.2", 0)

            async def answer() -> list[str]:
                return ["127.0.0.1", "127.0.0.2"]

            endpoint = endpoint_of(f"app:{server.sockets[0].getsockname()[1]}")
            (connection,) = (await dial_for(endpoint, names_of(answer))).connections
            assert isinstance(connection, ServerConnection)
            connection.abort()
            server.close()
            await asyncio.sleep(0)

        asyncio.run(run())

    @staticmethod
    def failing(answer: Callable[[], Awaitable[list[str]]]) -> tuple[Reason, str]:
        """The reason that the request is told, and what was counted for it; nothing else was."""

        async def run() -> tuple[Reason, str]:
            endpoint = endpoint_of("app:80", 1.0)
            waiter = await dial_for(endpoint, names_of(answer))
            stats = endpoint.cluster.stats
            (reason,) = waiter.failures
            (counted,) = [
                name for name in COUNTS if name.startswith(("resolve_", "connect_")) and getattr(stats, name) == 1
            ]
            return reason, counted

        return run_held(run())

    def test_name_without_an_address_is_the_upstreams_fault(self) -> None:
        """Its detectors may know."""

        async def denied() -> list[str]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        assert self.failing(denied) == (errors.RESOLVE_FAILED, "resolve_failures_failed")

    @pytest.mark.parametrize("kind", ["hangs", "gives up"])
    def test_name_server_that_does_not_answer_is_not(self, kind: str) -> None:
        """Until the connect timeout, or as the resolver says itself; nobody behind us has done anything."""

        async def silent() -> list[str]:
            if kind == "hangs":
                await asyncio.get_running_loop().create_future()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        assert self.failing(silent) == (errors.RESOLVE_TIMEOUT, "resolve_failures_timeout")

    def test_too_many_names_are_a_refusal_of_our_own(self) -> None:
        """Not retried, and no detector is fed."""

        async def refused() -> list[str]:
            raise TooManyLookupsError("256 names are being looked up")

        assert self.failing(refused) == (errors.RESOLVE_OVERLOADED, "resolve_failures_refused")

    def test_name_that_cannot_be_encoded_has_no_address(self) -> None:
        """Whatever the resolver raises."""

        async def surprise() -> list[str]:
            raise UnicodeError("label too long")

        assert self.failing(surprise) == (errors.RESOLVE_FAILED, "resolve_failures_failed")


def with_create_connection(answer: Callable[..., Any]) -> Waiter:
    """Dial on a held loop whose `create_connection` is this."""

    async def run() -> Waiter:
        loop = asyncio.get_running_loop()
        loop.create_connection = answer  # type: ignore[method-assign]
        endpoint = endpoint_of("10.0.0.1:80", 1.0)
        waiter = await dial_for(endpoint)
        assert endpoint.connecting == 0
        assert endpoint.cluster.stats.pending == 0
        return waiter

    return run_held(run())


def test_slow_connect_times_out() -> None:
    """After the cluster's connect timeout, on a clock that the test holds."""

    async def never(*args: object) -> None:
        await asyncio.get_running_loop().create_future()

    # The held loop refuses to wait for nothing, so the timeout is the only thing that can happen.
    assert with_create_connection(never).failures == [errors.CONNECT_TIMEOUT]


def test_surprise_while_connecting_is_told(caplog: Any) -> None:
    """Whatever the resolver raises, nobody waits for ever."""

    async def surprise(*args: object) -> None:
        raise UnicodeError("label too long")

    assert with_create_connection(surprise).failures == [errors.CONNECT_FAILED]
    assert "dial_failed" in caplog.text


class LastMoment:
    """A loop's `create_connection` that makes its connection in the very turn in which the connect timeout fires."""

    def __init__(self, *, is_before: bool) -> None:
        self.is_before = is_before
        self.transport: FakeTransport | None = None

    async def __call__(self, factory: Callable[[], ServerConnection], *args: object) -> None:
        loop = asyncio.get_running_loop()
        self._protocol = factory()
        if self.is_before:
            self._make()
            # The connect timeout, and the time that a loop is given that was late itself, are over before this goes on.
            await asyncio.sleep(5.0)
            return
        try:
            await loop.create_future()
        finally:
            self._make()

    def _make(self) -> None:
        self.transport = FakeTransport(FakeLoop(), self._protocol, None)  # type: ignore[arg-type]
        self._protocol.connection_made(self.transport)


def test_connection_that_comes_just_before_its_time_is_over_is_handed_out_and_stays() -> None:
    """The timeout finds it made, and takes nothing from whoever has it."""
    waiter = with_create_connection(LastMoment(is_before=True))
    (connection,) = waiter.connections
    assert waiter.failures == []
    assert isinstance(connection, ServerConnection)
    assert connection.state == State.IDLE
    assert connection.endpoint.connections == 1
    connection.abort()


def test_connection_that_comes_just_after_its_time_was_over_is_closed_and_handed_to_nobody() -> None:
    """Who waits hears of a connect timeout, which is tried elsewhere, and not of a server that closes."""
    moment = LastMoment(is_before=False)
    waiter = with_create_connection(moment)
    assert waiter.connections == []
    assert waiter.failures == [errors.CONNECT_TIMEOUT]
    assert moment.transport is not None
    assert moment.transport.is_closing()


@pytest.mark.parametrize("turns", range(4))
def test_a_loop_that_was_held_for_longer_than_a_dial_may_take_has_its_connection(turns: int) -> None:
    """Whichever step it was held at: the server has answered in time, and who waited gets a connection that lives."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = socket.create_server(("127.0.0.1", 0))
        endpoint = endpoint_of(f"127.0.0.1:{server.getsockname()[1]}", 0.1)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.send(b"x")

        def hold() -> None:
            loop.remove_reader(ours)
            time.sleep(0.3)

        waiter = Waiter()
        dialer = Dialer(loop, Timers(loop), Outbox(loop))
        pool.wait(endpoint, waiter, dialer.dial)
        for _ in range(turns):
            await asyncio.sleep(0)
        loop.add_reader(ours, hold)
        await waiter.told.wait()
        await asyncio.gather(*dialer._tasks)
        (connection,) = waiter.connections
        assert isinstance(connection, ServerConnection)
        assert connection.state == State.IDLE
        assert connection.transport is not None
        assert not connection.transport.is_closing()
        connection.abort()
        for sock in (server, ours, theirs):
            sock.close()
        for _ in range(3):  # until the loop has closed what was aborted
            await asyncio.sleep(0)

    uvloop.run(run())


def test_stopped_dialer_leaves_no_task() -> None:
    """At the end of the process what is under way is given up."""

    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def never(*args: object) -> None:
            await loop.create_future()

        loop.create_connection = never  # type: ignore[method-assign,assignment]
        dialer = Dialer(loop, Timers(loop), Outbox(loop))
        pool.wait(endpoint_of("10.0.0.1:80"), Waiter(), dialer.dial)
        await asyncio.sleep(0)
        assert repr(dialer) == "<Dialer 1 under way>"
        dialer.stop()
        await asyncio.gather(*dialer._tasks, return_exceptions=True)

    asyncio.run(run())


class _Closing(asyncio.Protocol):
    """A server that takes TLS, or clear, and waits for its client to leave."""


@pytest.mark.parametrize("is_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("is_refused", [False, True], ids=["made", "refused"])
def test_dial_leaves_no_cycle(tmp_path: Path, is_tls: bool, is_refused: bool) -> None:
    """A connection, its handshake and what dialed it are freed by their reference counts: docs/memory.md."""
    root = Authority("shop root")
    root.leaf(["localhost"]).write(tmp_path)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client_context = ssl.create_default_context(cadata=(Authority("other") if is_refused else root).pem.decode())

    held = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Closing, "127.0.0.1", 0, ssl=server_context if is_tls else None)
        endpoint = endpoint_of(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        held.append(endpoint)
        if is_tls:
            endpoint.is_tls = True
            endpoint.cluster.tls = ClientSide(server_name="localhost")
            endpoint.cluster.tls.replace(client_context)
        if is_refused and not is_tls:
            server.close()
            await server.wait_closed()
        waiter = await dial_for(endpoint)
        assert len(waiter.failures) == is_refused
        for connection in waiter.connections:
            assert isinstance(connection, ServerConnection)
            connection.abort()
        server.close()
        await asyncio.sleep(0.01)  # until the loop has closed what was aborted

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        uvloop.run(run())
        gc.collect()
        names = {type(one).__name__ for one in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert names.isdisjoint({"ServerConnection", "Securing", "TlsTransport", "_Attempt"})
