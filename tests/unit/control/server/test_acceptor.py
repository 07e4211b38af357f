"""TLS and clear on one port: what becomes of connections, and of their descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import own as owns
from sidecar.control.authority import record as steps
from sidecar.control.server import acceptor as acceptor_module
from sidecar.control.server.acceptor import Acceptor
from tests.support.authority import new_key

WAIT_S = 60.0


class Echo(asyncio.Protocol):
    """Says back what it hears, and by which way it came."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._way = b"tls:" if transport.get_extra_info("ssl_object") is not None else b"clear:"

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._way + data)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server, and of a client that trusts it."""
    record = steps.made("shop", time.time())
    key, signer = new_key(), record.intermediate
    leaf = pki.make_leaf(
        "spiffe://shop/control", "r1", key.public_key(), signer.own, signer.private_key, time.time(), 3600
    )
    pair = pki.text_of([leaf, signer.own]) + pki.text_of_key(key)
    client = ssl.create_default_context(cadata=record.trust)
    client.check_hostname = False
    return owns._server_context(pair, record.trust), client


def run(test: Callable[[Acceptor, int], Coroutine[Any, Any, None]], context: Any, *, takes_clear: bool) -> None:
    async def act() -> None:
        acceptor = Acceptor(Echo, lambda: context, takes_clear)
        await acceptor.start("127.0.0.1", 0)
        try:
            async with asyncio.timeout(WAIT_S):
                await test(acceptor, acceptor.addresses[0][1])
        finally:
            await acceptor.close()

    uvloop.run(act())


async def said(port: int, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(data)
    try:
        return await reader.read(1000)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_first_octet_decides() -> None:
    """0x16 begins a handshake (RFC 8446, 5.1); no method of HTTP begins so."""
    server, client = contexts()

    async def test(acceptor: Acceptor, port: int) -> None:
        assert await said(port, b"GET /") == b"clear:GET /"
        assert await said(port, b"GET /", client) == b"tls:GET /"
        assert acceptor.connections == {"clear": 1, "tls": 1}

    run(test, server, takes_clear=True)


def test_clear_that_is_not_taken_is_told_so() -> None:
    """As an answer of HTTP."""
    server, client = contexts()

    async def test(acceptor: Acceptor, port: int) -> None:
        assert b"ask https://" in await said(port, b"GET /v1/mesh HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await said(port, b"x", client) == b"tls:x"
        assert acceptor.connections == {"clear_refused": 1, "tls": 1}

    run(test, server, takes_clear=False)


def test_without_a_certificate_tls_is_closed_and_clear_served() -> None:
    """Until the authority is there."""

    async def test(acceptor: Acceptor, port: int) -> None:
        assert await said(port, b"\x16\x03\x01") == b""
        assert await said(port, b"x") == b"clear:x"
        assert acceptor.connections == {"failed": 1, "clear": 1}

    run(test, None, takes_clear=True)


def test_handshakes_that_fail_leave_no_descriptor_and_harm_nobody() -> None:
    """Each descriptor is closed once, by whose it is: another connection may have its number by then."""
    server, client = contexts()

    async def test(acceptor: Acceptor, port: int) -> None:
        assert await said(port, b"x", client) == b"tls:x"
        await until(lambda: not acceptor._under_way)
        for _ in range(5):
            broken = [said(port, b"\x16\x03\x01\x00\x05garbage and more of it") for _ in range(20)]
            good = [said(port, b"x", client) for _ in range(5)]
            assert (await asyncio.gather(*broken, *good))[20:] == [b"tls:x"] * 5
        await until(lambda: acceptor.connections["failed"] == 100)
        assert acceptor.connections["tls"] == 26

    before = set(os.listdir("/proc/self/fd"))
    run(test, server, takes_clear=True)
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before) + 2


def test_who_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is who stops in the middle of a handshake."""
    monkeypatch.setattr(acceptor_module, "FIRST_OCTET_S", 0.2)
    monkeypatch.setattr(acceptor_module, "HANDSHAKE_S", 0.2)
    server, _ = contexts()

    async def test(acceptor: Acceptor, port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port)) as silent,
            socket.create_connection(("127.0.0.1", port)) as half,
        ):
            half.sendall(b"\x16")
            for one in (silent, half):
                assert await asyncio.to_thread(_rest, one) == b""
        await until(lambda: acceptor.connections == {"silent": 1, "failed": 1})

    run(test, server, takes_clear=True)


def _rest(one: socket.socket) -> bytes:
    one.settimeout(WAIT_S)
    try:
        return one.recv(100)
    except ConnectionError:
        return b""
