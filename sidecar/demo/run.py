"""How a demonstration ends: its exit codes, and signals that interrupt it once."""

from __future__ import annotations

import asyncio
import signal

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""An unattended run that was not let finish has verified nothing; 128 + SIGINT, as shells have it."""


class Interruptible:
    """
    Cancels the current task at the first signal, and only then, so that nothing interrupts the clean-up.

    Attributes:
        is_interrupted: A signal came.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            if not self.is_interrupted:
                self.is_interrupted = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                loop.add_signal_handler(number, interrupt)
