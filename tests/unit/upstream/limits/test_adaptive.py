"""The adaptive limit against a simulated server: it finds the server's capacity, follows it, and comes back."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from sidecar.upstream.limits.adaptive import (
    INITIAL_LIMIT,
    MIN_LIMIT,
    PROBE_PERIOD_S,
    PROBE_STEP_MAX_S,
    SILENCE_S,
    AdaptiveLimit,
)
from tests.unit.upstream.simulated import Seen, Simulation


def limit_of(max_limit: int = 4096) -> AdaptiveLimit:
    return AdaptiveLimit(max_limit, lambda: 0.5)


def exponential(mean_s: float) -> Callable[[], float]:
    random = Random(1)
    return lambda: random.expovariate(1 / mean_s)


def answered(seconds: list[Seen]) -> float:
    return sum(seen.answered for seen in seconds) / len(seconds)


def mean_s(seconds: list[Seen]) -> float:
    latencies = [latency for seen in seconds for latency in seen.latencies]
    return sum(latencies) / len(latencies)


def test_overloaded_server_keeps_its_throughput_and_a_short_queue() -> None:
    """Three times more than 10 workers can do: within five seconds full throughput at about twice the idle latency."""
    simulation = Simulation(limit_of(), workers=10, service_s=exponential(0.01), rate=3000)
    simulation.run(5)
    steady = simulation.run(20)
    assert answered(steady) > 950
    assert mean_s(steady) < 0.025
    assert 10 < simulation.limit.limit < 30


def test_server_that_is_not_overloaded_is_not_limited() -> None:
    """At half of its capacity nothing is refused, from the first request on."""
    simulation = Simulation(limit_of(), workers=10, service_s=exponential(0.01), rate=500)
    assert sum(seen.refused for seen in simulation.run(90)) == 0


def test_cold_start_under_overload_does_not_take_the_queue_for_normal() -> None:
    """What is measured first is a queue's latency; the probe a second later finds the true one."""
    simulation = Simulation(limit_of(), workers=20, service_s=exponential(0.01), rate=3000)
    simulation.run(1.5)
    assert simulation.limit.baseline_s > 0.02
    simulation.run(2.5)
    assert 0.005 < simulation.limit.baseline_s < 0.012
    assert answered(simulation.run(5)) > 1900


def test_limit_follows_a_loss_of_capacity_and_its_return() -> None:
    """Of 20 workers 15 die and come back: the limit is at the new capacity within a second or two, both ways."""
    simulation = Simulation(limit_of(), workers=20, service_s=exponential(0.01), rate=3000)
    simulation.run(10)
    whole = simulation.limit.limit
    simulation.workers = 5
    simulation.run(2)
    fewer = simulation.run(10)
    assert answered(fewer) > 450
    assert mean_s(fewer) < 0.025
    assert simulation.limit.limit < whole / 2
    simulation.workers = 20
    simulation.run(2)
    assert answered(simulation.run(5)) > 1900


def test_server_that_became_slower_for_good_is_learnt_anew() -> None:
    """Three times the service time is no queue: the limit falls to its floor, a probe finds out, and it grows back."""
    simulation = Simulation(limit_of(), workers=20, service_s=exponential(0.01), rate=3000)
    simulation.run(10)
    simulation.service_s = exponential(0.03)
    simulation.run(15)
    assert simulation.limit.baseline_s > 0.015
    assert answered(simulation.run(20)) > 0.95 * 20 / 0.03


def test_server_with_two_kinds_of_answers_is_not_strangled() -> None:
    """Half of the requests take 1 ms and half 100 ms: that is variance, not overload."""
    random = Random(1)
    simulation = Simulation(limit_of(), 50, lambda: 0.001 if random.random() < 0.5 else 0.1, rate=800)
    assert sum(seen.refused for seen in simulation.run(60)) < 0.01 * 800 * 60


def test_single_worker_is_kept_busy_at_the_floor() -> None:
    """The smallest server there is works all the time behind a handful of requests."""
    simulation = Simulation(limit_of(), workers=1, service_s=exponential(0.01), rate=300)
    simulation.run(10)
    assert answered(simulation.run(20)) > 90
    assert MIN_LIMIT <= simulation.limit.limit < 16


def test_timeouts_lower_the_limit() -> None:
    """A server whose every answer comes too late gives no samples; that it gives timeouts is enough."""
    limit = limit_of()
    now = 0.0
    for _ in range(400):
        now += 0.01
        limit.on_sample(0.5, 64, True, now)
    assert limit.limit <= 8


