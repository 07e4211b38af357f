"""
A process that does nothing but sleep, on one core, before all others: the control of a measurement of latencies.

What keeps it from waking is neither the proxy nor the load nor their scheduling, for it may run whenever the core runs
at all: a hypervisor that gave the core to somebody else, or the kernel's own interrupts.

    python benchmarks/sleeper.py CORE     # until SIGTERM; then one line of JSON: when it was late, and by how much
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time

INTERVAL_NS = 1_000_000
LATE_NS = 1_000_000  # later than that is written down
PRIORITY = 90  # of SCHED_FIFO: before everything that is not the kernel's own


def main() -> None:
    """Sleep, and note each time that it woke late: nanoseconds of the monotonic clock, and by how many."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    is_first = False
    with contextlib.suppress(OSError):  # as root, or it shares the core as any process
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        is_first = True
    late: list[tuple[int, int]] = []
    is_over = False

    def end(*_: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, end)
    gc.disable()
    print("sleeping", flush=True)
    due = time.monotonic_ns() + INTERVAL_NS
    while not is_over:
        time.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
        now = time.monotonic_ns()
        if now - due > LATE_NS:
            late.append((due, now - due))
        due = now + INTERVAL_NS
    print(json.dumps({"is_first": is_first, "late": late}), flush=True)


if __name__ == "__main__":
    main()
