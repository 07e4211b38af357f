"""
Octets of one socket go to another without being copied: splice(2). *A few system calls for 256 KiB of a large body.*

The kernel gives what a socket has received to a pipe, by reference, and takes it from there to be sent. A copy into
the process and one out of it cost more than all that the sidecar does for a megabyte beside them (docs/memory.md).

One pipe serves all connections of a loop, and is empty whenever anything else happens: what the target does not take
is read out of it within the same call, and kept by the target's transport as any bytes that wait. So a slow reader
costs what it does without, no octets wait where nobody counts them, and none can ever go to another connection.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
from contextlib import suppress
from typing import Final

log = logging.getLogger("sidecar.net")

# A pipe holds references to pages, 16 of them if nobody asks for more: with 256 it takes what a socket has received.
_PIPE_BYTES: Final = 1 << 20
_NOW: Final = getattr(os, "SPLICE_F_NONBLOCK", 0)
# Of a kernel, a sandbox or a kind of socket that has none.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ESPIPE})


class SplicePipe:
    """
    One for a loop; opened when it is first used.

    Attributes:
        is_supported: Whether it does anything; false from the first time that the kernel says that it cannot.
    """

    def __init__(self) -> None:
        self.is_supported = hasattr(os, "splice")
        self._ends: tuple[int, int] | None = None
        self._held = 0

    def splice(self, first: bytes, source: asyncio.Transport, target: asyncio.Transport, limit: int) -> int:
        """
        Send some octets, which are few, and behind them what the source's socket has received, to the target, which
        must have nothing unsent.

        They leave together: a small segment of its own would wake the peer once more.

        Args:
            first: Sent in any case, and first.
            source: Read from.
            target: Written to.
            limit: At most so many octets of the source's.

        Returns:
            How many of them were sent, 0 if there are none or it cannot be done here.

        Raises:
            OSError: The source's connection has failed; `first` was sent.
        """
        if self._held:
            self.close()  # whatever interrupted the last call has left octets of another connection
        if self._ends is None and not self._open():
            target.write(first)
            return 0
        assert self._ends is not None
        size, failure = 0, None
        self._held = os.write(self._ends[1], first)  # into an empty pipe, which has room for a page
        try:
            size = os.splice(_descriptor(source), self._ends[1], limit, flags=_NOW)
            self._held += size
        except BlockingIOError:
            pass
        except OSError as error:
            failure = error
        self._empty_into(target)
        if failure is not None:
            if failure.errno not in _UNSUPPORTED:
                try:
                    raise failure
                finally:
                    del failure  # whose traceback has this frame: no cycle is left behind
            self._give_up(failure)
        return size

    def _empty_into(self, target: asyncio.Transport) -> None:
        assert self._ends is not None
        try:
            while self._held:
                self._held -= os.splice(self._ends[0], _descriptor(target), self._held, flags=_NOW)
        except OSError as error:
            # The target is slow, or gone, or takes none of this: its transport knows how to deal with either.
            target.write(self._take_back())
            if error.errno in _UNSUPPORTED:
                self._give_up(error)

    def close(self) -> None:
        """Give the descriptors back; it opens again when it is used."""
        ends, self._ends = self._ends, None
        self._held = 0
        for end in ends or ():
            os.close(end)

    def _take_back(self) -> bytes:
        assert self._ends is not None
        parts: list[bytes] = []
        while self._held:
            parts.append(os.read(self._ends[0], self._held))
            self._held -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _give_up(self, error: OSError) -> None:
        log.info("splice_unsupported error=%s", error.strerror)
        self.is_supported = False
        self.close()

    def _open(self) -> bool:
        if not self.is_supported:
            return False
        try:
            self._ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False  # descriptors are short; another time
        with suppress(OSError):  # a user may have only so many pages in pipes: it works with fewer
            fcntl.fcntl(self._ends[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return True


def _descriptor(transport: asyncio.Transport) -> int:
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
