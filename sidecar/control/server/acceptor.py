"""
Connections to 15010: TLS, or in clear where that is allowed, told apart by their first octet. *On the loop.*

    0x16          the beginning of a handshake (RFC 8446, 5.1): TLS, with the context of this moment
    another one   a request in clear: served, or told that this port says TLS

So a mesh that runs in clear moves to TLS on the same port, and certificates are replaced without listening anew. How
many handshakes are under way is bounded: a thousand at once cost a core for two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sidecar.net.tls.hello import begins_tls
from sidecar.process_log import event

logger = logging.getLogger(__name__)

FIRST_OCTET_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
MAX_HANDSHAKES: Final = 128
MAX_SILENT: Final = 4096
"""Connections that have said nothing yet; of more, the new ones are closed."""
_REFUSAL_BODY: Final = b'{"error": "this port says TLS: ask https://"}\n'
_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_REFUSAL_BODY), _REFUSAL_BODY)
)


class Acceptor:
    """
    Args:
        make: A protocol for a connection.
        context: What to say TLS with now; None: there is nothing to show, and TLS is refused.
        takes_clear: Whether requests in clear are served.

    Attributes:
        connections: Counted by what became of them: `tls`, `clear`, `clear_refused`, `failed`, `silent`.
    """

    def __init__(
        self, make: Callable[[], asyncio.BaseProtocol], context: Callable[[], ssl.SSLContext | None], takes_clear: bool
    ) -> None:
        self._make = make
        self._context = context
        self._takes_clear = takes_clear
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._handshakes = asyncio.Semaphore(MAX_HANDSHAKES)
        self.connections: Counter[str] = Counter()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [one.getsockname()[:2] for one in self._listening]

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            try:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setblocking(False)
                one.bind(address)
                one.listen(1024)
            except BaseException:
                one.close()
                await self.close()
                raise
            self._listening.append(one)
        self._accepting = [asyncio.create_task(self._accept(one)) for one in self._listening]

    async def close(self) -> None:
        """Take no more connections; those that are there stay."""
        for task in (*self._accepting, *self._under_way):
            task.cancel()
        await asyncio.gather(*self._accepting, *self._under_way, return_exceptions=True)
        for one in self._listening:
            one.close()
        self._accepting, self._listening = [], []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, _ = await loop.sock_accept(listening)
            except OSError as error:
                # No descriptor is left, or the peer is gone already: neither ends the port.
                logger.warning(event("not_accepted", error=error.strerror or str(error)))
                await asyncio.sleep(0.1)
                continue
            if len(self._under_way) >= MAX_SILENT:
                self.connections["silent"] += 1
                taken.close()
                continue
            task = asyncio.create_task(self._take(taken))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _take(self, taken: socket.socket) -> None:
        context: ssl.SSLContext | None = None
        is_served = False
        try:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = await _first_octet(taken)
            if begins_tls(first):
                context = self._context()
                is_served = context is not None
            else:
                is_served = bool(first) and self._takes_clear
            if not is_served:
                self._refuse(taken, first)
        except OSError:
            self.connections["failed"] += 1
        finally:
            if not is_served:
                taken.close()
        if is_served:
            await self._serve(taken, context)

    def _refuse(self, taken: socket.socket, first: bytes) -> None:
        if not first:
            self.connections["silent"] += 1
        elif begins_tls(first):
            self.connections["failed"] += 1
        else:
            self.connections["clear_refused"] += 1
            with suppress(OSError):
                taken.send(_REFUSAL)
                # What was not read would make of the close a reset, and of the answer nothing.
                taken.recv(64 * 1024)

    async def _serve(self, taken: socket.socket, context: ssl.SSLContext | None) -> None:
        """
        Hand it over to the loop, whose it is from here on, also if that fails: closing it here as well could close what
        has the same number by then.
        """
        loop = asyncio.get_running_loop()
        try:
            if context is None:
                await loop.connect_accepted_socket(self._make, taken)
            else:
                async with self._handshakes:
                    await loop.connect_accepted_socket(
                        self._make, taken, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
                    )
        except OSError:  # what goes wrong in a handshake is an ssl.SSLError, which is one
            self.connections["failed"] += 1
            return
        self.connections["clear" if context is None else "tls"] += 1


async def _first_octet(taken: socket.socket) -> bytes:
    """The first one, which stays unread; empty if none came."""
    loop = asyncio.get_running_loop()
    is_there: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not is_there.done():
            is_there.set_result(None)

    loop.add_reader(taken, ready)
    try:
        async with asyncio.timeout(FIRST_OCTET_S):
            await is_there
        return taken.recv(1, socket.MSG_PEEK)
    except (TimeoutError, BlockingIOError):
        return b""
    finally:
        loop.remove_reader(taken)
