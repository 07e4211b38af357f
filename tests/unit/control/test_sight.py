"""What the rollout machine sees of the sidecars of this replica: what holds now, made anew only where it is new."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.control.discovery.registry import DoubtKey, Registry, doubt_key
from sidecar.control.doubt import STALE_AFTER_S, Doubt
from sidecar.control.fleet import Fleet
from sidecar.control.replicas.peers import Peers
from sidecar.control.rollout.view import Instance
from sidecar.control.sight import Sight
from sidecar.link.messages import Watch
from sidecar.link.report import Edge, Refused, Report, Running


class World:
    """Sidecars `i` and `other` of one service, with streams."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.doubt: Doubt[DoubtKey] = Doubt(self.clock)
        self.fleet = Fleet(self.clock, self.clock)
        registry = Registry(self.doubt, lambda service: None)
        peers = Peers("me", str, self.clock, self.clock)
        self.sight = Sight(self.fleet, registry, self.doubt, peers, "me", lambda _, known: known < 1, self.clock)
        self.seq = 0
        for name in ("i", "other"):
            self.fleet.opened(Watch("s", name), "10.0.0.9")
            self.report(instance=name)

    def clock(self) -> float:
        return self.now_s

    def report(self, **said: Any) -> None:
        self.now_s += 1
        self.seq += 1
        self.fleet.reported(Report(**{"service": "s", "instance": "i", "seq": self.seq, **said}), "10.0.0.9")

    def seen(self, name: str = "i") -> Instance:
        return next(one for one in self.sight.instances() if one.id == name)


@pytest.fixture
def world() -> World:
    return World()


def test_who_says_nothing_new_is_not_made_anew(world: World) -> None:
    """A thousand of them are looked at many times in a rollout."""
    first, other = world.seen(), world.seen("other")
    assert world.seen() is first
    world.report()
    assert world.seen() is not first
    assert world.seen("other") is other


def test_every_report_is_seen(world: World) -> None:
    """What it runs, what it refused, what it counted."""
    world.seen()
    world.report(running=Running("h1", 1))
    assert world.seen().hash == "h1"
    world.report(running=Running("h1", 1), refused=Refused("h2", 2))
    assert world.seen().refused_hash == "h2"
    world.report(running=Running("h3", 3), edges=(Edge("outbound", "u", "r", 7),))
    assert (world.seen().hash, world.seen().refused_hash) == ("h3", "")
    assert sum(one.requests for one in world.seen().periods) == 7
    world.report(is_goodbye=True)
    assert world.seen().is_draining


def test_what_passes_without_a_report_is_seen(world: World) -> None:
    """A stream that ends or begins, with another language too; doubt; who is gone."""
    world.doubt.heard(doubt_key("i"))
    before = world.seen()
    world.now_s += 1
    world.fleet.opened(Watch("s", "i", language=0), "10.0.0.9")
    assert world.seen().connected_s > before.connected_s
    assert world.seen().is_outdated
    world.doubt.lost(doubt_key("i"))
    world.now_s += STALE_AFTER_S + 1
    world.doubt.sweep()
    assert world.seen().is_stale
    world.fleet.closed("i")
    assert [one.id for one in world.sight.instances()] == ["other"]
