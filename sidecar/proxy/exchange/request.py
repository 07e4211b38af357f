"""
A request as it is sent upstream: its parts, before any wire's form, and what is kept of its body. *Hot path; pure.*

The body is kept until there is a connection, and beyond that only up to the policy's `max_body`, for another attempt.
"""

from __future__ import annotations

from typing import Final

from sidecar import grpc
from sidecar.message import NO_TRAILERS, Field, Kind, RequestHead

MAX_HELD_BYTES: Final = 64 * 1024
"""What is held of a body while a connection is being made; then the client is paused."""

REFUSABLE_BYTES: Final = 64 * 1024
"""What is kept of a body at least until the response begins, if its server may refuse it unread: by HTTP/2."""

WHATEVER_COMES: Final = 1 << 62

_NO_PIECES: Final[list[bytes]] = []
"""Of the many bodies of which nothing is kept yet; never changed."""


class UpstreamRequest:
    """
    Attributes:
        head: As received; decides method, query and framing.
        fields: After header edits, hop-by-hop fields included.
        path: After rewrites.
        host: A `Host` (`:authority`) in place of the received one, or None.
        added: Lines of telemetry and forwarding, each with its CRLF.
        upgrade: The protocol that it asks to switch to, if that is passed on, else empty.
        body: What is kept of the body, in pieces, or None when too much of it went by.
        body_bytes: How much of the body came so far, in bytes.
        trailers: Fields behind the body, once it is complete.
        is_complete: Whether all of it has come.
    """

    __slots__ = ("added", "body", "body_bytes", "fields", "head", "host", "is_complete", "path", "trailers", "upgrade")

    def __init__(
        self, head: RequestHead, fields: list[Field], path: bytes, host: bytes | None, added: bytes, upgrade: bytes
    ) -> None:
        self.head = head
        self.fields = fields
        self.path = path
        self.host = host
        self.added = added
        self.upgrade = upgrade
        self.body: list[bytes] | None = _NO_PIECES
        self.body_bytes = 0
        self.trailers = NO_TRAILERS
        self.is_complete = True

    def __repr__(self) -> str:
        so_far = "" if self.is_complete else " so far"
        return f"<UpstreamRequest {self.head.method!r} {self.path!r} {self.body_bytes} bytes{so_far}>"

    def is_awaited(self) -> bool:
        """Whether the upstream is to speak next: it has all, or the client waits for its 100 (RFC 9110, 10.1.1)."""
        return self.is_complete or (self.head.kinds & Kind.EXPECT != 0 and not self.body_bytes)

    def shorten(self, left_s: float) -> list[Field]:
        """
        Let `grpc-timeout`, if there is one, say what is left of the time, and no more than it said when it came.

        Returns:
            What `fields` were, and are to be again once this is sent: another attempt has another rest.
        """
        came = self.fields
        fields: list[Field] = []
        for field in came:
            if field.kind & Kind.GRPC_TIMEOUT and field.note is not None and left_s < field.note:
                value = grpc.format_timeout(left_s)
                field = Field(field.name, value, field.kind, b"%b: %b" % (field.name, value), field.note)
            fields.append(field)
        self.fields = fields
        return came

    def begin(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """There is a body: its first part, possibly empty."""
        self.is_complete = is_complete
        self.body = [payload] if payload else _NO_PIECES
        self.body_bytes = len(payload)
        self.trailers = trailers

    def add(self, payload: bytes, is_complete: bool, trailers: list[Field], max_bytes: int) -> None:
        """More of the body, of which so much is kept together; what exceeds it is not kept at all."""
        self.is_complete = is_complete
        self.trailers = trailers
        if payload:
            self.body_bytes += len(payload)
            if self.body is not None:
                if self.body_bytes > max_bytes:
                    self.body = None
                elif self.body:
                    self.body.append(payload)
                else:
                    self.body = [payload]
