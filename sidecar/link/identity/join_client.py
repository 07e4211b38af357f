"""The questions of `messages`, asked over connections that are made for one each. *Cold.*"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from sidecar import __version__
from sidecar.link.identity.messages import (
    JOIN,
    NONCE,
    TRUST,
    Joined,
    JoinRequest,
    read_joined,
    read_nonce,
    read_trust,
    write_join,
)
from sidecar.link.identity.server_trust import Anyone
from sidecar.link.transport.http_client import HttpClient
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.short import refused, whole
from sidecar.link.transport.tls import Tls

TIMEOUT_S: Final = 10.0
"""Once for the head of an answer, and for each silence after it; a control plane may have a thousand to sign for."""
MAX_ANSWER_BYTES: Final = 256 * 1024


class HttpJoinClient:
    """
    A `JoinClient`.

    Args:
        made: Makes what asks, given how its servers are verified.
    """

    def __init__(self, made: Callable[[Tls], HttpClient] | None = None) -> None:
        self._made = made or (lambda tls: HttpClient(user_agent=f"sidecar/{__version__}", tls=tls))

    async def trust(self, server: Server) -> str | Refusal:
        """As in `JoinClient`: nothing secret is said, and what comes is believed by its SHA-256 or not at all."""
        body = await self._ask(server, Anyone(), "GET", TRUST)
        return body if isinstance(body, Refusal) else read_trust(body).trust

    async def nonce(self, server: Server, tls: Tls) -> str | Refusal:
        """As in `JoinClient`."""
        body = await self._ask(server, tls, "GET", NONCE)
        return body if isinstance(body, Refusal) else read_nonce(body)

    async def join(self, server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
        """As in `JoinClient`."""
        body = await self._ask(server, tls, "POST", JOIN, write_join(request))
        return body if isinstance(body, Refusal) else read_joined(body)

    async def _ask(self, server: Server, tls: Tls, method: str, target: str, body: bytes = b"") -> bytes | Refusal:
        client = self._made(tls)
        try:
            fields: Mapping[str, str] = {}
            answer = await client.ask(server, method, target, fields, body, TIMEOUT_S)
            if 200 <= answer.status < 300:
                return await whole(answer, MAX_ANSWER_BYTES, TIMEOUT_S)
            return await refused(answer, TIMEOUT_S)
        finally:
            with suppress(asyncio.CancelledError):
                await client.close()
