"""
A client's connection whose last response is written: what is left is that it arrives (RFC 9112, 9.6).

It takes the connection's place at the transport, so that nothing else of it is kept meanwhile. A close with bytes
unread would reset the connection and destroy the response on its way: so what the client still sends is read and
dropped until it closes, or for a while.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, cast

from sidecar.net.timers import NOT_ARMED, Timed
from sidecar.proxy.live import ListenerState, Live

LINGER_S: Final = 2.0
"""For a client to which all is sent to close, in seconds."""


class LingeringConnection(Timed):
    """
    An `asyncio.Protocol` by its methods.

    Args:
        live: What all connections share.
        listener_state: The listener that accepted it.
        transport: Whose protocol it becomes; what is written is with it.
        opened_ns: When the client connected.
        patience_s: Until it is cut, whatever is unsent.
    """

    __slots__ = ("_live", "_opened_ns", "_transport", "bucket", "deadline", "listener_state")

    def __init__(
        self, live: Live, listener_state: ListenerState, transport: asyncio.Transport, opened_ns: int, patience_s: float
    ) -> None:
        self._live = live
        self._transport = transport
        self._opened_ns = opened_ns
        self.listener_state = listener_state
        self.deadline = inf
        self.bucket = NOT_ARMED
        transport.set_protocol(cast("asyncio.Protocol", self))
        live.timers.arm(self, live.timers.time() + patience_s)

    def __repr__(self) -> str:
        return f"<LingeringConnection {self._transport.get_write_buffer_size()} bytes unsent>"

    # --- the runtime's side ----------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """It does nothing else."""

    def drain(self) -> None:
        """It does nothing else."""

    def abort(self) -> None:
        """Close now, whatever is unsent."""
        self._transport.abort()

    # --- the transport's side --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Nothing that matters."""

    def eof_received(self) -> bool:
        """The client has read to the end, or does not care: close when all is sent."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._live.timers.forget(self)
        self._live.forget(self, self._opened_ns)

    def pause_writing(self) -> None:
        """Nothing more is written."""

    def resume_writing(self) -> None:
        """Nothing more is written."""

    def on_deadline(self, now: float) -> None:
        """The client neither closes nor reads."""
        self._transport.abort()
