"""
The log of the process itself, on stderr: one line an event, `time level event key=value`. *Cold.*

Requests are not logged here; they have the access log. Everything uses the standard library's `logging`, so a
module needs nothing of this one to log.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from sidecar.redact import NO_SECRETS, Secrets

LEVELS = ("debug", "info", "warning", "error")
"""Names that `--log-level`, SIDECAR_LOG_LEVEL and `/logging` take."""

_ROOT = "sidecar"


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
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{stamp.replace('+00:00', 'Z')} {record.levelname.lower()} {message}{self._end}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._secrets.hide(line)


def configure(level: str, origin: str = "", secrets: Secrets = NO_SECRETS) -> None:
    """Send this process's log to stderr from `level` on; libraries only from warnings on. See `LineFormatter`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(origin, secrets))
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
