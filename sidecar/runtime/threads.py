"""
Threads for what may block, of which none is ever waited for: a mount that hangs must not keep a process. *Cold.*

Python joins the threads of a `ThreadPoolExecutor` when the loop closes and again when the interpreter ends, and libuv
those of its own pool when the library is unloaded. So the loop's executor is one of daemons, and a process ends by
`leave`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, NoReturn, TypeVar

from sidecar import process_log
from sidecar.net.resolve import DaemonThreads

MAX_THREADS = 16
"""Calls that may block at once before others have to wait; beside a load there are one or two."""

_T = TypeVar("_T")


class DaemonExecutor(Executor):
    """The loop's default executor, so that of `asyncio.to_thread` and of aiofiles."""

    def __init__(self) -> None:
        self._threads = DaemonThreads(MAX_THREADS, "blocking")

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run it on one of the threads; only the loop's thread may ask."""
        return self._threads.submit(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let each thread end after what it is at, and wait for none, whatever is asked."""
        self._threads.close()


async def in_time(call: Callable[[], _T], limit_s: float, give_back: Callable[[_T], object]) -> _T:
    """
    The result of a call that may block.

    Args:
        give_back: Told the result if it comes after the limit, or after the caller has left, when nobody wants it.

    Raises:
        TimeoutError: It has not returned in time.
    """
    running = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, call))
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(running)
    except BaseException:
        running.add_done_callback(partial(_discard, give_back))
        raise


def _discard(give_back: Callable[[_T], object], late: asyncio.Future[_T]) -> None:
    if not late.cancelled() and late.exception() is None:
        give_back(late.result())


def leave(code: int) -> NoReturn:
    """End this process now, with what was written flushed; nothing is joined."""
    process_log.finish()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
