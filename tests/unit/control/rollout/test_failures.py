"""The share of failures: with what it is compared, when it halts, and what is done where there is too little."""

from __future__ import annotations

import pytest

from sidecar.control.rollout.record import Counts, place_of
from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.statistics import counted, is_worse, minimum
from sidecar.control.rollout.view import Instance, Period
from tests.support.rollouts import Mesh, settled, tree

OLD, NEW = tree("old"), tree("new")
GOOD, BAD, SOME = (100, 0), (100, 10), (100, 1)


def waved(mesh: Mesh) -> list[str]:
    """Push, and say who is in the first wave."""
    mesh.push(shop=NEW)
    mesh.look(2)
    return mesh.running("shop", NEW)


class TestStatistics:
    """What a share is, and when one is worse."""

    def test_only_whole_reports_in_the_window_count(self) -> None:
        """One that began before would mix in what the old file did."""
        periods = (Period(0, 10, 1, 1), Period(5, 15, 2, 2), Period(10, 20, 4, 1), Period(20, 30, 8, 8))
        instances = [Instance("a", "shop", periods=periods), Instance("b", "shop", periods=periods[:3])]
        assert counted(instances, 10, 25) == Counts(8, 2)

    @pytest.mark.parametrize(("worse_by", "requests"), [(0.02, 50), (0.1, 10), (0.03, 34), (1.0, 1), (0.05, 20)])
    def test_enough_is_where_one_failure_is_not_worse_by_itself(self, worse_by: float, requests: int) -> None:
        """1 of 50 is 2 %, which is not worse *by more* than 2 %."""
        assert minimum(worse_by) == requests

    @pytest.mark.parametrize(
        ("counts", "than", "worse"),
        [
            (Counts(50, 50), Counts(1000, 0), True),
            (Counts(50, 7), Counts(1000, 10), True),
            (Counts(50, 2), Counts(1000, 10), False),  # chance
            (Counts(5000, 200), Counts(5000, 50), True),
            (Counts(5000, 100), Counts(5000, 50), False),  # worse by 1 %
            (Counts(100, 100), Counts(100, 100), False),
            (Counts(100, 0), Counts(100, 50), False),
        ],
    )
    def test_worse_is_more_than_allowed_and_more_than_chance(self, counts: Counts, than: Counts, worse: bool) -> None:
        """Two standard errors are taken off before."""
        assert is_worse(counts, than, 0.02) is worse


def test_wave_that_fails_more_than_the_rest_is_taken_back() -> None:
    """In the same window; before the hold is over."""
    mesh = settled(Rules(), shop=20)
    wave = waved(mesh)
    mesh.pass_time(15, {"shop": GOOD, wave[0]: BAD})
    assert mesh.service("shop").state == "halted"
    assert mesh.service("shop").why == "10.0% of 100 requests fail, 0.0% of 1900 the rest"
    assert len(mesh.running("shop", OLD)) == 20
    assert mesh.told("halted")[0].details["part"] == "routes"


def test_failures_that_all_share_halt_nobody() -> None:
    """A database that is down is not the revision's fault."""
    mesh = settled(Rules(), shop=20)
    waved(mesh)
    mesh.until_done(traffic={"shop": BAD})
    assert len(mesh.running("shop", NEW)) == 20


def test_what_failed_before_the_wave_accepted_is_not_its_fault() -> None:
    """The window begins when all of it have accepted."""
    mesh = settled(Rules(), shop=20)
    first = min(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    mesh.pass_time(30, {"shop": GOOD, first.id: (100, 100)})
    assert waved(mesh) == [first.id]
    mesh.until_done(traffic={"shop": GOOD})
    assert len(mesh.running("shop", NEW)) == 20


def test_service_of_one_instance_is_compared_with_its_own_time_before() -> None:
    """There is no rest."""
    mesh = settled(Rules(), shop=1)
    mesh.pass_time(60, {"shop": SOME})
    waved(mesh)
    mesh.pass_time(60, {"shop": BAD})
    assert mesh.service("shop").state == "halted"
    assert "1.0% of 1200 before" in mesh.service("shop").why
    assert mesh.running("shop", OLD) == ["shop-0"]


def test_one_instance_that_always_fails_so_often_goes_on() -> None:
    """As before is not worse."""
    mesh = settled(Rules(), shop=1)
    mesh.pass_time(60, {"shop": BAD})
    waved(mesh)
    mesh.until_done(traffic={"shop": BAD})
    assert mesh.running("shop", NEW) == ["shop-0"]


def test_last_wave_is_compared_with_the_time_before() -> None:
    """Only what all together break shows when all have it."""
    mesh = settled(Rules(), shop=4)
    mesh.pass_time(60, {"shop": SOME})
    mesh.push(shop=NEW)
    mesh.look(2)
    while len(mesh.running("shop", NEW)) < 4:
        mesh.pass_time(5, {"shop": SOME})
    mesh.pass_time(30, {"shop": BAD})
    assert mesh.service("shop").state == "halted"
    assert len(mesh.running("shop", OLD)) == 4


def test_thin_traffic_is_told_and_goes_on_after_a_while() -> None:
    """Once in the log, all the time in the status."""
    mesh = settled(Rules(), shop=20)
    waved(mesh)
    mesh.pass_time(299, {"shop": (0, 0)})
    status = mesh.status("shop")
    assert (status["state"], status["wave"]) == ("thin", 1)
    assert status["why"] == "too few requests: 0, at least 50 are needed; goes on 300 s after all have accepted"
    assert len(mesh.told("thin")) == 1
    mesh.pass_time(6)
    assert mesh.service("shop").wave == 1


def test_thin_traffic_may_hold_until_somebody_says_otherwise() -> None:
    """`thin: {then: hold}`."""
    mesh = settled(Rules(thin_then="hold"), shop=20)
    waved(mesh)
    mesh.pass_time(3600)
    assert mesh.status("shop")["state"] == "thin"
    assert len(mesh.running("shop", NEW)) == 1
    mesh.hurry()
    mesh.look(3)
    assert mesh.service("shop").state == "done"


def test_traffic_that_comes_ends_thin() -> None:
    """Enough requests, and the gate is what it always is."""
    mesh = settled(Rules(thin_then="hold"), shop=20)
    waved(mesh)
    mesh.pass_time(600)
    assert mesh.status("shop")["state"] == "thin"
    mesh.pass_time(10, {"shop": GOOD})
    assert mesh.service("shop").wave == 1


def test_failures_with_nothing_to_compare_with_are_thin() -> None:
    """A control plane that has just started knows nothing of the time before: it neither halts nor goes on at once."""
    mesh = settled(Rules(), shop=1)
    waved(mesh)
    mesh.pass_time(60, {"shop": BAD})
    status = mesh.status("shop")
    assert status["state"] == "thin"
    assert "nothing to compare with: 10.0% of 1200" in status["why"]


def test_success_needs_nothing_to_compare_with() -> None:
    """No share of failures could be worse than none by more than is allowed."""
    mesh = settled(Rules(), shop=1)
    waved(mesh)
    mesh.pass_time(35, {"shop": SOME})
    assert mesh.service("shop").state == "done"


def test_failures_are_not_looked_at_if_the_rules_say_so() -> None:
    """Without `error_rate` a wave is held and nothing else."""
    mesh = settled(Rules(worse_by=None), shop=20)
    waved(mesh)
    mesh.until_done(traffic={"shop": (100, 100)})
    assert len(mesh.running("shop", NEW)) == 20
