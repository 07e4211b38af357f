"""A thread behind a queue: the event loop hands over and goes on, the thread does what may block. *Cold.*"""

from __future__ import annotations

import threading

from sidecar.telemetry.outbox import Outbox


class Background:
    """
    Args:
        name: Of the thread.
        max_bytes: Of all items that wait; more are refused.
        wake_bytes: The thread is woken when so many have come.
    """

    def __init__(self, name: str, max_bytes: int, wake_bytes: int) -> None:
        self._name = name
        self._wake = threading.Event()
        self._outbox = Outbox(max_bytes, wake_bytes, self._wake.set)
        self._thread: threading.Thread | None = None

    @property
    def refused(self) -> int:
        """Items for which there was no room."""
        return self._outbox.refused

    @property
    def waiting_bytes(self) -> int:
        """Octets that wait."""
        return self._outbox.waiting_bytes

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end after it was told to stop. Blocks; a call that hangs in the kernel is left behind."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        """What the thread does."""
        raise NotImplementedError

    def _await_work(self, period_s: float) -> None:
        """Sleep until woken, or for so long."""
        self._wake.wait(period_s)
        self._wake.clear()

    def _abandon(self) -> int:
        """Take what is left; returns how many items that were."""
        return len(self._outbox.take(1 << 30, 1 << 62))
