"""What a mesh's new files would do, asked of the sidecars that run; and why one sends a request where it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import sidecar_command
from tests.support.mesh import Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin

FILES = {
    "mesh.yaml": "mesh: shop\nunmatched: deny\n",
    "front.yaml": "service: front\ncalls: {back: {}}\n",
    "back.yaml": "service: back\napp: 127.0.0.1:8080\ncalls: {}\n",
}
MOVED = "calls: {back: {routes: [{name: old, match: {path: {prefix: /old}}, respond: {status: 410}}]}}\n"


class World:
    """A mesh with a caller that has sent nine requests, three of them for what is old."""

    def __init__(self, mesh: MeshOfProcesses, front: Member) -> None:
        self.mesh = mesh
        self.front = front
        self.url = f"http://127.0.0.1:{mesh.control.port}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Ready."""
    with Origin("back") as origin, running_mesh(tmp_path_factory.mktemp("mesh"), FILES) as mesh:
        front = mesh.join("front")
        mesh.join("back", origin.port)
        mesh.wait_settled(1)
        for index in range(9):
            path = f"/{'old' if index % 3 == 0 else 'new'}/{index}"
            headers = {"x-request-id": f"r{index}", "authorization": "Bearer topsecret"}
            assert front.outbound(path, host="back", headers=headers).status == 200
        yield World(mesh, front)


def edited(folder: Path, **files: str) -> Path:
    """A directory with the mesh's files, and these in their place."""
    for name, text in {**FILES, **{f"{name}.yaml": text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    return folder


def test_a_diff_says_which_recent_requests_would_move(world: World, tmp_path: Path) -> None:
    """By the sidecars' own previews, of the file that each would get; what stays the same is not asked about."""
    directory = edited(tmp_path, front=f"service: front\n{MOVED}")

    told = sidecar_command("mesh", "diff", "--preview", "--no-identity", directory, "--control", world.url)
    said = sidecar_command("mesh", "diff", "--preview", "--no-identity", "--json", directory, "--control", world.url)

    assert told.returncode == 0, told.stderr
    assert "1 file would change from revision" in told.stdout
    assert f"front, {world.front.id}: 9 recent requests: 3 would go elsewhere (33.33%)" in told.stdout
    assert "front.old, 410" in told.stdout
    (preview,) = json.loads(said.stdout)["previews"]
    assert (preview["service"], preview["instance"], preview["why"]) == ("front", world.front.id, "")
    assert (preview["report"]["moved"], preview["report"]["requests"]) == (3, 9)
    assert "topsecret" not in told.stdout + said.stdout


def test_a_service_without_a_sidecar_is_told_as_such(world: World, tmp_path: Path) -> None:
    """There is nobody to ask."""
    directory = edited(tmp_path, lone="service: lone\napp: 127.0.0.1:8080\ncalls: {back: {}}\n")

    told = sidecar_command("mesh", "diff", "--preview", "--no-identity", directory, "--control", world.url)

    assert told.returncode == 0, told.stderr
    assert "+ lone" in told.stdout


def test_previews_are_of_the_running_mesh(tmp_path: Path) -> None:
    """Two directories have no requests."""
    done = sidecar_command("mesh", "diff", "--preview", edited(tmp_path), tmp_path)

    assert done.returncode == 2
    assert "--preview asks the running mesh: give one directory" in done.stderr


def test_a_control_plane_asks_a_sidecar_why(world: World) -> None:
    """The question of the protocol, put by `POST /v1/ask`: of a request that may come, and of one that has."""

    def ask(**more: object) -> dict[str, object]:
        body = json.dumps({"instance": world.front.id, "kind": "explain", **more}).encode()
        answer = world.mesh.control.post("/v1/ask", body, content_type="application/json")
        said: dict[str, object] = answer.json()
        return said

    asked = ask(request={"url": "http://back/x", "method": "PUT"})["answer"]
    served = ask(request_id="r3")["answer"]
    unknown = ask(request_id="nobody's")

    assert isinstance(asked, dict)
    assert isinstance(served, dict)
    assert asked["outcome"]["route"] == "back"
    assert (served["request"]["path"], served["happened"]["status"]) == ("/old/3", 200)
    assert "none has the id" in str(unknown["error"])
