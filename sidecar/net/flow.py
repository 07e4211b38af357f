"""
Writes of one turn of the loop, made together at its end. *Hot path.*

uvloop writes at once. A proxy that reads, thinks for 20 us and writes, over and over, lets each peer fall asleep
between two writes, and every write then wakes one: some 6 us on a virtual machine, where waking a halted core is an
interrupt. Kept until the turn's end and made in a row, the writes find peers awake, and a request costs a fifth less
(docs/performance.md). The price is one `call_soon` a turn, not a request, and nothing is kept longer than a turn.
"""

from __future__ import annotations

import asyncio
import logging
import select
from typing import Final

log = logging.getLogger("sidecar.net")

# Connections flushed in a row, at some 6 us each; the rest of a crowded turn gives others theirs first.
_MAX_AT_ONCE: Final = 64
# Bodies gain nothing by waiting, and a turn may read megabytes: the transport must say early when it has enough.
MUCH_BYTES: Final = 16 * 1024
_MAX_WAITING_PIECES: Final = 8


class Outbox:
    """
    The connections of one loop that have something to write.

    Args:
        loop: Asked for one `call_soon` a turn in which anything is written.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[BatchingWriter] = []

    def add(self, writer: BatchingWriter) -> None:
        """Flush the writer at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(writer)

    def _flush(self) -> None:
        waiting = self._waiting
        if len(waiting) > _MAX_AT_ONCE:
            self._waiting = waiting[_MAX_AT_ONCE:]
            self._loop.call_soon(self._flush)
            waiting = waiting[:_MAX_AT_ONCE]
        else:
            self._waiting = []
        for writer in waiting:
            try:
                writer.flush()
            except Exception:
                # One connection's fault must not keep the others' bytes.
                log.exception("flush_failed writer=%r", writer)


class BatchingWriter:
    """
    A connection whose writes wait for the end of the turn; an `asyncio.Protocol` by its methods, not by its bases,
    because a compiled class has none that is not (docs/compiled.md).

    Everything that is written goes through `write`, and the connection ends through `end`, `end_writing` or
    `transport.abort`, so that order is kept: the first two flush, an abort drops.
    """

    __slots__ = ("_out", "_outbox", "_poll", "transport")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._out: list[bytes] = []
        self._poll: select.poll | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens

    def write(self, data: bytes) -> None:
        """Write at the end of this turn, or at once if it is much."""
        out = self._out
        if not out:
            if len(data) > MUCH_BYTES:
                self.transport.write(data)
                return
            self._outbox.add(self)
        out.append(data)
        if len(data) > MUCH_BYTES or len(out) > _MAX_WAITING_PIECES:
            self.flush()

    def write_much(self, parts: list[bytes]) -> None:
        """
        Write what is more than `MUCH_BYTES` together, at once, behind what waits, and without joining it.

        256 KiB of a body behind a head, or between a chunk's size and its end, are some 4 us to copy (docs/memory.md).
        """
        if self._out:
            parts = self._out + parts
            self._out = []
        if not self.transport.is_closing():
            self.transport.writelines(parts)

    def flush(self) -> None:
        """Hand over what was written; afterwards the transport tells whether it could be sent."""
        out = self._out
        if out:
            self._out = []
            if self.transport.is_closing():
                return
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def has_unsent(self) -> bool:
        """Whether bytes wait here or in the transport."""
        return bool(self._out) or self.transport.get_write_buffer_size() > 0

    def end(self) -> None:
        """Close when everything has been sent."""
        self.flush()
        self.transport.close()

    def end_writing(self) -> None:
        """Close the sending side when everything has been sent."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.flush()
            self.transport.write_eof()

    def is_quiet(self) -> bool:
        """
        Whether the kernel holds neither data nor an end of file from the peer: one system call.

        Asked before a connection is used again, and before more of a body is written.
        """
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)
