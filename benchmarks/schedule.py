"""When the requests of a load of fixed rate are due, and how long after that each was answered.

An open loop. Request i is due at start + i / rate, whatever became of those before it, and its latency counts from
there. The clock is a timer of the kernel (timerfd) rather than epoll's timeout, which is good to a millisecond; how
late the generator itself woke is measured for every wake-up and reported, as it is part of every latency.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

GRACE_S = 2.0
TFD_NONBLOCK, TFD_TIMER_ABSTIME = 0o4000, 1
NOT_A_NUMBER = float("nan")

Report = dict[str, float]


class Schedule:
    """
    The requests of one load, by number.

    Attributes:
        total: How many there are to be.
        due: How many are due by now.
        latencies: Seconds, one for each request in order; NaN: it failed.
        lags: How late the generator woke for each that it woke for, in seconds.
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._period_ns = round(1e9 / rate)
        self._start_ns = 0
        self._timer = -1
        self._is_over = False
        self.total = int(seconds * rate)
        self.due = 0
        self.latencies = array("d", [NOT_A_NUMBER]) * self.total
        self.lags = array("d")

    def start(self) -> int:
        """A timer, to be waited for, that fires for each request; the first is due in a tenth of a second."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._timer = int(libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK))
        self._start_ns = time.monotonic_ns() + 100_000_000
        first = divmod(self._start_ns, 1_000_000_000)
        spec = struct.pack("4q", *divmod(self._period_ns, 1_000_000_000), *first)
        if self._timer < 0 or libc.timerfd_settime(self._timer, TFD_TIMER_ABSTIME, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd")
        return self._timer

    def on_timer(self) -> None:
        """The timer has fired."""
        try:
            fired = int.from_bytes(os.read(self._timer, 8), sys.byteorder)
        except BlockingIOError:
            return
        if self.due < self.total:
            self.lags.append((time.monotonic_ns() - self._start_ns - self.due * self._period_ns) / 1e9)
        self.due = min(self.due + fired, self.total)

    def end(self) -> None:
        """Let no more become due."""
        self._is_over = True

    def goes_on(self, done: int) -> bool:
        """Whether something is to be waited for when so many requests are answered or failed."""
        if self._is_over and self.due < self.total:
            self.total = self.due
            del self.latencies[self.total :]
        last_ns = self._start_ns + self.total * self._period_ns + GRACE_S * 1e9
        return done < self.total and time.monotonic_ns() <= last_ns

    def answered(self, number: int) -> None:
        """Note how long a request took until now, or has waited."""
        self.latencies[number] = (time.monotonic_ns() - self._start_ns - number * self._period_ns) / 1e9

    def report(self, waiting: Iterable[int], sent: int, failed: int, reopened: int) -> Report:
        """
        What came of it.

        Args:
            waiting: Requests that were sent and have no answer: each is noted with the time that it has waited.
            sent: How many were; all from there on have waited, too.
        """
        unanswered = [*waiting, *range(sent, self.total)]
        for number in unanswered:
            self.answered(number)
        return {
            "start_ns": self._start_ns,
            "period_ns": self._period_ns,
            "requests": self.total,
            "failed": failed,
            "unanswered": len(unanswered),
            "reopened": reopened,
            "cpu_s": sum(os.times()[:2]),
        }

    def carry_out(self, run: Callable[[], Report], out: str) -> None:
        """
        Let it run until its end or SIGTERM, after which no more become due; write the latencies and print the report.

        Args:
            run: Sends all, waits for the answers, and gives the report.
            out: A file of float64. It is there, and empty, as soon as requests become due.
        """
        signal.signal(signal.SIGTERM, lambda *_: self.end())
        Path(out).touch()
        result = run()
        Path(out).write_bytes(self.latencies.tobytes())
        lags = sorted(self.lags)
        result["lag_p50_s"] = lags[len(lags) // 2]
        result["lag_p99_s"] = lags[int(len(lags) * 0.99)]
        result["lag_max_s"] = lags[-1]
        print(json.dumps(result))
