"""
The app as a child of the sidecar (`sidecar exec`): started when the proxy is ready, ended before it. *Cold.*

    sidecar LIVE -> app starts -> ... app ends by itself ----------------------------> drain -> exit with its code
                                  SIGTERM, /quitquitquit -> inbound drains -> SIGTERM to the app -> app ends -> the same

An app that is told to end while requests still come to it would refuse them. So SIGTERM reaches it when inbound has
come to rest (`drain.delay`, then its exchanges, at most `drain.timeout`); outbound stays until the app is gone. Every
other signal, and a second SIGTERM, goes to it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from sidecar.net.descriptors import original_limit
from sidecar.process_log import event

logger = logging.getLogger(__name__)

FORWARDED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
"""Signals that are the app's alone, besides SIGTERM, which is both's."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""As shells have it."""


class AppProcess:
    """
    One child process.

    Args:
        command: Program and arguments; the program is looked for in PATH.

    Attributes:
        ended: Set when it has ended, or could not be started.
        code: Its exit code, 128 + n if signal n ended it; meaningful once it has ended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: list[signal.Signals] = []
        """Signals that came before it had begun."""
        self.ended = asyncio.Event()
        self.code = 0

    async def run(self) -> None:
        """Start it and wait for its end."""
        try:
            with original_limit():
                self._process = await asyncio.create_subprocess_exec(*self._command)
        except OSError as error:
            self.code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            sys.stderr.write(f"sidecar: cannot run {self._command[0]}: {(error.strerror or str(error)).lower()}\n")
        else:
            logger.info(event("app_started", pid=self._process.pid, program=self._command[0]))
            for number in self._waiting:
                self._process.send_signal(number)
            code = await self._process.wait()
            self.code = code if code >= 0 else 128 - code
            logger.info(event("app_ended", code=self.code))
        self.ended.set()

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on, as soon as it runs; nothing if it has ended."""
        if number is signal.SIGINT and _has_terminal():
            return  # Ctrl-C has reached it already: the terminal signals the whole foreground group.
        if self._process is None:
            self._waiting.append(number)
        elif self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()


def _has_terminal() -> bool:
    """Whether this process is in the foreground of a terminal."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
