"""The coarse timer: never early, at most two ticks late, and cheap to put off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

import pytest

from sidecar.net.timers import NOT_ARMED, TICK_S, Timers


class HeldClock:
    """Stands for the loop: a clock that the test moves, and the tick that was asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Handle:
        self.calls.append((self.now + delay, callback))
        return _Handle(self, callback)

    def advance(self, seconds: float) -> None:
        """Move on, running every tick that comes due on the way."""
        end = self.now + seconds
        while self.calls and (due := min(self.calls, key=lambda call: call[0]))[0] <= end:
            self.calls.remove(due)
            self.now = max(self.now, due[0])
            due[1]()
        self.now = end


class _Handle:
    def __init__(self, clock: HeldClock, callback: Callable[[], None]) -> None:
        self.clock, self.callback = clock, callback

    def cancel(self) -> None:
        self.clock.calls = [call for call in self.clock.calls if call[1] is not self.callback]


class Thing:
    """Notes when it was fired."""

    def __init__(self, timers: Timers, then: Callable[[Thing], None] | None = None) -> None:
        self.deadline = inf
        self.bucket = NOT_ARMED
        self.timers = timers
        self.fired: list[float] = []
        self.then = then

    def on_deadline(self, now: float) -> None:
        self.fired.append(now)
        if self.then is not None:
            self.then(self)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def timers(clock: HeldClock) -> Timers:
    timers = Timers(clock)  # type: ignore[arg-type]
    timers.start()
    return timers


def test_fires_never_early_and_at_most_two_ticks_late(clock: HeldClock, timers: Timers) -> None:
    """Every deadline within a second, at odd fractions of a tick."""
    begin = clock.now
    things = {number / 97: Thing(timers) for number in range(97)}
    for delay, thing in things.items():
        timers.arm(thing, begin + delay)
    clock.advance(2)
    for delay, thing in things.items():
        assert len(thing.fired) == 1
        assert begin + delay <= thing.fired[0] <= begin + delay + 2 * TICK_S + 1e-9


def test_deadline_put_off_by_assignment_fires_at_the_new_time(clock: HeldClock, timers: Timers) -> None:
    """Traffic puts a deadline off with one assignment; the bucket finds out when it is visited."""
    begin = clock.now
    thing = Thing(timers)
    timers.arm(thing, begin + 1)
    for step in range(10):
        clock.advance(0.5)
        thing.deadline = begin + 0.5 * (step + 1) + 1
    assert not thing.fired
    clock.advance(5)
    assert len(thing.fired) == 1
    assert begin + 6 <= thing.fired[0] <= begin + 6 + 2 * TICK_S + 1e-9


def test_deadline_assigned_before_it_is_armed_fires(clock: HeldClock, timers: Timers) -> None:
    """`arm` with the deadline that a thing has already, or a later one, arms it if it is not."""
    begin = clock.now
    same, later = Thing(timers), Thing(timers)
    same.deadline = later.deadline = begin + 1
    timers.arm(same, begin + 1)
    timers.arm(later, begin + 2)
    clock.advance(3)
    assert len(same.fired) == len(later.fired) == 1
    assert later.fired[0] >= begin + 2


def test_deadline_put_off_by_arm_fires_at_the_new_time(clock: HeldClock, timers: Timers) -> None:
    """Traffic arms for each request anew; the bucket finds out when it is visited."""
    begin = clock.now
    thing = Thing(timers)
    for step in range(10):
        timers.arm(thing, begin + 0.5 * step + 1)
        clock.advance(0.5)
    assert not thing.fired
    clock.advance(5)
    assert len(thing.fired) == 1
    assert begin + 5.5 <= thing.fired[0] <= begin + 5.5 + 2 * TICK_S + 1e-9


def test_deadline_moved_earlier_by_arm_fires_at_the_new_time(clock: HeldClock, timers: Timers) -> None:
    """A shorter deadline takes effect at once and the longer one is gone."""
    thing = Thing(timers)
    timers.arm(thing, clock.now + 100)
    timers.arm(thing, clock.now + 1)
    clock.advance(1.2)
    assert len(thing.fired) == 1
    clock.advance(200)
    assert len(thing.fired) == 1
    assert repr(timers) == "<Timers 0 armed>"


def test_deadline_in_the_past_fires_at_the_next_tick(clock: HeldClock, timers: Timers) -> None:
    """What is already due is not lost."""
    thing = Thing(timers)
    timers.arm(thing, clock.now - 10)
    clock.advance(2 * TICK_S)
    assert len(thing.fired) == 1


def test_infinite_deadline_is_let_go_by_the_sweep(clock: HeldClock, timers: Timers) -> None:
    """An item that no longer has a deadline is forgotten when its bucket comes, and can be armed anew."""
    thing = Thing(timers)
    timers.arm(thing, clock.now + 1)
    thing.deadline = inf
    clock.advance(2)
    assert (thing.fired, thing.bucket) == ([], NOT_ARMED)
    timers.arm(thing, clock.now + 1)
    clock.advance(2)
    assert len(thing.fired) == 1


def test_forgotten_item_is_not_referred_to(clock: HeldClock, timers: Timers) -> None:
    """A closed connection must be free at once, whatever its bucket."""
    thing = Thing(timers)
    timers.arm(thing, clock.now + 1)
    timers.forget(thing)
    timers.forget(thing)
    assert repr(timers) == "<Timers 0 armed>"
    clock.advance(2)
    assert not thing.fired


