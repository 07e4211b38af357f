"""A socket that ends while what it has received waits for its turn: what that says is heard before the end is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest

from sidecar.net.tls.failures import TruncatedError
from sidecar.net.tls.transport import TlsTransport
from tests.support.certificates import Authority
from tests.support.crowd import Crowd
from tests.unit.net.tls.test_transport import CLIENT_ID, SERVER_ID, End, context_of, in_loop

PROTOCOL_VERSION = b"\x15\x03\x03\x00\x02\x02\x46"


@pytest.fixture(scope="module")
def root() -> Authority:
    """Who both believe."""
    return Authority("shop root")


async def begun(root: Authority, end: End, *, is_server: bool) -> tuple[Crowd, socket.socket]:
    """One end of a connection, behind its first step, and the socket of the other one; on TCP, where resets are."""
    crowd = Crowd()
    context = context_of(root, SERVER_ID if is_server else CLIENT_ID, is_server=is_server)
    end.transport = TlsTransport(context, end, crowd.gate, is_server)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.create_connection(listening.getsockname())
        sock, _ = listening.accept()
    sock.setblocking(False)
    other.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: end.transport, sock=sock)  # type: ignore[arg-type, return-value]
    await crowd.wait_for(1)
    crowd.turn()
    return crowd, other


async def read(other: socket.socket) -> bytes:
    """What has come, once something has."""
    async with asyncio.timeout(30):
        return await asyncio.get_running_loop().sock_recv(other, 65536)


def leave(other: socket.socket, how: str) -> None:
    """Close: with an end, or with a reset."""
    if how == "reset":
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()


async def ended(end: End) -> None:
    """Wait until the socket's end has been told to the transport, whatever it makes of it."""
    sock = end.transport.get_extra_info("socket")
    async with asyncio.timeout(30):
        while sock.fileno() >= 0 and not end.events:
            with contextlib.suppress(OSError):
                if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in (1,):  # ESTABLISHED
                    break
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_an_alert_that_waits_is_heard_before_the_end(root: Authority, how: str) -> None:
    """A server refuses our hello and leaves at once."""

    async def main() -> None:
        client = End()
        crowd, other = await begun(root, client, is_server=False)
        assert await read(other)
        other.sendall(PROTOCOL_VERSION)
        await crowd.wait_for(1)
        leave(other, how)
        await ended(client)
        # Behind a reset nothing can be done with the socket any more, so it is looked at in that very moment.
        assert client.events == ([] if how == "end" else ["failed"])
        crowd.turn()
        assert client.events == ["failed"]
        assert isinstance(client.failure, ssl.SSLError)
        assert client.failure.reason == "TLSV1_ALERT_PROTOCOL_VERSION"

    in_loop(main)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_half_a_handshake_that_waits_was_cut(root: Authority, how: str) -> None:
    """Nothing in it says why."""

    async def main() -> None:
        client = End()
        crowd, other = await begun(root, client, is_server=False)
        assert await read(other)
        other.sendall(b"\x16\x03\x03\x00\x7a\x02")
        await crowd.wait_for(1)
        leave(other, how)
        await ended(client)
        crowd.turn()
        assert client.events == ["failed"]
        assert isinstance(client.failure, TruncatedError | ConnectionResetError), client.failure

    in_loop(main)


@pytest.mark.parametrize("says_end", [True, False], ids=["said", "cut"])
def test_a_client_that_says_all_at_once_and_ends_is_heard(root: Authority, says_end: bool) -> None:
    """The end of its handshake, a request and its end wait together; it still reads."""

    async def main() -> None:
        server = End(keeps_open=True)
        crowd, other = await begun(root, server, is_server=True)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context_of(root, CLIENT_ID, is_server=False).wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        other.sendall(outgoing.read())
        await crowd.wait_for(1)
        crowd.turn()
        while True:
            incoming.write(await read(other))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
        client.write(b"a request")
        if says_end:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.unwrap()
        other.sendall(outgoing.read())
        other.shutdown(socket.SHUT_WR)
        await crowd.wait_for(1)
        await ended(server)
        assert server.events == []
        crowd.turn()
        assert server.events[0] == "secured"
        assert server.received == b"a request"
        if says_end:
            assert server.events[1:] == ["eof"]
            server.transport.write(b"an answer")
            incoming.write(await read(other))
            server.transport.close()
            await server.until(lambda: "lost" in server.events)
            assert server.lost is None
        else:
            await server.until(lambda: "lost" in server.events)
            assert server.events == ["secured", "lost"]
            assert isinstance(server.lost, TruncatedError)
        other.close()

    in_loop(main)
