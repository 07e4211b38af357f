"""The event loop of the process: uvloop, one per process. *Cold.*"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import uvloop

from sidecar.net.reserve import Reserve
from sidecar.runtime.threads import DaemonExecutor, leave

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""
For how long a thread may keep the interpreter from the loop; Python's default is 5 ms. While a file of 2,000 routes is
read in a thread, the 99th percentile of requests went from 11 to 4 ms; without such a thread it costs nothing.
"""

COLLECTOR_THRESHOLDS = (5_000, 5, 20)
"""
How many more tracked objects were made than freed before the youngest are visited; then the older ones' turns.

Requests make no cycles, whatever becomes of them, so every collection is in vain but for what goes wrong elsewhere.
With Python's (700, 10, 10) a thousand busy connections paid 2.7 us a request for it, now 0.5 to 0.9; 32 paid 0.17, now
0.01. More would only make single collections longer: so many of our objects take half a millisecond. And it is the most
that a fault can gather before it is cleared away (docs/memory.md).
"""

_LARGEST_KEPT_BYTES = 2 * 1024 * 1024


def run_in_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """
    Run `main()` on a new loop until it returns, and return its result.

    Every process that has a loop calls it, each with a main of its own, but for the control plane's (`control.start`).
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    _keep_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(_on_unhandled)
        runner.get_loop().set_default_executor(DaemonExecutor())
        reserve = Reserve(runner.get_loop())
        reserve.start()
        try:
            return runner.run(main())
        finally:
            reserve.stop()


def run_and_leave(main: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """
    As `run_in_loop`, and end the process with the result, whatever else is under way.

    From inside of the loop, because closing it waits for lookups that hang: libuv runs them on threads of its own.
    """

    async def to_the_end() -> int:
        try:
            code = await main()
        except Exception:
            traceback.print_exc()
            code = 1
        leave(code)

    run_in_loop(to_the_end)
    raise AssertionError("left")


def _keep_freed_memory() -> None:
    """
    Let the C library keep what is freed for the next read, up to 4 MiB, instead of giving it back to the kernel.

    A body passes in pieces of up to 256 KiB, each in octets of its own, and glibc at first returns so much at once:
    the kernel then maps and clears it anew, page by page. A response of 1 MiB cost 94 page faults and a quarter of
    its CPU (docs/memory.md). glibc learns from what is freed: a block that was mapped on its own raises the size from
    which blocks are mapped to its own, and the size from which free memory is returned to twice that (mallopt(3),
    M_MMAP_THRESHOLD). So one such block is shown to it, untouched. Who sets `MALLOC_TRIM_THRESHOLD_` decides instead;
    other C libraries are not impressed.
    """
    bytes(_LARGEST_KEPT_BYTES)


@contextmanager
def without_collection() -> Iterator[None]:
    """
    Hold off the cyclic garbage collector while a configuration is built, and exempt what is there afterwards.

    A configuration is many objects that live until the next one. Making them sets off collections of everything,
    each of which held the loop for 50 to 100 ms with 2,000 routes (the longest request then took 97 ms; without,
    10 ms), and they would be visited again and again. An old plan holds no cycles and goes by its reference count.

    What is cyclic garbage at that moment is exempt, too, and stays. Nothing of ours makes any: a load makes none
    (`tests/unit/runtime/test_reload.py`), nor do connections, also those that are cut or refused. What libraries may
    have made just before is young, and looking through that takes half a millisecond; so there is no collection of
    everything every few loads, which would hold the loop for 100 ms with 10,000 routes.
    """
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught in this log's form; one connection's fault never ends the process."""
    error = context.get("exception")
    logger.error(
        "unhandled_exception message=%r", context.get("message"), exc_info=error if error is not None else False
    )
