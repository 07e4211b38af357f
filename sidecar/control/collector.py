"""
The garbage collector, kept from what lives long. *On the loop.*

A control plane knows some objects of each of a thousand sidecars and their calls, and nearly none of them is ever part
of a circle. A full collection looks through them all, in vain, and nothing else happens meanwhile: a quarter of a
second, seen at 1,000 sidecars. So what has lived for a while is put aside, and looked at again once an hour.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

ASIDE_S: Final = 10.0
WHOLE_S: Final = 3600.0
"""Circles among what was put aside are found so late: those of requests that were under way at that moment."""


async def keep_aside(clock: Callable[[], float] = time.monotonic) -> None:
    """Do it for as long as the process lives; ends only by being cancelled."""
    whole_s = clock()
    try:
        while True:
            await asyncio.sleep(ASIDE_S)
            if clock() - whole_s >= WHOLE_S:
                whole_s = clock()
                gc.unfreeze()
                gc.collect()
            gc.freeze()
    finally:
        gc.unfreeze()