def test_unused_limit_does_not_grow() -> None:
    """With less than half of it in flight nothing is learnt about more."""
    limit = limit_of()
    now = 0.0
    for _ in range(5000):
        now += 0.01
        limit.on_sample(0.01, INITIAL_LIMIT // 2 - 1, False, now)
    assert limit.limit == INITIAL_LIMIT


def test_quiet_upstream_is_measured_without_a_probe() -> None:
    """Its latency is the baseline, also when it has changed: it is taken over after a minute without a probe."""
    limit = limit_of()
    now = 0.0
    for latency_s in (0.01, 0.04):
        end = now + 2 * PROBE_PERIOD_S
        while now < end:
            now += 0.01
            limit.on_sample(latency_s, 2, False, now)
            assert not limit.is_probing
        assert limit.baseline_s == pytest.approx(latency_s)


def test_probe_that_gets_no_results_is_given_up() -> None:
    """Load that ends in the middle of a probe leaves the limit where it was."""
    limit = limit_of()
    now = 0.0
    while not limit.is_probing:
        now += 0.001
        limit.on_sample(0.01, limit.limit, False, now)
    baseline_s = limit.baseline_s
    held = limit.limit
    limit.on_sample(0.01, 1, False, now + 6)
    assert not limit.is_probing
    assert limit.limit > held
    assert limit.baseline_s == baseline_s


class TestSilence:
    """A limit finds its way back without results; time is the test's."""

    @staticmethod
    def silent(limit: AdaptiveLimit, now: float, seconds: int, in_flight: int) -> tuple[float, int]:
        """So many seconds in which every request is refused that may be; who is let in hangs, too."""
        for _ in range(seconds):
            now += 1.0
            while in_flight < limit.limit:
                in_flight += 1
            limit.on_tick(in_flight, True, now)
        return now, in_flight

    @pytest.mark.parametrize("held", [3, INITIAL_LIMIT, 500])
    def test_limit_that_refuses_and_hears_nothing_lets_one_in_each_second(self, held: int) -> None:
        """However many do not end, and however far below them the limit is: the next one is let in after the pause."""
        limit = limit_of()
        limit.limit = 3
        limit._estimate = 3.0
        limit.on_sample(0.01, held, False, 1.0)
        now = 1.0
        for _ in range(int(SILENCE_S) - 1):
            now += 1.0
            limit.on_tick(held, True, now)
            assert limit.limit == 3
        for more in range(1, 10):
            now += 1.0
            limit.on_tick(held + more - 1, True, now)
            assert limit.limit == held + more

    def test_one_that_is_answered_brings_the_limit_back(self) -> None:
        """Sixty-four hang from the first on; from what the next ones take the limit grows as it always does."""
        limit = limit_of()
        now, held = self.silent(limit, 1.0, 7, INITIAL_LIMIT)
        assert limit.limit <= INITIAL_LIMIT + 2
        for _ in range(2000):
            now += 0.005
            limit.on_sample(0.005, min(limit.limit, held + 10), False, now)
        assert limit.limit > held + 10

    def test_probe_without_results_ends_when_its_time_is_up(self) -> None:
        """Of those in flight when it began none ends, and with the limit halved nobody is let in."""
        limit = limit_of()
        now = 0.0
        while not limit.is_probing:
            now += 0.001
            limit.on_sample(0.01, limit.limit, False, now)
        held, whole = limit.limit, int(limit._estimate)
        limit.on_tick(whole, True, now + PROBE_STEP_MAX_S - 0.1)
        assert (limit.is_probing, limit.limit) == (True, held)
        limit.on_tick(whole, True, now + PROBE_STEP_MAX_S)
        assert not limit.is_probing
        assert limit.limit >= whole

    def test_silence_without_refusals_is_a_quiet_hour(self) -> None:
        """Nothing is learnt from it, and nothing changes."""
        limit = limit_of()
        limit.on_sample(0.01, 1, False, 1.0)
        for second in range(2, 3600):
            limit.on_tick(0, False, float(second))
        assert limit.limit == INITIAL_LIMIT

    def test_upstream_that_hangs_is_not_flooded(self) -> None:
        """One a second more, and never more than the file says."""
        limit = limit_of(100)
        _, in_flight = self.silent(limit, 1.0, 30, INITIAL_LIMIT)
        assert INITIAL_LIMIT + 20 < in_flight <= INITIAL_LIMIT + 30
        _, in_flight = self.silent(limit, 31.0, 300, in_flight)
        assert in_flight == 100


def test_bounds_hold() -> None:
    """The limit is never above what the file says nor below one, and follows a reload at once."""
    limit = limit_of(2)
    assert limit.limit == 2
    now = 0.0
    for _ in range(3000):
        now += 0.01
        limit.on_sample(0.01, 2, False, now)
        assert 1 <= limit.limit <= 2
    limit = limit_of(4096)
    limit.set_max(10)
    assert limit.limit == 10


def test_repr_shows_the_state() -> None:
    """A look says the limit and what it is based on."""
    assert repr(limit_of()) == "<AdaptiveLimit 64 [FOLLOWING | Baseline: 0.0 ms]>"
