"""`sidecar mesh push`, `diff`, `rollback` and `hurry` against real control planes, also on etcd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.link.messages import Config
from tests.support.commands import sidecar_command
from tests.support.control import SHOP, Control, Peer, replica, running_control
from tests.support.etcd import etcd
from tests.support.wait import eventually

pytestmark = pytest.mark.long

SLOWER = SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 9s}")
SLOWEST = SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 99s}")


def mesh(control: Control, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command about the mesh, asked of this control plane."""
    return sidecar_command("mesh", *arguments, "--control", f"http://127.0.0.1:{control.port}")


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """A directory with these files."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def runs(peer: Peer, told: dict[Peer, str]) -> int:
    """The revision that it was told last; says that it runs a file as soon as it has it, as sidecars do."""
    if told.get(peer) != peer.has:
        told[peer] = peer.has
        peer.report()
    return peer.revision


def test_mesh_in_etcd_is_pushed_compared_and_taken_back(tmp_path: Path) -> None:
    """
    The first push of all, one with problems, one that was based on another, a way back, and the push that ends it; the
    other replica and its sidecars follow.
    """
    directory = write(tmp_path / "mesh", SHOP)
    with etcd(tmp_path) as cluster:
        url = f"{cluster.url}/sidecar/shop"
        with replica(tmp_path, url, "one", is_ready=False) as one, replica(tmp_path, url, "two", is_ready=False) as two:
            eventually(lambda: all("started" in each.log() for each in (one, two)), "both, without a mesh", 60)
            first = mesh(one, "push", directory, "--expected", "", "--json")
            assert first.returncode == 0, first.stderr + one.log()
            said = json.loads(first.stdout)
            assert (said["ok"], said["revision"], len(said["changes"])) == (True, 1, 3)
            eventually(two.is_ready, "what was pushed, at the other")
            with Peer(two, "storefront") as peer:
                told: dict[Peer, str] = {}
                assert "timeout: 9s" not in peer.wait_for(Config).file
                runs(peer, told)

                write(directory, {"storefront.yaml": SHOP["storefront.yaml"] + "tls: {}\n"})
                bad = mesh(one, "push", directory)
                assert (bad.returncode, bad.stdout) == (1, "")
                assert f"{directory}/storefront.yaml:4:" in bad.stderr
                assert "1 problem in" in bad.stderr

                write(directory, {"storefront.yaml": SLOWER})
                differs = mesh(two, "diff", directory)
                assert differs.returncode == 0, differs.stderr
                assert "~ storefront\n" in differs.stdout
                assert "1 file would change from revision 1" in differs.stdout
                pushed = mesh(one, "push", directory, "--expected", said["version"])
                assert pushed.returncode == 0, pushed.stderr
                assert pushed.stdout.splitlines()[-1].startswith("revision 2: 1 file changed; version ")
                assert f"    + route catalog  ({directory}/catalog.yaml:1)\n" in pushed.stdout
                eventually(lambda: runs(peer, told) == 2, "the push at a sidecar of the other")
                late = mesh(two, "push", directory, "--expected", said["version"])
                assert late.returncode == 1
                assert "somebody else has pushed" in late.stderr

                back = mesh(two, "rollback", 1)
                assert back.returncode == 0, back.stderr
                assert "revision 3: 1 file changed (storefront)" in back.stdout
                eventually(lambda: runs(peer, told) == 3, "the way back")
                assert "timeout: 9s" not in peer.wait_for(Config).file
                assert "PINNED to the files of revision 1" in mesh(two, "status").stdout
                again = mesh(one, "push", directory)
                assert "pinned to the files of revision 1" in again.stdout
                assert one.shown()["revision"] == 3
                write(directory, {"storefront.yaml": SLOWEST})
                assert mesh(one, "push", directory, "--now").returncode == 0
                eventually(lambda: runs(peer, told) == 4, "the push that ends the pin")
                assert "timeout: 99s" in peer.wait_for(Config).file
                assert one.shown()["pinned"] is None


def test_followed_directory_is_pinned_by_a_rollback_until_it_is_edited(tmp_path: Path) -> None:
    """A comment is no edit, nor is a restart; a push has no place there; what is gone far back is not kept."""
    with running_control(tmp_path) as control:
        with Peer(control, "storefront") as peer:
            told: dict[Peer, str] = {}
            old = peer.wait_for(Config).hash
            runs(peer, told)
            control.write({"storefront.yaml": SLOWER})
            eventually(lambda: runs(peer, told) == 2, "the edit")
            refused = mesh(control, "push", control.mesh)
            assert refused.returncode == 1
            assert "edit it there, a change of it is the push" in refused.stderr
            assert "0 files would change from revision 2" in mesh(control, "diff", control.mesh).stdout

            assert mesh(control, "rollback", 7).returncode == 1
            back = mesh(control, "rollback", 1, "--json")
            assert json.loads(back.stdout) == {"ok": True, "revision": 3, "pinned": 1, "services": ["storefront"]}
            eventually(lambda: (peer.has, runs(peer, told)) == (old, 3), "the way back")
            assert "1 file would change from revision 3, pinned" in mesh(control, "diff", control.mesh).stdout
            control.write({"storefront.yaml": f"# nothing new\n{SLOWER}"})
        assert control.stop() == 0
        control.start()
        assert (control.shown()["revision"], control.shown()["pinned"]) == (3, 1)
        with Peer(control, "storefront") as peer:
            assert peer.wait_for(Config).hash == old
            told = {}
            runs(peer, told)
            control.write({"storefront.yaml": SLOWEST})
            eventually(lambda: runs(peer, told) == 4, "the edit that ends the pin")
            assert control.shown()["pinned"] is None
        nowhere = mesh(control, "hurry")
        assert (nowhere.returncode, nowhere.stdout) == (0, "revision 4: no rollout is under way\n")
        assert mesh(control, "push", tmp_path / "nowhere").returncode == 2


def test_hurry_skips_the_waves_that_are_left(tmp_path: Path) -> None:
    """The first of five has accepted and is held; then all get it."""
    waves = SHOP | {"mesh.yaml": "mesh: shop\nrollout: {hold: 10m}\n"}
    with running_control(tmp_path, waves) as control:
        peers = [Peer(control, "storefront", f"s-{number}") for number in range(5)]
        try:
            for peer in peers:
                peer.open()
                peer.wait_for(Config)
                peer.report()
            eventually(lambda: all(one["state"] == "done" for one in control.shown()["rollouts"]), "the first revision")
            old = peers[0].has
            control.write({"storefront.yaml": SLOWER})
            first = eventually(lambda: next((peer for peer in peers if peer.has != old), None), "the first of the wave")
            for peer in peers:
                peer.report()
            assert [peer for peer in peers if peer.has != old] == [first]
            assert "revision 2: storefront" in mesh(control, "hurry", "storefront").stdout

            def all_run_it() -> bool:
                for peer in peers:
                    peer.report()
                return {peer.has for peer in peers} == {first.has}

            eventually(all_run_it, "everyone")
        finally:
            for peer in peers:
                peer.close()
