"""
An event loop whose clock the test holds: where a real loop would wait, this one moves its clock on.

A day of refreshes takes milliseconds, in the same order every time. Only for tests whose every wait is on the loop
clock: what comes from a socket or a thread is never waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    loop: HeldLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("the test waits for something that never happens")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class HeldLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 0 s."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_held(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a held loop of its own."""
    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        return runner.run(main)
