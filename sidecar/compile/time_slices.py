"""
Long work on the event loop in slices, between which traffic goes on. *Cold.*

Work is a generator that yields wherever it may rest, at least every few dozen microseconds, and returns its result:
the same work runs in slices on the data path and at one go where nobody waits, such as `sidecar check`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

SLICE_S = 0.0005
"""
For how long the loop is held at a stretch. Design, section 9, allows 1 ms; half of it keeps a request that waits for
two slices within that, and costs 3% more turns of the loop.
"""

LONGEST_SLICE_S = 0.002
SHARE = 0.25
"""
Where the loop has so much to do that its turns take longer, a slice is this share of the time since the last one: a
reload under overload then takes five times as long as an idle one, and not until the overload is over.
"""

_Result = TypeVar("_Result")

Steps = Generator[None, None, _Result]
"""Work in steps; see the module."""


async def in_slices(steps: Steps[_Result]) -> _Result:
    """Do the work on the running loop, giving way to others whenever a slice is used up."""
    turn_s = 0.0
    while True:
        end = time.perf_counter() + min(max(SLICE_S, SHARE * turn_s), LONGEST_SLICE_S)
        try:
            next(steps)
            while (now := time.perf_counter()) < end:
                next(steps)
        except StopIteration as done:
            result: _Result = done.value
            return result
        # Twice: what is read between two turns is written by callbacks of the next, and they come behind this one.
        # If it went on at once, a request would wait for a slice before each of its writes as it does before its reads.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        turn_s = time.perf_counter() - now


def at_once(steps: Steps[_Result]) -> _Result:
    """Do all of the work now."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _Result = done.value
            return result
