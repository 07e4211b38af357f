"""
Large bodies are read into one buffer that the loop's connections share, and written from there. *Hot path.*

Whose it is changes with every read: one connection reads into it and writes it to its client within the same callback;
where the client's transport cannot send it all, it keeps the buffer, and `net.flow.Outbox` has another.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.net.flow import Outbox


class BufferedConnection(Protocol):
    """For whom is read."""

    def on_buffer(self, data: memoryview) -> None:
        """Bytes in the shared buffer, which may be written over as soon as this returns."""

    def eof_received(self) -> bool:
        """As `asyncio.Protocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """As `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """As `asyncio.Protocol`."""


class BufferedReader:
    """
    Reads what is left of a large body, in the connection's place, into the shared buffer.

    It is an `asyncio.BufferedProtocol` by its methods.

    A transport makes new `bytes` of what it reads; without, a body costs a tenth to a quarter less (docs/memory.md).

    Args:
        connection: Told what comes.
        outbox: Has the buffer.
    """

    __slots__ = ("_connection", "_outbox")

    def __init__(self, connection: BufferedConnection, outbox: Outbox) -> None:
        self._connection = connection
        self._outbox = outbox

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._outbox.read_buffer

    def buffer_updated(self, size: int) -> None:
        """So much was read."""
        self._connection.on_buffer(self._outbox.read_buffer[:size])

    def eof_received(self) -> bool:
        """As the connection."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the connection."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """As the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """As the connection."""
        self._connection.resume_writing()
