"""
How a server of gRPC says that it is (github.com/grpc/grpc, doc/health-checking.md): one call of its `Check`. *Cold.*
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from sidecar import __version__
from sidecar.net.grpc.call import OK, Call
from sidecar.net.grpc.protobuf import ProtobufError, fields, octets_field

PATH: Final = "/grpc.health.v1.Health/Check"

_SERVING: Final = 1
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""Of `HealthCheckResponse.ServingStatus`, by their numbers."""
_READ_BYTES: Final = 16 * 1024


async def ask(
    service: str,
    authority: str,
    scheme: str,
    headers: Sequence[tuple[str, str]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> str:
    """
    Ask once; the connection is the caller's, and of no use to others afterwards.

    Args:
        service: Of which it is asked; empty: of the whole server.
        authority: Who is asked.
        scheme: `http`, or `https` by TLS.
        headers: Further fields of the call, its metadata.

    Returns:
        Empty if it is `SERVING`, else what is wrong: another status, an error of gRPC, no gRPC at all.

    Raises:
        OSError: Sending or reading failed.
    """
    message = octets_field(1, service.encode()) if service else b""
    named = [("user-agent", f"sidecar/{__version__}"), *((name.lower(), value) for name, value in headers)]
    call = Call(PATH, authority, named, message, scheme)
    answers: list[bytes] = []
    while True:
        pending = call.to_send()
        if pending:
            writer.write(pending)
        if call.over is not None:
            break
        received = await reader.read(_READ_BYTES)
        if received:
            answers += call.feed(received)
        else:
            call.end()
    if call.over.code != OK:
        return call.over.text
    return _problem_of(answers)


def _problem_of(answers: Sequence[bytes]) -> str:
    """What is wrong with a server that has given these messages."""
    if len(answers) != 1:
        return f"it answers with {len(answers)} messages, not with one"
    status: int | bytes = 0  # of a field that is left out
    try:
        for field in fields(answers[0]):
            if field.number == 1:
                status = field.value
    except ProtobufError as error:
        return f"its answer is none of grpc.health.v1: {error}"
    if status == _SERVING:
        return ""
    is_known = isinstance(status, int) and status < len(_STATUSES)
    return f"it is {_STATUSES[status] if isinstance(status, int) and is_known else 'of an unknown status'}"
