"""How a compiler makes way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from sidecar.loader import low_priority
from sidecar.loader.low_priority import NICENESS, PERIOD_S, SHARE, Pauses

ASK = """
import json, os, signal
from sidecar.loader.low_priority import background_niceness, lower_priority
niceness = background_niceness()
for _ in range(2):
    lower_priority(niceness)
_, period_s = signal.getitimer(signal.ITIMER_REAL)
print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), period_s]))
"""


class Clock:
    """In the place of `time`: held, but for sleeps, which take as long as the machine is said to be busy."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pause_s = 60e-6
        self.sleeps = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.now_s += self.pause_s
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(low_priority, "time", clock)
    return clock


def run(clock: Clock, seconds: float) -> float:
    """Work for so long by the clock; returns the share of it that was work."""
    pauses, began_s, worked_s = Pauses(), clock.now_s, 0.0
    while clock.now_s - began_s < seconds:
        clock.now_s += PERIOD_S
        worked_s += PERIOD_S
        pauses.on_alarm(14, None)
    return worked_s / (clock.now_s - began_s)


@pytest.mark.parametrize("more", [0, 2, 19])
def test_the_system_is_told(more: int) -> None:
    """A priority below what it was given, no preference for waking up, and an alarm; twice is once."""
    command = ["nice", "-n", str(more), sys.executable, "-c", ASK]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    given = min(os.getpriority(os.PRIO_PROCESS, 0) + more, 19)
    assert json.loads(told) == [min(given + NICENESS, 19), os.SCHED_BATCH, pytest.approx(PERIOD_S)]


def test_beside_a_data_path_that_rests_it_pauses_in_every_period(clock: Clock) -> None:
    """A request waits for a period at most, and the work takes a tenth longer."""
    assert run(clock, 1.0) > 0.9
    assert clock.sleeps == pytest.approx(1.0 / (PERIOD_S + clock.pause_s), rel=0.01)


def test_beside_one_that_never_rests_it_keeps_a_share(clock: Clock) -> None:
    """Each pause lasts until the scheduler takes turns; without a share of it the work would not come to an end."""
    clock.pause_s = 0.008
    share = SHARE / (1 + SHARE)
    assert run(clock, 10.0) == pytest.approx(share, rel=0.2)


def test_alarms_in_a_pause_begin_no_other(clock: Clock) -> None:
    """On a busy machine a pause lasts for many periods: each within the one before would be a stack without end."""
    pauses = Pauses()
    clock.meanwhile = lambda: pauses.on_alarm(14, None)
    pauses.on_alarm(14, None)
    assert clock.sleeps == 1
    clock.now_s += 1.0
    pauses.on_alarm(14, None)
    assert clock.sleeps == 2


def test_what_the_system_does_not_allow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may forbid it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    alarms: list[object] = []
    monkeypatch.setattr(low_priority.os, "setpriority", refuse)
    monkeypatch.setattr(low_priority.os, "sched_setscheduler", refuse)
    monkeypatch.setattr(low_priority.signal, "signal", lambda *_: None)
    monkeypatch.setattr(low_priority.signal, "setitimer", lambda *given: alarms.append(given))
    low_priority.lower_priority(5)
    assert len(alarms) == 1
