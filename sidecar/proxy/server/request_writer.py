"""
Requests as a server of HTTP/1.1 receives them. *Hot path.*
"""

from __future__ import annotations

from sidecar.http1.body import frame, frame_parts
from sidecar.message import Field
from sidecar.net.flow import MUCH_BYTES, BatchingWriter
from sidecar.proxy.exchange.request import UpstreamRequest


def write_with_body(connection: BatchingWriter, head: bytes, request: UpstreamRequest) -> None:
    """A request's head, and what is kept of its body."""
    parts = frame_parts(request.head.framing, request.body or [], request.is_complete, request.trailers)
    if request.body_bytes <= MUCH_BYTES:
        connection.write(b"".join((head, *parts)))
    else:
        connection.write(head)
        connection.write_much(parts)


def write_body(
    connection: BatchingWriter, framing: int, payload: bytes, is_complete: bool, trailers: list[Field]
) -> None:
    """More of the body."""
    data = frame(framing, payload, is_complete, trailers)
    if data:
        connection.write(data)
