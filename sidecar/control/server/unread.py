"""
What is told of a request that aiohttp could not read: who sent it and why, and nothing of it. *Cold.*

Its own log line is a traceback that ends with the octets that were wrong and those around them, and these may be a
token. And whoever is reached by anybody tells strangers' mistakes at no higher level than a refusal.
"""

from __future__ import annotations

import logging
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

from sidecar.process_log import event


class _Unread(logging.Filter):
    """Makes a line of ours of one about a request that is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else record.exc_info
        if not isinstance(error, HttpProcessingError):
            return True
        peer = record.args[0] if isinstance(record.args, tuple) and record.args else None
        record.msg = event("request_unreadable", peer=peer, status=error.code, why=type(error).__name__)
        record.args, record.exc_info, record.exc_text = (), None, None
        record.levelno, record.levelname = logging.INFO, "INFO"
        return logging.getLogger(record.name).isEnabledFor(logging.INFO)


logger: Final = logging.getLogger(__name__)
"""For aiohttp's servers."""
logger.addFilter(_Unread())
