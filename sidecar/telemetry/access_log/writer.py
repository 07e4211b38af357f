"""
The access log's file: lines are taken from the event loop and written by a thread. *Hot path: `write`.*

Nothing that happens to the file is felt by a request. A full disk, a closed pipe and a directory that is gone cost
lines, which are counted and logged once until a write succeeds again; a file that was rotated away is opened anew
within a second, and at once by `reopen`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import time
from collections.abc import Iterator, Sequence

from sidecar.telemetry.background import Background

log = logging.getLogger("sidecar.telemetry")

MAX_BUFFER_BYTES = 8 * 1024 * 1024
"""Lines that wait for the file; about 20,000 requests."""
_PERIOD_S = 0.1
_WAKE_BYTES = 256 * 1024
_CHECK_PERIOD_S = 1.0
_MAX_CHUNK_LINES = 2048
_MAX_CHUNK_BYTES = 1024 * 1024
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}

_turns: int | None = None


def take_turns(descriptor: int) -> None:
    """
    From now on write only in turn with other processes, so that no line ends up in the middle of another's.

    A file that was opened to append takes each write whole, but a pipe only 4 KiB (pipe(7)), a socket or a full disk
    any part. So whoever writes holds a lock, which the kernel gives back when its holder dies.

    Args:
        descriptor: Of any file that all of them have open; nothing is written to it.
    """
    global _turns
    _turns = descriptor


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    if _turns is None:
        yield
        return
    fcntl.lockf(_turns, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(_turns, fcntl.LOCK_UN)


class LogLosses:
    """Lines that were lost, over all files of the process, by reason; counters never go back."""

    __slots__ = ("buffer_full", "shutdown", "write_failed")

    def __init__(self) -> None:
        self.buffer_full = 0
        self.write_failed = 0
        self.shutdown = 0


class LogFile(Background):
    """
    One file that lines are appended to.

    `/dev/stdout` and `/dev/stderr` mean the descriptors 1 and 2 themselves: opening the path anew fails for a user
    who does not own the pipe, which is usual in a container.

    Args:
        path: Where to write; need not exist, and need not be writable now.
        losses: Where lost lines are counted.
        max_buffer_bytes: Of lines that wait.
    """

    def __init__(self, path: str, losses: LogLosses, max_buffer_bytes: int = MAX_BUFFER_BYTES) -> None:
        super().__init__("access-log", max_buffer_bytes, _WAKE_BYTES)
        self.path = path
        self._losses = losses
        self._descriptor = -1
        self._is_torn = False  # the last write ended in the middle of a line
        self._is_failing = False
        self._should_reopen = False
        self._next_check = 0.0
        self._deadline: float | None = None
        self.write = self._outbox.put
        """Hand over one whole line with its line feed; never blocks, never raises."""

    def __repr__(self) -> str:
        return f"<LogFile {self.path!r} {self._outbox!r}>"

    def reopen(self) -> None:
        """Open the path anew, because the file was rotated away (SIGUSR1)."""
        self._should_reopen = True
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for at most so long, then end; does not wait for that. Call `join` to wait."""
        self._deadline = time.monotonic() + timeout_s
        self._wake.set()

    def _run(self) -> None:
        while self._deadline is None:
            self._await_work(_PERIOD_S)
            self.turn()
        while self._outbox and time.monotonic() < self._deadline:
            self.turn()
        self._losses.shutdown += self._abandon()
        self._close()

    def turn(self) -> None:
        """One round of the thread: reopen if need be, then write what waits. Tests call it without a thread."""
        now = time.monotonic()
        if self._should_reopen or now >= self._next_check:
            self._next_check = now + _CHECK_PERIOD_S
            if self._should_reopen or self._was_rotated():
                self._should_reopen = False
                self._close()
        while lines := self._outbox.take(_MAX_CHUNK_LINES, _MAX_CHUNK_BYTES):
            lost = self._write_lines(lines)
            if lost:
                self._losses.write_failed += lost
                break  # the rest is tried in the next round; the buffer is bounded

    def _was_rotated(self) -> bool:
        if self._descriptor < 0 or self.path in _STREAMS:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return True

    def _close(self) -> None:
        if self._descriptor >= 0 and self.path not in _STREAMS:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1
        self._is_torn = False

    def _write_lines(self, lines: Sequence[bytes]) -> int:
        """Write the lines; returns how many of them were lost."""
        written = 0
        chunk = b"".join((b"\n", *lines) if self._is_torn else lines)
        start = 1 if self._is_torn else 0
        try:
            if self._descriptor < 0:
                self._open()
            view = memoryview(chunk)
            with _turn():
                while written < len(chunk):
                    written += self._write_some(view[written:])
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            self._on_failure(error)
            return self._count_lost(lines, written - start)
        self._is_torn = False
        if self._is_failing:
            self._is_failing = False
            log.warning("access_log_recovered path=%r", self.path)
        return 0

    def _open(self) -> None:
        stream = _STREAMS.get(self.path)
        if stream is not None:
            self._descriptor = stream
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
            self._descriptor = os.open(self.path, flags, 0o644)

    def _write_some(self, view: memoryview) -> int:
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:
            # Somebody made the shared descriptor non-blocking. Wait a little, but not past the end.
            if self._deadline is not None and time.monotonic() >= self._deadline:
                raise
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(100)
            return 0

    def _on_failure(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            log.error(
                "access_log_failed path=%r error=%s; lines are dropped and counted until it works again",
                self.path,
                error,
            )

    def _count_lost(self, lines: Sequence[bytes], written: int) -> int:
        """How many lines are not whole in the file; remembers whether one is in part."""
        end = 0
        for index, line in enumerate(lines):
            end += len(line)
            if end > written:
                self._is_torn = self._is_torn if written < 0 else written > end - len(line)
                return len(lines) - index
        return 0
