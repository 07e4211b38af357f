"""Revisions of a mesh of processes under load: every answer is counted at the clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import Load, running_mesh
from tests.support.origin import Origin

WAVES = "mesh: shop\nunmatched: deny\nrollout: {waves: [one, 100%], hold: 0s, thin: {after: 500ms}}\n"
BACK = "service: back\napp: 127.0.0.1:8080\ncalls: {}\n"
FRONT = "service: front\ncalls: {base: {}}\n"


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    """Two apps."""
    with Origin("one") as one, Origin("two") as two:
        yield one, two


def test_one_revision_adds_caller_and_call_and_one_takes_both_away(
    tmp_path: Path, origins: tuple[Origin, Origin]
) -> None:
    """What was called before is called on; the new call is answered from one moment on, and to another not any more."""
    one, two = origins
    files = {
        "mesh.yaml": WAVES,
        "front.yaml": FRONT,
        "back.yaml": BACK + "callers: []\n",
        "base.yaml": f'service: base\nendpoints: ["127.0.0.1:{two.port}"]\n',
    }
    with running_mesh(tmp_path, files) as mesh:
        front = mesh.join("front")
        mesh.join("back", one.port)
        mesh.join("back", two.port)
        mesh.wait_settled(1)
        with Load(front, "base", clients=1) as base, Load(front, "back") as load:
            assert load.wait_for(20).keys() == {"404 NR"}
            mesh.edit(
                {
                    "front.yaml": "service: front\ncalls: {base: {}, back: {timeout: 5s}}\n",
                    "back.yaml": BACK + "callers: [front]\n",
                }
            )
            load.wait_until(lambda seen: seen.keys() == {"200 one", "200 two"}, "answers of both")
            mesh.edit(files)
            load.wait_until(lambda seen: seen.keys() == {"404 NR"}, "no route any more")
        assert base.phases == [["200"]], base.answers
        assert load.phases == [["404 NR", "200", "404 NR"]] * 2, load.answers


def test_subset_without_instances_gets_no_share_until_there_is_one(
    tmp_path: Path, origins: tuple[Origin, Origin]
) -> None:
    """It is told; the first instance gets its share, and a subset that lost its last is `UH`."""
    stable, beta = origins
    with running_mesh(tmp_path, {"front.yaml": "service: front\ncalls: {back: {}}\n", "back.yaml": BACK}) as mesh:
        front = mesh.join("front")
        mesh.join("back", stable.port, version="v1")
        mesh.wait_settled(1)
        with Load(front, "back") as load:
            load.wait_for()
            mesh.edit(
                {
                    "back.yaml": BACK + "instances: {stable: {registered: {version: v1}}, new: "
                    "{registered: {version: v2}}}\nroutes: [{name: half, to: {stable: 50, new: 50}}]\n"
                }
            )
            assert load.wait_for(100).keys() == {"200 one"}
            assert "split_side_without_endpoints" in front.stderr()
            second = mesh.join("back", beta.port, version="v2")
            load.wait_until(lambda seen: seen.keys() == {"200 one", "200 two"}, "both sides")
            assert all(phases == ["200"] for phases in load.phases), load.answers
            mesh.scale_down(second)
            front.wait_knows("back.new")
            assert load.wait_for(100).keys() == {"200 one", "503 UH"}
        assert load.answers.keys() == {"200 one", "200 two", "503 UH"}