def test_item_may_arm_itself_again_when_it_fires(clock: HeldClock, timers: Timers) -> None:
    """Also for a time that has already come: then it fires again, and the sweep ends all the same."""
    begin = clock.now

    def again(thing: Thing) -> None:
        if len(thing.fired) < 3:
            timers.arm(thing, thing.fired[-1])

    thing = Thing(timers, again)
    timers.arm(thing, begin + 1)
    clock.advance(2)
    assert len(thing.fired) == 3


def test_item_that_fires_may_forget_its_neighbour_and_arm_again(clock: HeldClock, timers: Timers) -> None:
    """What is armed for now while the last other item of the bucket is forgotten is not lost with the bucket."""

    def each(thing: Thing) -> None:
        for other in (first, second):
            if other is not thing:
                timers.forget(other)
        if len(thing.fired) < 2:
            timers.arm(thing, thing.fired[-1] - 1)

    first, second = Thing(timers, each), Thing(timers, each)
    timers.arm(first, clock.now + 1)
    timers.arm(second, clock.now + 1)
    clock.advance(3)
    assert sorted((len(first.fired), len(second.fired))) == [0, 2]


def test_sweep_of_many_is_spread_over_ticks_and_loses_none(clock: HeldClock, timers: Timers) -> None:
    """Thousands of deadlines at once do not hold the loop; each fires once, in the ticks that follow."""
    things = [Thing(timers) for _ in range(1000)]
    for thing in things:
        timers.arm(thing, clock.now + 1)
    clock.advance(1 + 2 * TICK_S)
    assert 0 < sum(len(thing.fired) for thing in things) < 1000
    clock.advance(1)
    assert [len(thing.fired) for thing in things] == [1] * 1000


def test_loop_that_was_held_up_catches_up(clock: HeldClock, timers: Timers) -> None:
    """After a gap of seconds every bucket of the gap is visited."""
    things = [Thing(timers) for _ in range(50)]
    for number, thing in enumerate(things):
        timers.arm(thing, clock.now + number / 10)
    clock.now += 10
    clock.advance(TICK_S)
    assert all(len(thing.fired) == 1 for thing in things)


def test_mistake_of_one_item_does_not_stop_the_clock(
    clock: HeldClock, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in one callback is logged; the others of the same bucket fire."""

    def fail(thing: Thing) -> None:
        raise RuntimeError("ours")

    things = [Thing(timers, fail), Thing(timers)]
    for thing in things:
        timers.arm(thing, clock.now + 1)
    with caplog.at_level(logging.ERROR, "sidecar.net"):
        clock.advance(2)
    assert [len(thing.fired) for thing in things] == [1, 1]
    assert "timer_failed" in caplog.text


def test_every_runs_as_often_as_it_says(clock: HeldClock, timers: Timers) -> None:
    """Periodic work runs about once a period, and stops with the timer."""
    runs: list[float] = []
    timers.every(1.0, lambda: runs.append(clock.now))
    clock.advance(10.5)
    assert len(runs) in (9, 10)
    timers.stop()
    timers.stop()
    clock.advance(10)
    assert len(runs) in (9, 10)


def test_periodic_work_goes_on_while_many_deadlines_pass(clock: HeldClock, timers: Timers) -> None:
    """A flood of deadlines that takes every tick's budget does not starve what runs once a second."""
    runs: list[float] = []
    timers.every(0.5, lambda: runs.append(clock.now))

    def again(thing: Thing) -> None:
        timers.arm(thing, thing.fired[-1] + TICK_S)

    for _ in range(600):
        timers.arm(Thing(timers, again), clock.now + 0.1)
    clock.advance(5)
    assert len(runs) >= 8


def test_lag_is_what_comes_twice_in_a_row_and_fades_within_a_second_or_so(clock: HeldClock, timers: Timers) -> None:
    """A loop in time has none, nor has one that was paused once; one that is late each time is seen at the second."""
    clock.advance(1.0)
    assert timers.lag_s == pytest.approx(0.0, abs=1e-6)
    clock.now += 2.0  # the process was paused for two seconds
    clock.advance(1.0)
    assert timers.lag_s == pytest.approx(0.0, abs=1e-6)
    for late_s in (2.0, 1.5):  # each turn of the loop takes as long
        clock.now += late_s + TICK_S
        clock.advance(0.0)
    assert timers.lag_s == pytest.approx(1.5, abs=0.06)
    clock.advance(0.5)
    assert timers.lag_s < 0.5
    clock.now += 600.0  # the process was stopped for ten minutes
    clock.advance(1.0)
    assert timers.lag_s < 1.0


def test_what_falls_due_while_the_loop_is_held_waits_for_a_tick(clock: HeldClock, timers: Timers) -> None:
    """So that what has arrived meanwhile is read first; what was due before is not kept waiting."""
    before, within = Thing(timers), Thing(timers)
    timers.arm(before, clock.now + 0.4 * TICK_S)
    timers.arm(within, clock.now + 1.0)
    clock.advance(1.5 * TICK_S)
    clock.now += 2.0
    clock.advance(0.0)
    assert (len(before.fired), len(within.fired)) == (1, 0)
    clock.advance(TICK_S)
    assert (len(before.fired), len(within.fired)) == (1, 1)
