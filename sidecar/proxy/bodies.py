"""
The part of a client connection that reads what follows a head: bodies, what is left of them, tunnels. *Hot path.*

It stands between the writing half and `downstream.DownstreamConnection`, which reads heads and has the essay on states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar import errors
from sidecar.http1.body import ChunkedReader, encode_chunk, encode_end
from sidecar.http1.grammar import GrammarError
from sidecar.message import Framing, RequestHead
from sidecar.proxy.relay import State, WritingHalf

if TYPE_CHECKING:
    from sidecar.proxy.live import Live


class BodyReader(WritingHalf):
    """
    Args:
        live: What all connections share.
    """

    __slots__ = ("_chunked",)

    def __init__(self, live: Live) -> None:
        super().__init__(live)
        self._chunked: ChunkedReader | None = None

    def _continue(self) -> None:
        """Take what was left for another turn of the loop."""
        raise NotImplementedError

    def _begin_body(self, head: RequestHead, rest: bytes) -> tuple[bytes, bytes, bool]:
        """The body's part of what follows a head, framed for the upstream; what follows the body; whether it is all."""
        exchange = self._exchange
        assert exchange is not None
        if head.framing == Framing.LENGTH:
            length = head.content_length
            if len(rest) >= length:
                self._state = State.WAIT
                exchange.bytes_received = length
                return rest[:length], rest[length:], True
            self._state = State.LENGTH
            self._left = length - len(rest)
            exchange.bytes_received = len(rest)
            return rest, b"", False
        self._state = State.CHUNKED
        self._chunked = ChunkedReader(self._live.plan.limits.max_header_bytes)
        return self._take_chunks(rest)

    def _take_chunks(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """As `_begin_body`, for more of a chunked body."""
        exchange, chunked = self._exchange, self._chunked
        assert exchange is not None
        assert chunked is not None
        payload, end = chunked.feed(data)
        exchange.bytes_received += len(payload)
        body = encode_chunk(payload) if payload else b""
        if not chunked.is_complete:
            return body, data[end:], False
        self._state = State.WAIT
        self._chunked = None
        return body + encode_end(chunked.trailers), data[end:], True

    def _on_length_bytes(self, data: bytes) -> None:
        exchange, attempt = self._exchange, self._attempt
        assert exchange is not None
        assert attempt is not None
        left = self._left - len(data)
        if left <= 0:
            self._state = State.WAIT
            if left < 0:
                data, self._buffer = data[:left], data[left:]
        self._left = max(left, 0)
        exchange.bytes_received += len(data)
        self._touch()
        attempt.send_body(data, left <= 0)

    def _on_chunked_bytes(self, data: bytes) -> None:
        attempt = self._attempt
        assert attempt is not None
        try:
            body, self._buffer, is_complete = self._take_chunks(self._buffer + data)
        except GrammarError as error:
            self._fail(errors.BAD_REQUEST_BODY, str(error))
            return
        self._touch()
        if self._buffer and not is_complete:
            self._live.loop.call_soon(self._continue)
            self._update_reading()
        attempt.send_body(body, is_complete)

    def _on_discarded_bytes(self, data: bytes) -> None:
        left = self._left - len(data)
        self._left = max(left, 0)
        if left <= 0:
            self._buffer = data[left:] if left else b""
            self._proceed()

    def _on_tunnel_bytes(self, data: bytes) -> None:
        exchange, attempt = self._exchange, self._attempt
        if exchange is not None and attempt is not None:
            exchange.bytes_received += len(data)
            self._touch()
            attempt.send_tunnel(data)
