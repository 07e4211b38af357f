"""Revisions of a mesh of processes under load: every answer is counted at the clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mesh import Load, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.wait import eventually

pytestmark = pytest.mark.long

FILES = {
    "mesh.yaml": "mesh: shop\nunmatched: deny\nrollout: {waves: [one, 100%], hold: 0s, thin: {after: 500ms}}\n",
    "front.yaml": "service: front\ncalls: {base: {}, parted: {}}\n",
    "back.yaml": "service: back\napp: 127.0.0.1:8080\ncalls: {}\ncallers: []\n",
    "parted.yaml": "service: parted\napp: 127.0.0.1:8080\ncalls: {}\n",
}
PARTS = (
    "instances: {stable: {registered: {version: v1}}, new: {registered: {version: v2}}}\n"
    "routes: [{name: half, to: {stable: 50, new: 50}}]\n"
)


class Shop:
    """One mesh for all tests of the file."""

    def __init__(self, mesh: MeshOfProcesses, one: Origin, two: Origin) -> None:
        self.mesh = mesh
        self.two = two
        self.front = mesh.join("front")
        for origin in (one, two):
            mesh.join("back", origin.port)
        mesh.join("parted", one.port, version="v1")
        mesh.wait_settled(1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Ready, with two apps."""
    with Origin("one") as one, Origin("two") as two:
        files = FILES | {"base.yaml": f'service: base\nendpoints: ["127.0.0.1:{two.port}"]\n'}
        with running_mesh(tmp_path_factory.mktemp("mesh"), files) as mesh:
            yield Shop(mesh, one, two)


def test_one_revision_adds_caller_and_call_and_one_takes_both_away(shop: Shop) -> None:
    """What was called before is called on; the new call is answered from one moment on, and to another not any more."""
    front, mesh = shop.front, shop.mesh
    with Load(front, "base", clients=1) as base, Load(front, "back") as load:
        assert load.wait_for(20).keys() == {"404 NR"}
        mesh.edit(
            {
                "front.yaml": FILES["front.yaml"].replace("base: {}", "base: {}, back: {timeout: 5s}"),
                "back.yaml": FILES["back.yaml"].replace("[]", "[front]"),
            }
        )
        load.wait_until(lambda seen: seen.keys() == {"200 one", "200 two"}, "answers of both")
        mesh.edit({name: FILES[name] for name in ("front.yaml", "back.yaml")})
        load.wait_until(lambda seen: seen.keys() == {"404 NR"}, "no route any more")
    assert base.phases == [["200"]], base.answers
    assert load.phases == [["404 NR", "200", "404 NR"]] * 2, load.answers


def test_subset_without_instances_gets_no_share_until_there_is_one(shop: Shop) -> None:
    """It is told; the first instance gets its share, and a subset that lost its last is `UH`."""
    front, mesh = shop.front, shop.mesh
    with Load(front, "parted") as load:
        load.wait_for()
        mesh.edit({"parted.yaml": FILES["parted.yaml"] + PARTS})
        assert load.wait_for(100).keys() == {"200 one"}
        eventually(lambda: "split_side_without_endpoints" in front.stderr(), "a line of it")
        second = mesh.join("parted", shop.two.port, version="v2")
        load.wait_until(lambda seen: seen.keys() == {"200 one", "200 two"}, "both sides")
        assert all(phases == ["200"] for phases in load.phases), load.answers
        mesh.scale_down(second)
        front.wait_knows("parted.new")
        load.wait_until(lambda seen: seen.keys() == {"200 one", "503 UH"}, "an end of one side")
    assert load.answers.keys() == {"200 one", "200 two", "503 UH"}
