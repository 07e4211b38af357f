"""
The log of the process itself, on stderr: one line an event, `time level event key=value`. *Cold.*

Requests are not logged here; they have the access log. Everything uses the standard library's `logging`, so a
module needs nothing of this one to log.

Nobody waits for whoever reads stderr: `bounded_stderr` puts a thread and a queue with an end between, and what finds
no room is dropped and counted. Nor does a peer decide how much is written: `Sites` lets each place in the source have
so many lines a second, and says how many it left out.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.redact import NO_SECRETS, Secrets

LEVELS = ("debug", "info", "warning", "error")
"""Names that `--log-level`, SIDECAR_LOG_LEVEL and `/logging` take."""

_ROOT = "sidecar"

MAX_WAITING_BYTES = 1024 * 1024
"""Of text that waits for whoever reads stderr: some 8,000 lines."""

BURST = 200
"""Lines that one place in the source may write at once: more than a file has problems that somebody reads."""
PER_SECOND = 5
"""And so many on and on."""

FAREWELL_S = 1.0
"""For what still waits when the process ends."""


class LineFormatter(logging.Formatter):
    """
    Writes RFC 3339 time in UTC, the level, and the message; line ends inside the message are escaped.

    Args:
        origin: Ends every message, for example `worker=1`.
        secrets: What no line may show.
    """

    def __init__(self, origin: str = "", secrets: Secrets = NO_SECRETS) -> None:
        super().__init__()
        self._end = f" {origin}" if origin else ""
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the traceback if there is one."""
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_stamp(record.created)} {record.levelname.lower()} {message}{self._end}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._secrets.hide(line)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class BoundedStream(io.TextIOBase):
    """
    A descriptor that text is written to by a thread: `write` never blocks, and any thread may call it.

    Attributes:
        lost: What was lost, by reason: `buffer_full` and `write_failed`; in lines.
    """

    def __init__(self, descriptor: int, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self.lost = {"buffer_full": 0, "write_failed": 0}
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._untold = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str, /) -> int:
        """Hand over some text, or count it as lost."""
        octets = text.encode("utf-8", "backslashreplace")
        if not octets:
            return 0
        with self._change:
            if self._waiting_bytes + len(octets) > self._max_bytes:
                lines = _lines(octets)
                self.lost["buffer_full"] += lines
                self._untold += lines
                return len(text)
            self._waiting.append(octets)
            self._waiting_bytes += len(octets)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="process-log", daemon=True)
                self._thread.start()
            self._change.notify_all()
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def finish(self, timeout_s: float = FAREWELL_S) -> None:
        """Wait until all is written, but no longer than so. Blocks."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting, timeout_s)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting or self._untold))
                octets = self._waiting[0] if self._waiting else b""
                untold, self._untold = self._untold, 0
            # One piece is one write, so that the lines of several processes at one pipe do not mix (pipe(7)).
            if untold:
                self._put(
                    f"{_stamp(time.time())} warning {event('process_log_lines_dropped', count=untold)}\n".encode()
                )
            self._put(octets)
            with self._change:
                # Only now, so that `finish` means written.
                if octets:
                    self._waiting.popleft()
                self._waiting_bytes -= len(octets)
                self._change.notify_all()

    def _put(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # somebody made the shared descriptor non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(100)
            except OSError:
                # Counted, but not told: there is nobody to tell.
                self.lost["write_failed"] += _lines(octets)
                return


def _lines(octets: bytes) -> int:
    return max(1, octets.count(b"\n"))


class _Site:
    """One place in the source: what it may write now, and what was left out."""

    __slots__ = ("allowed", "left_out", "seen_s")

    def __init__(self, now_s: float) -> None:
        self.allowed: float = BURST
        self.left_out = 0
        self.seen_s = now_s


class Sites(logging.Filter):
    """
    Lets each place in the source have `BURST` lines at once and `PER_SECOND` on and on.

    The next line that one may write again says how many were left out.

    Args:
        clock: Seconds, monotonic.

    Attributes:
        left_out: Lines in all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.left_out = 0
        self._clock = clock
        self._sites: dict[tuple[str, int], _Site] = {}
        self._one_at_a_time = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may be written."""
        now_s = self._clock()
        with self._one_at_a_time:
            site = self._sites.get(key := (record.pathname, record.lineno))
            if site is None:
                site = self._sites[key] = _Site(now_s)
            site.allowed = min(BURST, site.allowed + (now_s - site.seen_s) * PER_SECOND)
            site.seen_s = now_s
            if site.allowed < 1:
                site.left_out += 1
                self.left_out += 1
                return False
            site.allowed -= 1
            if site.left_out:
                record.msg = f"{record.getMessage()} left_out={site.left_out}"
                record.args = None
                site.left_out = 0
        return True


class _Installed(NamedTuple):
    stream: BoundedStream
    sites: Sites


_installed: _Installed | None = None


def bounded_stderr() -> None:
    """From now on nothing that this process writes to `sys.stderr` waits for whoever reads it; before `configure`."""
    global _installed
    stream = BoundedStream(2)
    _installed = _Installed(stream, Sites())
    sys.stderr = stream


def losses() -> Mapping[str, int]:
    """Lines that were not written, by reason."""
    if _installed is None:
        return {"buffer_full": 0, "write_failed": 0, "rate": 0}
    return {**_installed.stream.lost, "rate": _installed.sites.left_out}


def finish() -> None:
    """The process ends: give what still waits a moment."""
    if _installed is not None:
        _installed.stream.finish()


_hidden = Secrets()


def learn(secrets: Iterable[str]) -> None:
    """No line shows these any more."""
    _hidden.learn(secrets)


def configure(level: str, origin: str = "", secrets: Secrets = NO_SECRETS) -> None:
    """Send this process's log to stderr from `level` on; libraries only from warnings on. See `LineFormatter`."""
    global _hidden
    _hidden = secrets if secrets is not NO_SECRETS else Secrets()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(origin, _hidden))
    if _installed is not None:
        handler.addFilter(_installed.sites)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """
    Change the level of the process's own log.

    Raises:
        ValueError: There is no such level.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"expected a level of {', '.join(LEVELS)}, got {level!r}")
    logging.getLogger(_ROOT).setLevel(level.upper())


def get_level() -> str:
    """Level of the process's own log, lower case."""
    return logging.getLevelName(logging.getLogger(_ROOT).getEffectiveLevel()).lower()


def quoted(value: object) -> str:
    """A value for `key=value`: as it is if it is one plain word, else in quotes with escapes."""
    text = str(value)
    if text and not any(character.isspace() or character in '"=\\' for character in text) and text.isprintable():
        return text
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.replace("\\", "\\\\"))
    return '"' + escaped.replace('"', '\\"') + '"'


def event(name: str, **values: object) -> str:
    """A message: the event first, then `key=value` for every value that is not None."""
    return " ".join([name, *(f"{key}={quoted(value)}" for key, value in values.items() if value is not None)])
