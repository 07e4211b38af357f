"""Asks by connections whether the app's are captured and our own are not, until it is so. *Cold.*"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, repeat
from typing import Any, Final

from sidecar.capture.proof import Finding, find_out
from sidecar.exchange import Direction
from sidecar.process_log import event
from sidecar.proxy.live import Live
from sidecar.proxy.plan import Plan
from sidecar.runtime.threads import in_time
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, labelled

logger = logging.getLogger(__name__)

PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Between two times that it is not so: in a pod rules come before the sidecar, elsewhere perhaps behind it."""
LIMIT_S: Final = 30.0

Ask = Callable[[Callable[[], object]], tuple[Finding, ...]]
Spawn = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]


def ask(on_led_back: Callable[[], object]) -> tuple[Finding, ...]:
    """As who we are."""
    return find_out(os.geteuid(), on_led_back)


class CaptureWatch:
    """
    Args:
        live: The data path, as soon as there is one.
        spawn: Keeps a task in sight.
        ask: Takes seconds, in a thread; calls what it is given, in any thread, once our own connections come back.

    Attributes:
        findings: The last ones; empty while nothing is captured.
    """

    def __init__(self, live: Callable[[], Live | None], spawn: Spawn, ask: Ask = ask) -> None:
        self._live = live
        self._spawn = spawn
        self._ask = ask
        self._plan: Plan | None = None
        self._task: asyncio.Task[Any] | None = None
        self.findings: tuple[Finding, ...] = ()

    def look(self) -> None:
        """Has another plan come into force? Call it when one has."""
        live = self._live()
        if live is None or live.plan is self._plan:
            return
        self._plan = live.plan
        captures = _captures(live.plan, Direction.OUTBOUND)
        if captures and self._task is None:
            self._task = self._spawn(self._until_proved(live), "capture_watch")
        elif not captures and self._task is not None:
            self._task.cancel()
            self._task, self.findings, live.is_led_back = None, (), False

    def why_not_ready(self) -> str | None:
        """What is missing that the configuration requires, or None."""
        if self._plan is None or not self._plan.requires_capture:
            return None
        wanted = [one for one in self.findings if one.what == "outgoing"]
        if any(one.outcome == "proved" for one in wanted) and all(one.outcome != "refuted" for one in wanted):
            return None
        whys = [f"{one.family}: {one.why}" for one in wanted if one.outcome == "refuted"]
        return f"outgoing connections are not captured; {'; '.join(whys) or 'not asked yet'}"

    def shown(self) -> list[dict[str, str]] | None:
        """For `/server_info`; None while nothing is captured."""
        return [asdict(one) for one in self.findings] if self._task is not None else None

    def sections(self) -> Iterator[Section]:
        """What is proved and what is refuted, and whether anything has come in."""
        known = [one for one in self.findings if one.outcome in ("proved", "refuted")]
        series = [((one.what, one.family), int(one.outcome == "proved")) for one in known]
        yield Numbers(catalogue.CAPTURE_PROVED, labelled(catalogue.CAPTURE_PROVED, series))
        live = self._live()
        if live is not None and _captures(live.plan, Direction.INBOUND):
            seen = [((), int(live.is_inbound_seen))]
            yield Numbers(catalogue.CAPTURE_INBOUND_SEEN, labelled(catalogue.CAPTURE_INBOUND_SEEN, seen))

    async def _until_proved(self, live: Live) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def led_back() -> None:
            if self._task is task:  # else it is of no interest any more
                live.is_led_back = True

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(led_back)

        for pause_s in chain(PAUSES_S, repeat(PAUSES_S[-1])):
            try:
                found = await in_time(partial(self._ask, told), LIMIT_S, lambda late: None)
            except TimeoutError:
                found = ()
            self._take(live, found)
            outcomes = {one.outcome for one in found}
            if "proved" in outcomes and "refuted" not in outcomes:
                return
            await asyncio.sleep(pause_s)

    def _take(self, live: Live, found: tuple[Finding, ...]) -> None:
        before = {(one.what, one.family): one.outcome for one in self.findings}
        self.findings = found
        live.is_led_back = any(one.what == "own" and one.outcome == "refuted" for one in found)
        for one in found:
            if before.get((one.what, one.family)) == one.outcome or one.what == "incoming":
                continue
            tell = logger.warning if one.outcome == "refuted" else logger.info
            tell(event("capture", what=one.what, family=one.family, outcome=one.outcome, why=one.why))


def _captures(plan: Plan, direction: Direction) -> bool:
    return any(one.captures and one.direction is direction for one in plan.listeners)
