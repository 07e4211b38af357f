"""Addresses as options say them, made into listeners. *On the loop.*"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from sidecar.control.server.acceptor import Acceptor
from sidecar.net.address import TcpAddress, parse_address


class ListenError(Exception):
    """An address that cannot be listened on; which, and why."""


async def listen(runner: web.AppRunner, address: str) -> web.TCPSite:
    """Serve in clear at `host:port`. Raises ListenError."""
    host, port = _parsed(address)
    site = web.TCPSite(runner, host, port, backlog=1024, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise ListenError(f"{address}: {(error.strerror or str(error)).lower()}") from None
    return site


async def accept_on(acceptor: Acceptor, address: str) -> None:
    """Take connections at `host:port`. Raises ListenError."""
    try:
        await acceptor.start(*_parsed(address))
    except OSError as error:
        raise ListenError(f"{address}: {(error.strerror or str(error)).lower()}") from None


def _parsed(address: str) -> tuple[str, int]:
    try:
        parsed = parse_address(address)
    except ValueError as error:
        raise ListenError(str(error)) from None
    if not isinstance(parsed, TcpAddress):
        raise ListenError(f"expected host:port, found {address!r}")
    return parsed.host, parsed.port


def maker_of(runner: web.AppRunner) -> Callable[[], asyncio.BaseProtocol]:
    """What makes a protocol for each connection."""
    assert runner.server is not None
    return runner.server


def names_of(addresses: Iterable[Any]) -> str:
    """Addresses for people."""
    return ",".join(f"{name[0]}:{name[1]}" for name in addresses)
