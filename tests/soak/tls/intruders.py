"""
Clients that speak TLS badly, or not with what they should, at a port that takes both: each kind is a visit, and what
the sidecar must say of it is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from tests.soak.recorder import RESET
from tests.soak.tls import keys
from tests.soak.tls.world import CALLERS, LONG_AGO, World
from tests.support.hellos import sent_by

REASONS = {
    "garbage": "",
    "half hello": "",
    "vanish": "",
    "key updates": "",
    "nonsense": "client_tls_failed",
    "old version": "client_tls_failed",
    "reset": "client_tls_failed",
    "half and silent": "client_tls_timeout",
    "silent": "client_tls_timeout",
    "no certificate": "client_certificate_missing",
    "expired": "client_certificate_expired",
    "stranger": "client_certificate_untrusted",
    "dropped root": "client_certificate_untrusted",
    "other mesh": "client_identity_mismatch",
    "believes others": "client_refused_certificate",
    "foreign protocol": "client_tls_alpn",
}
"""What is said of each; of some nothing, for they are no handshake that failed."""
KINDS = tuple(REASONS)
_UPDATES = 200
_TIMEOUT_S = 60.0


class Intruders:
    """
    Args:
        world: Who signs.
        seed: Decides about octets.
        port: Where they come.

    Attributes:
        visits: Those that are over, by kind.
    """

    def __init__(self, world: World, seed: str, port: Callable[[], int]) -> None:
        self.visits: Counter[str] = Counter()
        self._world = world
        self._chance = random.Random(seed)
        self._port = port

    async def come(self) -> None:
        """One of each kind, all at once."""
        kinds = [kind for kind in KINDS if kind != "dropped root" or self._world.dropped is not None]
        await asyncio.gather(*(self.visit(kind) for kind in kinds))

    async def visit(self, kind: str) -> None:
        """One; it is over when the sidecar has closed the connection, or the client has."""
        by_hand: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "garbage": lambda: self._say(b"\x00\xffno TLS\r\n\r\n"),
            "nonsense": lambda: self._say(b"\x16\x03\x01\x00\x20\x02" + self._chance.randbytes(31)),
            "half hello": lambda: self._say(self._hello(0.5), is_over=True),
            "half and silent": lambda: self._say(self._hello(0.5)),
            "silent": lambda: self._say(self._hello()),
            "reset": lambda: self._say(self._hello(), is_reset=True),
        }
        if kind in by_hand:
            await by_hand[kind]()
        else:
            context = await asyncio.to_thread(self._context, kind)
            await asyncio.to_thread(self._knock, context, kind)
        self.visits[kind] += 1

    def _hello(self, share: float = 1.0) -> bytes:
        hello = sent_by(self._world.contexts[CALLERS[0]], None)
        return hello[: int(len(hello) * share)]

    async def _say(self, data: bytes, *, is_over: bool = False, is_reset: bool = False) -> None:
        """Say it, and then end, or take what comes until the sidecar ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port())
        with contextlib.suppress(OSError):
            writer.write(data)
            await writer.drain()
            if is_reset:
                await reader.read(1)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif not is_over:
                async with asyncio.timeout(_TIMEOUT_S):
                    while await reader.read(65536):
                        pass
        writer.transport.abort() if is_reset else writer.close()

    # --- in a thread: what asyncio would not send, an alert above all, is sent ---------------------------------------

    def _context(self, kind: str) -> ssl.SSLContext:
        world, me = self._world, CALLERS[0]
        match kind:
            case "no certificate":
                return world.client(None)
            case "expired":
                return world.client(world.root.workload(me, **LONG_AGO))
            case "stranger":
                return world.client(world.stranger.workload(me))
            case "dropped root":
                assert world.dropped is not None
                return world.client(world.dropped.workload(me))
            case "other mesh":
                return world.client(world.root.workload("spiffe://elsewhere/web0"))
            case "believes others":
                return world.client(world.root.workload(me), believes=world.stranger.pem)
            case "foreign protocol":
                return world.client(world.root.workload(me), alpn="h2")
            case "old version":
                return world.client(world.root.workload(me), newest=ssl.TLSVersion.TLSv1_2)
        return world.client(world.root.workload(me))

    def _knock(self, context: ssl.SSLContext, kind: str) -> None:
        with (
            socket.create_connection(("127.0.0.1", self._port()), _TIMEOUT_S) as raw,
            contextlib.suppress(OSError),
            context.wrap_socket(raw, server_hostname="storm") as secured,
        ):
            if kind == "vanish":
                return  # closed without a close_notify
            if kind == "key updates":
                # Half a request, and new keys again and again, each of which is to be answered.
                secured.sendall(b"GET / HTTP/1.1\r\n")
                for _ in range(_UPDATES):
                    keys.update(secured)
                    secured.sendall(b"X-Nothing: 1\r\n")
                return
            secured.sendall(b"GET / HTTP/1.1\r\n")
            while secured.recv(65536):
                pass
