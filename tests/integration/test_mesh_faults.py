"""A mesh of processes in which something is killed, or refuses, in the middle of an edit; every answer is counted."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import Load, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.process import request
from tests.support.wait import eventually

MESH = "mesh: shop\nunmatched: deny\nrollout: {waves: [one, 100%], hold: 500ms, thin: {after: 500ms}}\n"
INBOUND_PORT = 15000
"""Where a sidecar listens for its app, if neither the mesh nor the machine says otherwise."""
BACK = "service: back\napp: 127.0.0.1:8080\ncalls: {}\n"


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    """Two apps."""
    with Origin("one") as one, Origin("two") as two:
        yield one, two


def back(edition: int) -> dict[str, str]:
    """The file of `back`, whose answers tell the edition."""
    routes = f'inbound: {{routes: [{{name: all, response_headers: {{set: {{x-edition: "{edition}"}}}}}}]}}\n'
    return {"back.yaml": BACK + routes}


def rollout(mesh: MeshOfProcesses, service: str, revision: int) -> dict[str, Any]:
    """How a service's rollout of a revision stands; empty if it has none yet."""
    rows = mesh.control.shown()["rollouts"]
    return next((one for one in rows if one["service"] == service and one["revision"] == revision), {})


def begin(mesh: MeshOfProcesses, edition: int) -> None:
    """Edit, and wait until a wave has begun."""
    mesh.control.write(back(edition))
    eventually(lambda: rollout(mesh, "back", edition).get("part") == "routes", f"the waves of edition {edition}")


def problem_of(mesh: MeshOfProcesses, member: Member) -> Any:
    """What it refused its file for, once that is led back to the mesh's files."""
    (problem,) = mesh.control.instance(member.id)["refused"]["problems"]
    return problem if problem["file"] else None


def kill(member: Member) -> None:
    """SIGKILL, and wait until it is gone."""
    member.signal(signal.SIGKILL)
    member.wait()


@pytest.mark.long
def test_kill_of_control_plane_and_sidecars_in_the_middle_of_an_edit(
    tmp_path: Path, origins: tuple[Origin, Origin]
) -> None:
    """Without its control plane everything is answered; whatever is killed, in the end all run what is wanted."""
    # The first of the two is used again soon after it came back: else there is nobody when the second one is killed.
    ejection = "{consecutive_connect_failures: 3, base_ejection_time: 1s}"
    front_file = f"service: front\ncalls: {{back: {{outlier_detection: {ejection}}}}}\n"
    with running_mesh(tmp_path, {"mesh.yaml": MESH, "front.yaml": front_file, **back(1)}) as mesh:
        mesh.delay = "3s"  # as by default: a control plane that was just started tells nobody `left`
        front = mesh.join("front")
        first, second = (mesh.join("back", origin.port) for origin in origins)
        mesh.wait_settled(1)

        def editions() -> set[str]:
            return {request(member.inbound_port).headers["x-edition"] for member in (first, second)}

        with Load(front, "back") as load:
            load.wait_for()
            begin(mesh, 2)
            mesh.control.stop(signal.SIGKILL)
            load.wait_for(100)
            mesh.control.start()
            mesh.wait_settled(2)
            assert editions() == {"2"}
        assert load.phases == [["200"]] * 2, load.answers

        begin(mesh, 3)
        kill(first)
        with Load(front, "back") as load:
            load.wait_until(lambda seen: seen.keys() == {"200 two"}, "answers of the other")
            first.begin()
            mesh.wait_settled(3)
            front.wait_knows("back", first, second)
        assert editions() == {"3"}

        begin(mesh, 4)
        mesh.control.stop(signal.SIGKILL)
        kill(second)
        with Load(front, "back") as load:
            load.wait_until(lambda seen: seen.keys() == {"200 one"}, "answers of the other")
            mesh.control.start()
            second.begin()
            mesh.wait_settled(4)
            front.wait_knows("back", first, second)
        assert editions() == {"4"}
        assert mesh.control.shown()["revision"] == 4


@pytest.mark.long
def test_edit_that_machines_refuse_is_told_at_its_place_and_taken_back(
    tmp_path: Path, origins: tuple[Origin, Origin]
) -> None:
    """The mesh's files are good, the port is somebody's: that service halts with the old file, another goes on."""
    batch = "service: batch\ncalls: {back: {}}\n"
    files = {"mesh.yaml": MESH, "front.yaml": "service: front\ncalls: {back: {}}\n", "batch.yaml": batch, **back(1)}
    with running_mesh(tmp_path, files) as mesh, ExitStack() as held:
        with suppress(OSError):  # else somebody has it already
            held.enter_context(socket.create_server(("0.0.0.0", INBOUND_PORT)))
        front, caller = mesh.join("front"), mesh.join("batch")
        mesh.join("back", origins[0].port)
        mesh.wait_settled(1)
        old = mesh.control.instance(caller.id)["config"]["hash"]
        with Load(front, "back", clients=1) as load, Load(caller, "back", clients=1) as other:
            mesh.control.write({"batch.yaml": f"{batch}app: 127.0.0.1:8080\n", **back(2)})
            eventually(lambda: rollout(mesh, "batch", 2).get("state") == "halted", "the halt")
            eventually(lambda: rollout(mesh, "back", 2).get("state") == "done", "the end of the other service's")
            assert rollout(mesh, "batch", 2)["refused"] == [caller.id]
            shown = mesh.control.instance(caller.id)
            assert shown["config"]["hash"] == shown["wanted"]["hash"] == old
            # Its place in the mesh's file is found a moment after it was told.
            problem = eventually(lambda: problem_of(mesh, caller), "the place")
            assert (problem["file"], problem["line"], problem["path"]) == ("batch.yaml", 3, "app")
            assert f"0.0.0.0:{INBOUND_PORT}" in problem["message"]
            assert not mesh.control.shown()["source"]["problems"]
            assert request(mesh.members["back-1"].inbound_port).headers["x-edition"] == "2"
            mesh.control.write({"batch.yaml": batch})
            mesh.wait_settled(3)
            load.wait_for()
        assert load.phases == other.phases == [["200"]], (load.answers, other.answers)
