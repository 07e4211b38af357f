"""Sidecars that are heard from, within bounds; clocks are the test's."""

from __future__ import annotations

import pytest

from sidecar.control import fleet as module
from sidecar.control.addresses import complaint, usable_ports
from sidecar.control.fleet import KEPT_S, REPORTS_AT_ONCE, SILENT_S, Fleet, FleetError
from sidecar.link.messages import Watch
from sidecar.link.report import Edge, Port, Report


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.fleet = Fleet(lambda: self.now_s, lambda: 1e9 + self.now_s)

    def open(self, instance: str = "i", service: str = "s") -> None:
        self.fleet.opened(Watch(service, instance), "10.0.0.1")

    def report(self, instance: str = "i", service: str = "s", seq: int = 1, *edges: Edge) -> bool:
        return self.fleet.reported(Report(service, instance, seq, edges=edges), "10.0.0.1")[1]


@pytest.fixture
def world() -> World:
    return World()


def test_report_that_comes_twice_is_not_new(world: World) -> None:
    """By its number; a later process begins with another."""
    assert world.report(seq=5)
    assert not world.report(seq=5)
    assert world.report(seq=6)
    assert world.report(seq=1)


def test_name_belongs_to_one_service_as_long_as_it_is_there(world: World) -> None:
    """Neither a stream nor a report takes it away; when it is gone it may be another's."""
    world.open()
    with pytest.raises(FleetError, match="another service") as refused:
        world.report(service="other")
    assert refused.value.status == 403
    world.fleet.closed("i")
    with pytest.raises(FleetError):
        world.open(service="other")
    world.now_s += SILENT_S
    world.open(service="other")
    member = world.fleet.get("i")
    assert member is not None
    assert member.service == "other"


def test_flood_is_turned_away_and_ends(world: World) -> None:
    """So many at once, and so many a second."""
    for number in range(int(REPORTS_AT_ONCE)):
        world.report(seq=number)
    with pytest.raises(FleetError) as refused:
        world.report(seq=99)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
    assert world.fleet.limited == 1
    world.report("other")
    world.now_s += 1
    assert world.report(seq=100)


def test_names_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is gone for longest makes room; where all are here, a new one is turned away."""
    monkeypatch.setattr(module, "MAX_INSTANCES", 3)
    for name in "abc":
        world.now_s += 1
        world.report(name)
    world.open("a")
    world.report("d")
    assert world.fleet.get("b") is None
    world.open("c")
    world.open("d")
    with pytest.raises(FleetError) as refused:
        world.report("e")
    assert refused.value.status == 503


def test_gone_ones_are_forgotten(world: World) -> None:
    """After a while, but for those with a stream."""
    world.report("a")
    world.open("b")
    world.now_s += KEPT_S + 1
    world.fleet.sweep()
    assert world.fleet.get("a") is None
    assert world.fleet.get("b") is not None


def test_open_stream_without_reports_is_silent(world: World) -> None:
    """A socket that nobody closed is no sign of life; one that never reported is no sidecar to be doubted."""
    world.open("a")
    world.report("a")
    world.open("b")
    world.now_s += SILENT_S + 1
    assert [member.id for member in world.fleet.silent()] == ["a"]


def test_periods_have_what_was_counted_between_two_reports(world: World) -> None:
    """For rollouts: requests, and those that failed, each once."""
    world.report(seq=1)
    world.now_s += 10
    world.report("i", "s", 2, Edge("outbound", "u", "r", 10, {"UH": 2}, {"5xx": 3}), Edge("inbound", "", "r", 4))
    member = world.fleet.get("i")
    assert member is not None
    (period,) = member.periods
    assert (period.requests, period.failures, period.end_s - period.start_s) == (14, 3, 10)


@pytest.mark.parametrize(
    ("address", "is_fine", "is_fine_here"),
    [
        ("10.0.0.1:80", True, True),
        ("[2001:db8::1]:80", True, True),
        ("pod.example:80", True, True),
        ("127.0.0.1:80", False, True),
        ("127.9.9.9:80", False, True),
        ("localhost:80", False, True),
        ("a.localhost.:80", False, True),
        ("[::1]:80", False, True),
        ("[::ffff:127.0.0.1]:80", False, True),
        ("0.0.0.0:80", False, False),
        ("[::]:80", False, False),
        ("224.0.0.1:80", False, False),
        ("255.255.255.255:80", False, False),
        ("169.254.169.254:80", False, False),
        ("10.0.0.1:0", False, False),
        ("10.0.0.1", False, False),
        ("unix:/run/x", False, False),
        ("<b>:80", False, False),
        ("", False, False),
    ],
)
def test_addresses_that_may_be_registered(address: str, is_fine: bool, is_fine_here: bool) -> None:
    """From elsewhere, and from loopback."""
    assert (not complaint(address, peer_is_local=False)) == is_fine
    assert (not complaint(address, peer_is_local=True)) == is_fine_here


def test_only_usable_ports_are_taken() -> None:
    """The others are told by name."""
    ports, problems = usable_ports(Report("s", "i", 1, ports={"a": Port("10.0.0.1:1"), "b": Port("no")}), False)
    assert list(ports) == ["a"]
    assert problems[0].startswith("ports.b: ")
