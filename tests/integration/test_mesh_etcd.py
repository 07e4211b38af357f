"""A mesh of processes on three members of etcd with two control planes, of which one after the other is killed."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.integration.test_mesh_faults import MESH, back, rollout
from tests.support.mesh import Load, Member
from tests.support.mesh_on_etcd import mesh_on_etcd
from tests.support.origin import Origin
from tests.support.process import request
from tests.support.wait import eventually

FILES = {"mesh.yaml": MESH, "front.yaml": "service: front\ncalls: {back: {}}\n", **back(1)}


def editions(*members: Member) -> list[str]:
    """Of their files."""
    return [request(member.inbound_port).headers["x-edition"] for member in members]


def test_requests_and_rollouts_outlive_leader_quorum_and_mover(tmp_path: Path) -> None:
    """
    etcd's leader is killed, then its quorum; it returns; then the control plane that moves a rollout is killed in the
    middle of a wave. Nobody loses a request, nobody is taken away, and every edit reaches everyone.
    """
    with Origin("one") as one, Origin("two") as two, mesh_on_etcd(tmp_path, FILES) as mesh:
        front = mesh.join("front", url=mesh.url())
        backs = [mesh.join("back", app.port, url=mesh.url(number)) for number, app in enumerate((one, two))]
        mesh.wait_settled(1)
        front.wait_knows("back", *backs)
        with Load(front, "back") as load:
            dead = mesh.cluster.leader()
            dead.kill()
            mesh.edit(back(2))
            assert editions(*backs) == ["2", "2"]
            other = mesh.running_members()[0]
            other.kill()
            load.wait_for(200)
            assert front.knows("back") == {member.address for member in backs}
            mesh.cluster.start(dead, other)
            assert mesh.registrations() == set(mesh.members)
            mesh.edit(back(3))
            assert editions(*backs) == ["3", "3"]

            mover = mesh.mover()
            survivor = next(replica for replica in mesh.replicas if replica is not mover)
            mesh.ask(survivor)
            revision = mesh.push(back(4))
            eventually(lambda: "4" in editions(*backs), "the first of the wave")
            mover.stop(signal.SIGKILL)
            assert sorted(editions(*backs)) == ["3", "4"]
            mesh.expire(mover)
            mesh.wait_settled(revision)
            assert editions(*backs) == ["4", "4"]
            assert rollout(mesh, "back", revision)["state"] == "done"
        assert mesh.mover() is survivor
        assert front.knows("back") == {member.address for member in backs}
    assert load.phases == [["200"]] * 2, load.answers
    assert sorted(asked for app in (one, two) for asked in app.requests if asked[1] != "/") == sorted(load.sent)
