"""When it is asked whether connections are captured, and what is made of the answers, by a held loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

from sidecar.capture.proof import Finding, Outcome
from sidecar.exchange import Direction
from sidecar.runtime.capture.watch import CaptureWatch


def findings(outgoing: Outcome, own: Outcome = "proved") -> tuple[Finding, ...]:
    return (
        Finding("outgoing", "IPv4", outgoing, "why"), Finding("own", "IPv4", own, "why"),
        Finding("incoming", "", "not provable", "why"),
    )  # fmt: skip


class World:
    """A data path, and answers in turn; the last of them from then on."""

    def __init__(self, *answers: tuple[Finding, ...], required: bool = False) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.comes_back_at_once = False
        self.goes_on = threading.Event()
        self.live = SimpleNamespace(plan=self.plan(True, required=required), is_led_back=False)
        self.watch = CaptureWatch(lambda: cast(Any, self.live), self.spawn, self.ask)

    @staticmethod
    def plan(captures: bool, *, required: bool = False) -> Any:
        listener = SimpleNamespace(captures=captures, direction=Direction.OUTBOUND)
        return SimpleNamespace(listeners=(listener,), requires_capture=required)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, name=name)

    def ask(self, on_led_back: Callable[[], object]) -> tuple[Finding, ...]:
        self.asked += 1
        if self.comes_back_at_once:
            on_led_back()
            assert self.goes_on.wait(30)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def until_asked(self, times: int) -> None:
        while self.asked < times:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    def samples(self) -> dict[bytes, float]:
        return {labels: value for section in self.watch.sections() for labels, value in cast(Any, section).series}


def test_it_is_asked_until_it_is_proved() -> None:
    """And shown; ready is who requires it only then."""

    async def run() -> None:
        world = World(findings("refuted"), findings("proved"), required=True)
        watch = world.watch
        assert watch.shown() is None
        watch.look()
        assert "not asked yet" in str(watch.why_not_ready())
        await world.until_asked(1)
        assert watch.why_not_ready() == "outgoing connections are not captured; IPv4: why"
        await world.until_asked(2)
        assert watch.why_not_ready() is None
        shown = watch.shown()
        assert shown is not None
        assert shown[0] == {"what": "outgoing", "family": "IPv4", "outcome": "proved", "why": "why"}
        watch.look()
        await asyncio.sleep(0)
        assert world.asked == 2

    asyncio.run(run())


def test_own_connections_that_come_back_are_told_to_the_data_path() -> None:
    """Which then passes none of them on; until a configuration does not capture any more."""

    async def run() -> None:
        world = World(findings("proved", "refuted"))
        world.watch.look()
        await world.until_asked(1)
        assert world.live.is_led_back
        assert world.watch.why_not_ready() is None  # nobody requires it
        world.live.plan = world.plan(False)
        world.watch.look()
        assert not world.live.is_led_back
        assert world.watch.shown() is None

    asyncio.run(run())


def test_own_connections_that_come_back_are_told_before_all_answers_are_there() -> None:
    """Until nobody answers elsewhere they would go in a circle; and whoever does not capture any more hears nothing."""

    async def run() -> None:
        world = World(findings("refuted", "refuted"))
        world.comes_back_at_once = True
        world.watch.look()
        await world.until_asked(1)
        assert world.live.is_led_back
        assert world.watch.findings == ()
        world.live.plan = world.plan(False)
        world.watch.look()
        world.goes_on.set()
        await asyncio.sleep(0.05)
        assert not world.live.is_led_back

    asyncio.run(run())


def test_nothing_is_asked_where_nothing_is_captured() -> None:
    """No connection is made that nobody wants."""

    async def run() -> None:
        world = World(findings("proved"))
        world.live.plan = world.plan(False)
        world.watch.look()
        await asyncio.sleep(0.05)
        assert world.asked == 0

    asyncio.run(run())
