"""Requests whose whole answer is wanted. *Cold.*"""

from __future__ import annotations

import asyncio

from sidecar.link.transport.http_client import Answer, Transport, TransportError
from sidecar.link.transport.refusal import MAX_BODY_BYTES, Refusal, refusal_of
from sidecar.link.transport.server import Server


async def whole(answer: Answer, max_bytes: int, silent_s: float) -> bytes:
    """
    An answer's body.

    Args:
        silent_s: That may pass without an octet of it.

    Raises:
        TransportError: It was cut, is too long, or nothing more came.
    """
    pieces = bytearray()
    try:
        while True:
            async with asyncio.timeout(silent_s):
                data = await answer.read()
            if not data:
                return bytes(pieces)
            pieces += data
            if len(pieces) > max_bytes:
                raise TransportError(f"expected an answer of at most {max_bytes} octets")
    except TimeoutError:
        raise TransportError(f"nothing of the answer came for {silent_s:g} s") from None
    finally:
        answer.close()


async def refused(answer: Answer, silent_s: float) -> Refusal:
    """What an answer that is no success says."""
    try:
        body = await whole(answer, MAX_BODY_BYTES, silent_s)
    except TransportError:
        body = b""
    return refusal_of(answer.status, answer.headers, body)


async def post(transport: Transport, server: Server, target: str, body: bytes, timeout_s: float) -> Refusal | bytes:
    """
    Send JSON; the answer's body, or the refusal.

    Args:
        timeout_s: Once for the head, and for each silence after it.

    Raises:
        TransportError: There is no answer.
    """
    answer = await transport.ask(server, "POST", target, {}, body, timeout_s)
    if 200 <= answer.status < 300:
        return await whole(answer, MAX_BODY_BYTES, timeout_s)
    return await refused(answer, timeout_s)
