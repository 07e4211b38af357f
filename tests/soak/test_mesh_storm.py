"""A mesh of processes for minutes, by `make soak-mesh`: what it went through, and that each request was answered."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.test_mesh_faults import MESH, back
from tests.soak.app import App
from tests.soak.mesh_kills import SETTLED_S, Kills
from tests.soak.steady import Steady, Tally, Trouble
from tests.support.mesh import Member, running_mesh
from tests.support.mesh_on_etcd import MeshOnEtcd, mesh_on_etcd
from tests.support.process import request
from tests.support.relay import Relay
from tests.support.wait import eventually, free_port

SECONDS = float(os.environ.get("SOAK_MESH_SECONDS", "0"))
SEED = os.environ.get("SOAK_SEED", "1")
RATE = float(os.environ.get("SOAK_MESH_RATE", "1000"))
CUT_S = float(os.environ.get("SOAK_MESH_CUT_SECONDS", "300"))
GOOD_S = 35.0
"""After as long a file that runs is surely kept for the next start, and whoever is not heard of is in doubt."""
BESIDE_RATE = 150
"""Requests a second beside faults which are not about the rate; every third is a POST."""

pytestmark = [
    pytest.mark.skipif(not SECONDS, reason="make soak-mesh"),
    pytest.mark.timeout(SECONDS * 2 + CUT_S + 900),
]
RETRY = "retry: {attempts: 3, on: [connect_failure, reset_before_response, gateway_error]}"
FILES = {"mesh.yaml": MESH, "front.yaml": f"service: front\ncalls: {{back: {{{RETRY}}}}}\n", **back(1)}


class Shop:
    """
    `front` and three instances of `back` on etcd of three members and two control planes.

    Attributes:
        apps: By instance of `back`.
    """

    def __init__(self, mesh: MeshOnEtcd, front: Member, apps: dict[str, App]) -> None:
        self.mesh = mesh
        self.front = front
        self.apps = apps
        self.backs = [mesh.members[name] for name in apps]

    def load(self) -> Steady:
        """GETs and POSTs by the front."""
        return Steady(self.front.outbound_port, "back", BESIDE_RATE, ("GET", "GET", "POST"))

    def settle(self, revision: int = 0) -> None:
        """Until all know of each other."""
        self.mesh.wait_settled(revision, SETTLED_S)
        self.front.wait_knows("back", *self.backs)

    def editions(self) -> set[str]:
        """Of the files that run."""
        return {request(member.inbound_port).headers["x-edition"] for member in self.backs}

    def push_again(self, edition: int) -> int:
        """Until etcd takes it."""
        return eventually(lambda: self.mesh.try_push(back(edition)), "a push that etcd takes", 60)

    def wait_for_one(self, edition: int) -> None:
        """Until the first of a wave has it."""
        eventually(lambda: str(edition) in self.editions(), f"the first with edition {edition}", 60)

    def judge(self, load: Steady, what: str, *troubles: Trouble) -> Tally:
        """What came of a load, printed; it must be good, and nobody may have been taken away."""
        tally = load.tally([line for app in self.apps.values() for line in app.arrivals()], troubles)
        print(f"\n{what}: {tally}")  # noqa: T201
        assert tally.is_good, tally
        for one in self.mesh.replicas:
            assert " removed " not in one.log(), one.log()
        assert self.mesh.registrations() == set(self.mesh.members)
        return tally


@contextmanager
def shop(directory: Path, relayed: bool = False) -> Iterator[tuple[Shop, list[Relay]]]:
    """It runs; with relays between all sidecars and the control planes if that is asked for."""
    with ExitStack() as stack:
        apps = [App(f"app-{number}", directory, free_port()) for number in range(3)]
        for app in apps:
            stack.callback(app.kill)
            app.start()
        mesh = stack.enter_context(mesh_on_etcd(directory, FILES))
        relays = [stack.enter_context(Relay(one.port)) for one in mesh.replicas] if relayed else []
        url = " ".join(relay.url for relay in relays)
        front = mesh.join("front", url=url or mesh.url())
        backs = {mesh.join("back", app.port, url=url or mesh.url(n % 2)).id: app for n, app in enumerate(apps)}
        made = Shop(mesh, front, backs)
        made.settle(1)
        yield made, relays
        mesh.end()  # while there are relays, so that goodbyes are heard


def test_everything_is_killed_one_at_a_time(tmp_path: Path) -> None:
    """Control planes, sidecars, apps, members of etcd, compiling processes, at random for SOAK_MESH_SECONDS."""
    with shop(tmp_path) as (made, _):
        kills = Kills(made.mesh, made.front, made.apps, SEED)
        with made.load() as load:
            until_s = time.monotonic() + SECONDS
            while time.monotonic() < until_s or len(kills.counts) < 5:
                kills.strike()
        print(  # noqa: T201
            f"\nseed {SEED}, killed {dict(kills.counts)}; {kills.edition} editions, {kills.refused_pushes} pushes not"
            f" taken; slowest return {kills.slowest_return_s:.1f} s"
        )
        made.judge(load, "kills", *kills.troubles)
        assert made.editions() == {str(kills.edition)}


def test_control_planes_are_cut_off_with_etcd_well(tmp_path: Path) -> None:
    """
    For SOAK_MESH_CUT_SECONDS no sidecar reaches a control plane: first it is refused, then it is met with silence.
    Nobody is removed, all go on with what they have, one that is killed comes back with it, and an edit that was made
    meanwhile arrives afterwards.
    """
    with shop(tmp_path, relayed=True) as (made, relays):
        mesh, troubles = made.mesh, []
        with made.load() as load:
            began_s = time.monotonic()
            for relay in relays:
                relay.mode = "refuse"
                relay.cut()
            time.sleep(max(CUT_S / 4, GOOD_S))
            revision = mesh.push(back(2))
            victim, killed_s = made.backs[0], time.monotonic()
            victim.kill()
            time.sleep(1.0)
            victim.begin()
            eventually(victim.is_ready, "the one that was killed, without a control plane", 60)
            troubles.append(Trouble("sidecar", killed_s, time.monotonic() + 2.0))
            time.sleep(CUT_S / 4)
            for relay in relays:
                relay.mode = "stall"
            while time.monotonic() < began_s + CUT_S:
                time.sleep(1.0)
                assert made.editions() == {"1"}
                assert made.front.knows("back") == {member.address for member in made.backs}
                assert mesh.registrations() == set(mesh.members)
            assert not any(row["connected"] for row in mesh.control.shown()["instances"])
            assert mesh.control.shown()["doubt"]["removing"] is (CUT_S < 60)
            for relay in relays:
                relay.mode = "pass"
                relay.cut()
            made.settle(revision)
            assert made.editions() == {"2"}
        made.judge(load, f"cut for {CUT_S:.0f} s", *troubles)


def test_engine_and_replicas_are_lost_and_return(tmp_path: Path) -> None:
    """
    etcd's leader killed in the middle of a wave, its quorum lost for a while and back, and a replica killed in the
    middle of a wave, whose leases end in their own time: no request fails, every edit arrives, whoever joins is told.
    """
    with shop(tmp_path) as (made, _):
        mesh = made.mesh
        with made.load() as load:
            edition = 1
            until_s = time.monotonic() + SECONDS
            while time.monotonic() < until_s or edition == 1:
                leader = mesh.cluster.leader()
                revision = mesh.push(back(edition := edition + 1))
                leader.kill()
                made.settle(revision)
                assert made.editions() == {str(edition)}

                second = mesh.cluster.leader()
                second.kill()
                assert mesh.try_push(back(edition + 1)) == 0
                time.sleep(min(30.0, SECONDS / 4))
                assert made.front.knows("back") == {member.address for member in made.backs}
                assert made.editions() == {str(edition)}
                mesh.cluster.start(leader, second)
                revision = made.push_again(edition := edition + 1)
                made.settle(revision)

                mover = mesh.mover()
                mesh.ask(next(one for one in mesh.replicas if one is not mover))
                revision = mesh.push(back(edition := edition + 1))
                made.wait_for_one(edition)
                mover.stop(signal.SIGKILL)
                made.settle(revision)
                assert made.editions() == {str(edition)}
                before = len(mover.log())
                mover.start()
                mesh.ask(mover)
                made.settle()
                time.sleep(GOOD_S)
                assert "stale" not in mover.log()[before:], "they are at the other one"
        print(f"\n{edition} editions")  # noqa: T201
        made.judge(load, "engine and replicas")


def test_instances_are_replaced_under_posts(tmp_path: Path) -> None:
    """One after the other for half of SOAK_MESH_SECONDS under SOAK_MESH_RATE POSTs a second: each arrives once."""
    files = {"front.yaml": "service: front\ncalls: {back: {}}\n", **back(1)}
    with ExitStack() as stack:
        apps = [App(f"app-{number}", tmp_path, free_port()) for number in range(3)]
        for app in apps:
            stack.callback(app.kill)
            app.start()
        mesh = stack.enter_context(running_mesh(tmp_path, files))
        front = mesh.join("front")
        members = [mesh.join("back", app.port) for app in apps[:2]]
        mesh.wait_settled(1)
        front.wait_knows("back", *members)
        replaced = 0
        with Steady(front.outbound_port, "back", RATE) as load:
            until_s = time.monotonic() + SECONDS / 2
            while time.monotonic() < until_s:
                app = apps[(replaced + 2) % 3]
                members.append(mesh.join("back", app.port))
                mesh.wait_settled()
                mesh.scale_down(members.pop(0))
                replaced += 1
        tally = load.tally([line for app in apps for line in app.arrivals()])
        print(f"\n{replaced} replaced: {tally}")  # noqa: T201
        assert tally.is_good, tally
        assert sum(tally.by_app.values()) == tally.requests
