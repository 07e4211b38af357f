"""
Messages between a supervisor and a worker: tuples over a socket pair. *Cold.*

    message = length (four octets, little endian), a tuple as `marshal` writes it, its first item the message's name

Both ends are the same program of the same interpreter, run by the same user, which is what `marshal` asks for. What
each message means is said where it is handled: `member` at the supervisor's end, `worker` at the other.

Listening sockets go another way (`send_sockets`), because descriptors travel with octets of their own (unix(7)).
"""

from __future__ import annotations

import asyncio
import json
import logging
import marshal
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from sidecar.compile.listener_spec import Role

logger = logging.getLogger(__name__)

Message = tuple[Any, ...]
Key = tuple[Role, str]
"""A listener: role and address."""

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
"""Twice the longest frame of a configuration; what claims to be longer is no message."""

_LENGTH = struct.Struct("<I")
_SOCKETS_AT_ONCE = 250  # SCM_MAX_FD is 253.
_MAX_LIST_BYTES = 64 * 1024


class Channel(asyncio.Protocol):
    """
    One end.

    Args:
        on_message: Called with each message, in order.
        on_lost: Called once, when the other end is gone; not when this one was closed.
    """

    def __init__(self, on_message: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._is_closed = False
        self._can_write = asyncio.Event()
        self._can_write.set()

    async def open(self, sock: socket.socket) -> None:
        """Begin; `sock` is the channel's from now on."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, *message: Any) -> None:
        """Say something; nobody may be there to hear it."""
        if self._transport is None or self._transport.is_closing():
            return
        octets = marshal.dumps(message)
        self._transport.write(_LENGTH.pack(len(octets)) + octets)

    async def writable(self) -> None:
        """Wait until the other end has taken enough of what was said."""
        await self._can_write.wait()

    async def flushed(self) -> None:
        """Wait until the kernel has all that was said, or nobody is there."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.set_write_buffer_limits(0)
            while transport.get_write_buffer_size() and not transport.is_closing():
                self._can_write.clear()
                await self._can_write.wait()

    def close(self) -> None:
        """Say and hear nothing more."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()

    # --- callbacks of the event loop ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """Hand on every message that is whole."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_MESSAGE_BYTES:
                raise ValueError(f"expected a message of at most {MAX_MESSAGE_BYTES} octets, found {length}")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            message = marshal.loads(memoryview(buffer)[start + _LENGTH.size : end])
            start = end
            self._on_message(message)
        del buffer[:start]

    def pause_writing(self) -> None:
        """The other end is slow."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._can_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell, once."""
        self._transport = None
        self._can_write.set()
        if not self._is_closed:
            self._on_lost()


def send_sockets(sock: socket.socket, listeners: Iterable[tuple[Key, socket.socket]]) -> int:
    """
    Lend listening sockets over a SOCK_SEQPACKET pair.

    Returns:
        How many times the other end must call `receive_sockets`; it may do so at once when it has been told.

    Raises:
        OSError: Nobody is there, or does not take what was sent before.
    """
    rest = list(listeners)
    times = 0
    while rest:
        some, rest = rest[:_SOCKETS_AT_ONCE], rest[_SOCKETS_AT_ONCE:]
        listed = json.dumps([[role.value, address] for (role, address), _ in some]).encode()
        socket.send_fds(sock, [listed], [one.fileno() for _, one in some])
        times += 1
    return times


def receive_sockets(sock: socket.socket, times: int) -> dict[Key, socket.socket]:
    """What was lent; the sockets are the caller's to close."""
    found: dict[Key, socket.socket] = {}
    for _ in range(times):
        listed, descriptors, _, _ = socket.recv_fds(sock, _MAX_LIST_BYTES, _SOCKETS_AT_ONCE)
        sockets: Sequence[socket.socket] = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        for (role, address), one in zip(json.loads(listed), sockets, strict=True):
            one.setblocking(False)
            found[Role(role), address] = one
    return found
