"""
Large bodies are read into memory that is lent, and written from there. *Hot path.*

Whose it is changes with every read: one connection of the loop reads into it and writes it to its client within the
same callback; where the client's transport cannot send it all, it keeps the memory, and `net.flow.Outbox` lends other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.net.flow import Outbox

if TYPE_CHECKING:
    from sidecar.proxy.upstream_conn import UpstreamConnection


class LentReader:
    """
    Reads what is left of a large body, in the connection's place, into memory that is lent: an
    `asyncio.BufferedProtocol`.

    A transport makes new `bytes` of what it reads; without, a body costs a tenth to a quarter less (docs/memory.md).

    Args:
        connection: Told what comes.
        outbox: Lends the memory.
    """

    __slots__ = ("_connection", "_outbox")

    def __init__(self, connection: UpstreamConnection, outbox: Outbox) -> None:
        self._connection = connection
        self._outbox = outbox

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._outbox.memory

    def buffer_updated(self, size: int) -> None:
        """So much was read."""
        self._connection.on_lent(self._outbox.memory[:size])

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
