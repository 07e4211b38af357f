"""The event loop of the process: uvloop, one per process. *Cold.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

logger = logging.getLogger(__name__)


def run_in_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """
    Run `main()` on a new loop until it returns, and return its result.

    The seam for several data-path processes: a worker would call this too, with a main of its own.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(_on_unhandled)
        return runner.run(main())


def _on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught in this log's form; one connection's fault never ends the process."""
    error = context.get("exception")
    logger.error(
        "unhandled_exception message=%r", context.get("message"), exc_info=error if error is not None else False
    )
