"""Parts of a sidecar's life that need no listener."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvloop

from sidecar.runtime.server import Sidecar


def test_left_that_comes_where_no_delay_is_waited_for_is_no_news() -> None:
    """Inbound is closed once, whether that is due, under way or over."""

    async def run() -> None:
        sidecar = Sidecar("sidecar.yaml", {}, cast("Any", None), asyncio.get_running_loop())
        sidecar.has_begun = True
        sidecar.drain()
        sidecar.end_delay()
        await asyncio.wait_for(sidecar._has_closed_inbound.wait(), 10)
        sidecar.end_delay()

    uvloop.run(run())
