"""What lives long is kept from the garbage collector, and looked at once an hour."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from sidecar.control import collector


class Circle:
    """Something that only the collector can let go."""

    def __init__(self) -> None:
        self.me = self


def test_what_lives_is_put_aside_and_circles_are_found_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection does not look at it before its time; at the end nothing stays aside."""
    monkeypatch.setattr(collector, "ASIDE_S", 0.0)
    now_s, aside_before = 0.0, gc.get_freeze_count()

    async def test() -> None:
        nonlocal now_s
        circle = Circle()
        seen = weakref.ref(circle)
        task = asyncio.create_task(collector.keep_aside(lambda: now_s))
        while gc.get_freeze_count() <= aside_before:
            await asyncio.sleep(0)
        del circle
        gc.collect()
        assert seen() is not None
        now_s = collector.WHOLE_S
        while seen() is not None:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    assert gc.get_freeze_count() == 0
    if aside_before:
        gc.freeze()  # as this run of tests had it
