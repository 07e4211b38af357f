"""Long work beside traffic."""

from __future__ import annotations

import asyncio
import time

from sidecar.compile.time_slices import SLICE_S, Steps, at_once, in_slices


def _work(events: list[str], slices: int) -> Steps[str]:
    """Steps of which each uses up a slice."""
    for number in range(slices):
        events.append(f"slice {number}")
        end = time.perf_counter() + SLICE_S
        while time.perf_counter() < end:
            pass
        yield
    return "done"


def test_what_is_read_between_two_slices_is_written_before_the_next() -> None:
    """A callback's own callback, as `net.flow.Outbox` makes one for what is to be written, waits for no slice."""
    events: list[str] = []

    def read() -> None:
        events.append("read")
        loop.call_soon(events.append, "written")

    async def main() -> str:
        loop.call_soon(read)
        return await in_slices(_work(events, 2))

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == "done"
    finally:
        loop.close()
    assert events == ["slice 0", "read", "written", "slice 1"]


def test_all_at_once_is_the_same_work() -> None:
    """Where nobody waits."""
    events: list[str] = []
    assert at_once(_work(events, 2)) == "done"
    assert events == ["slice 0", "slice 1"]
