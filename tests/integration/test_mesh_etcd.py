"""A mesh of processes on three members of etcd with two control planes, of which one after the other is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

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


@pytest.mark.long
def test_requests_and_rollouts_outlive_leader_quorum_and_mover(tmp_path: Path) -> None:
    """
    etcd's leader is killed, and the next one, so that quorum is lost; it returns, and the control plane that moves
    rollouts is killed in the middle of a wave. No request is lost, nobody is taken away, the edit reaches everyone.
    """
    with Origin("one") as one, Origin("two") as two, mesh_on_etcd(tmp_path, FILES) as mesh:
        front = mesh.join("front", url=mesh.url())
        backs = [mesh.join("back", app.port, url=mesh.url(number)) for number, app in enumerate((one, two))]
        mesh.wait_settled(1)
        front.wait_knows("back", *backs)
        with Load(front, "back") as load:
            leader = mesh.cluster.leader()
            leader.kill()
            load.wait_for(100)
            second = mesh.cluster.leader()
            second.kill()
            load.wait_for(200)
            assert front.knows("back") == {member.address for member in backs}
            mesh.cluster.start(leader, second)
            assert mesh.registrations() == set(mesh.members)

            mover = mesh.mover()
            survivor = next(replica for replica in mesh.replicas if replica is not mover)
            mesh.ask(survivor)
            revision = eventually(lambda: mesh.try_push(back(2)), "a push that etcd takes")
            eventually(lambda: "2" in editions(*backs), "the first of the wave")
            mover.stop(signal.SIGKILL)
            assert sorted(editions(*backs)) == ["1", "2"]
            mesh.expire(mover)
            mesh.wait_settled(revision)
            assert editions(*backs) == ["2", "2"]
            assert rollout(mesh, "back", revision)["state"] == "done"
        assert mesh.mover() is survivor
        assert front.knows("back") == {member.address for member in backs}
    assert load.phases == [["200"]] * 2, load.answers
    assert sorted(asked for app in (one, two) for asked in app.requests if asked[1] != "/") == sorted(load.sent)
