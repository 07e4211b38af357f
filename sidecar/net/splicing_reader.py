"""
Reads of a large body only its beginning each time that the socket has some, and lets the rest be spliced. *Hot path.*

A transport tells that its socket has received something by reading it. So a few octets are read, into a buffer that
all connections of the loop share; what the socket has behind them goes to the other socket with them, without being
read (`net.splice`). Where that cannot be, because the other side has unsent octets, or where so little
came that it is not worth it, more is read the next time.
"""

from __future__ import annotations

from typing import Final, Protocol

# Copied: so as few as tell that more is there.
_FIRST_BYTES: Final = 4096
# Three more system calls cost as much as two copies of so many octets.
_WORTH_BYTES: Final = 48 * 1024
# When nothing can be spliced, or little. Two segments of a loopback, whose MTU is 65,536: 128 KiB would be two and a
# third of 106 octets, with which a response of 1 MiB costs three quarters more (docs/memory.md).
_READ_BYTES: Final = 128_000

_memory: Final = memoryview(bytearray(_READ_BYTES))
_beginning: Final = _memory[:_FIRST_BYTES]


class SplicingConnection(Protocol):
    """For whom is read."""

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""

    def splice(self, first: bytes) -> int:
        """As `data_received`, and let what the socket has received behind them be spliced; returns how many were."""

    def eof_received(self) -> bool:
        """As `asyncio.Protocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`."""

    def pause_writing(self) -> None:
        """As `asyncio.Protocol`."""

    def resume_writing(self) -> None:
        """As `asyncio.Protocol`."""


class SplicingReader:
    """
    In a connection's place at its transport while a large body is read: an `asyncio.BufferedProtocol` by its methods.

    Args:
        connection: Told what comes.
    """

    __slots__ = ("_connection", "_splices")

    def __init__(self, connection: SplicingConnection) -> None:
        self._connection = connection
        self._splices = True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to; within the same callback it is copied, so it may be everybody's."""
        return _beginning if self._splices else _memory

    def buffer_updated(self, size: int) -> None:
        """So much was read."""
        if self._splices and size == _FIRST_BYTES:
            self._splices = self._connection.splice(bytes(_beginning)) >= _WORTH_BYTES
        else:
            self._connection.data_received(bytes(_memory[:size]))
            self._splices = size == _READ_BYTES

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
