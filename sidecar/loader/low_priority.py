"""
Lets the data path go first where it and a compiler want the same core. *Cold.* Imports next to nothing, so that a
compiler can do it before it imports the rest.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Final

NICENESS: Final = 5
"""More than the data path's: a quarter of a core that both want, and all of one that is idle."""

PERIOD_S: Final = 0.001
"""
How long a compiler works at a stretch. Linux lets a task that wakes wait for the tick, up to 4 ms, if it has just had
more than its share, as a data path that answers a burst has, even if the other has had its own microseconds later.
"""

SHARE: Final = 0.5
"""
So much of what a pause took may be worked before the next: a data path that never rests makes a pause 8 ms long, and a
file of 10,000 routes would need half a minute.
"""


def background_niceness() -> int:
    """That of a compiler beside this process, which need not have been started with 0."""
    return os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS  # beyond 19, the system takes it for 19


def lower_thread(niceness: int) -> None:
    """Of the calling thread, and of what it starts. What the system does not let us do is left out."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    # "will cause the scheduler to always assume that the thread is CPU-intensive" (sched(7)).
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def lower_priority(niceness: int) -> None:
    """From now on, of a process that has one thread, with pauses; again is no harm."""
    lower_thread(niceness)
    signal.signal(signal.SIGALRM, Pauses().on_alarm)
    signal.setitimer(signal.ITIMER_REAL, PERIOD_S, PERIOD_S)
    # An interpreter that ends takes its handlers back, and the next alarm would be its end.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


class Pauses:
    """Short sleeps, in which whoever waits for the core gets it."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._is_resting = False

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """
        Sleep for as little as there is, some 60 us, unless the last time took long.

        On a busy machine a pause lasts for many periods, and each alarm in it interrupts it: those end at once, for
        pauses within pauses would have no end but that of the stack.
        """
        if self._is_resting:
            return
        began_s = time.perf_counter()
        if began_s >= self._next_s:
            self._is_resting = True
            time.sleep(1e-6)
            self._is_resting = False
            ended_s = time.perf_counter()
            self._next_s = ended_s + SHARE * (ended_s - began_s)
