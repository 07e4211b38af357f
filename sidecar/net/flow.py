"""
Writes of one turn of the loop, made together at its end. *Hot path.*

uvloop writes at once. A proxy that reads, thinks for 20 us and writes, over and over, lets each peer fall asleep
between two writes, and every write then wakes one: some 6 us on a virtual machine, where waking a halted core is an
interrupt. Kept until the turn's end and made in a row, the writes find peers awake, and a request costs a fifth less
(docs/performance.md). The price is one `call_soon` a turn, not a request, and nothing is kept longer than a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import select
import socket
import struct
import termios
from array import array
from typing import Final, Protocol, cast

from sidecar.net.tls.transport import TlsTransport

log = logging.getLogger("sidecar.net")

# Connections flushed in a row, at some 6 us each; the rest of a crowded turn gives others theirs first.
_MAX_AT_ONCE: Final = 64
# Bodies gain nothing by waiting, and a turn may read megabytes: the transport must say early when it has enough. The
# frames in which HTTP/2 brings them wait for some others, for a system call each is what they would cost most.
MUCH_BYTES: Final = 16 * 1024 + 9
_LARGE_BYTES: Final = 4 * 1024
_MAX_WAITING_PIECES: Final = 8
# Above the high mark the other side is paused; both bound what one slow peer can make us hold.
HIGH_BYTES: Final = 128 * 1024
_LOW_BYTES: Final = 32 * 1024
_ENDED: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_MAX_READ_BYTES: Final = 256 * 1024
MIN_SPLICED_BYTES: Final = 128 * 1024
"""If so much is left of a body, it is spliced; less costs less to copy than to prepare for."""
# The transport comes back up to 32 times in a turn, if there is so much.
MAX_SPLICED_BYTES: Final = 256 * 1024
"""What is spliced in one callback."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Splicer(Protocol):
    """Moves octets from socket to socket without a copy: `net.splice.SplicePipe`, which has the contract."""

    is_supported: bool
    """Whether the kernel can, as far as is known."""

    def splice(self, first: bytes, source: asyncio.Transport, target: asyncio.Transport, limit: int) -> int:
        """Send `first`, and at most `limit` octets that the source has received, to the target; returns how many."""


class Outbox:
    """
    The connections of one loop that have something to write, and what they share to do so.

    Args:
        loop: Asked for one `call_soon` a turn in which anything is written.
        splicer: For large bodies; None: they are read and written.
    """

    __slots__ = ("_loop", "_waiting", "splicer")

    def __init__(self, loop: asyncio.AbstractEventLoop, splicer: Splicer | None = None) -> None:
        self._loop = loop
        self._waiting: list[BatchingWriter] = []
        self.splicer = splicer

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

    __slots__ = ("_out", "_outbox", "_poll", "_sealed", "transport")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._out: list[bytes] = []
        self._poll: select.poll | None = None
        self._sealed: TlsTransport | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens

    def attach(self, transport: asyncio.BaseTransport) -> None:
        """The connection is made: write to this transport, within bounds."""
        self.transport = cast("asyncio.Transport", transport)
        if isinstance(transport, TlsTransport):
            # What looks at the socket itself would see sealed octets.
            self._sealed = transport
        self.bound_writes(HIGH_BYTES, _LOW_BYTES)

    def bound_writes(self, high: int = HIGH_BYTES, low: int = _LOW_BYTES) -> None:
        """Call `pause_writing` above so many unsent bytes, and `resume_writing` when no more than these are left."""
        self.transport.set_write_buffer_limits(high=high, low=low)

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

    def can_splice(self) -> bool:
        """Whether large bodies go past the process here."""
        splicer = self._outbox.splicer
        return splicer is not None and splicer.is_supported and self._sealed is None

    def splice_from(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """
        Write some octets, and behind them at most `limit` that the source's socket has received, past the process.

        Returns:
            How many of those; 0 if there are none, or the peer has not taken what was written before, or there is no
            splicer.

        Raises:
            OSError: The source's connection has failed.
        """
        splicer = self._outbox.splicer
        self.flush()
        transport = self.transport
        if splicer is None or self._sealed is not None or transport.is_closing() or transport.get_write_buffer_size():
            self.write(first)
            return 0
        return splicer.splice(first, source, transport, limit)

    def flush(self) -> None:
        """Hand over what was written; afterwards the transport tells whether it could be sent."""
        out = self._out
        if out:
            self._out = []
            if self.transport.is_closing():
                return
            if len(out) == 1:
                self.transport.write(out[0])
            elif len(out[-1]) > _LARGE_BYTES:
                self.transport.writelines(out)
            else:
                self.transport.write(b"".join(out))

    def drop(self) -> None:
        """What waits here is of no use any more; a transport that its loop has closed does not say that it is."""
        self._out = []

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

    def is_reset(self) -> bool:
        """
        Whether the peer has reset the connection, as far as the kernel knows: one system call; ask once.

        A transport that has read the peer's end asks no more; a peer that had not only ended but gone answers what it
        is sent with a reset.
        """
        connected = self.transport.get_extra_info("socket")
        return bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)

    def unacknowledged(self) -> int:
        """Bytes that the peer's kernel has not taken yet: one system call."""
        queued = array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return queued[0] + self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Close at once, and with a reset: for a peer to which a plain end would mean that all has come."""
        with contextlib.suppress(OSError):
            connected = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def read_unread(self) -> bytes:
        """What the kernel holds from the peer, ahead of the transport; nothing if there is nothing or it fails."""
        if self.is_quiet():
            return b""
        if self._sealed is not None:
            return self._sealed.read_unread()
        try:
            return os.read(self.transport.get_extra_info("socket").fileno(), _MAX_READ_BYTES)
        except OSError:
            return b""  # the transport will meet it, too

    def is_quiet(self) -> bool:
        """
        Whether the kernel holds neither data nor an end of file from the peer: one system call, and by TLS another if
        it holds something, which may be nothing for the protocol.

        Asked before a connection is used again, and before more of a body is written.
        """
        poll = self._poll
        if poll is None:
            poll = self._poll = self._polled()
        is_quiet, sealed = not poll.poll(0), self._sealed
        return is_quiet if sealed is None else sealed.is_quiet(is_quiet)

    def has_peer_ended(self) -> bool:
        """Whether the kernel knows that the peer sends no more, or is gone: one system call, whatever is unread."""
        poll = self._poll
        if poll is None:
            poll = self._poll = self._polled()
        found: list[tuple[int, int]] = poll.poll(0)
        return bool(found) and found[0][1] & _ENDED != 0

    def _polled(self) -> select.poll:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return poll
