"""What a mesh says, read: from a directory, or from one file."""

# ruff: noqa: E501 - rows and files of one line are easier to read unbroken

from __future__ import annotations

import pathlib

import pytest

from sidecar.config.problems import ConfigError
from sidecar.config.source import SourceError
from sidecar.mesh import source
from sidecar.mesh.read import read_mesh
from sidecar.mesh.source import read_directory
from tests.support.meshes import files, mesh

EXAMPLE = pathlib.Path(__file__).parents[3] / "config" / "examples" / "mesh"


def test_the_example_is_good() -> None:
    """Four services, one of them outside."""
    found = read_mesh(read_directory(str(EXAMPLE)))
    assert found.name == "shop"
    assert list(found.services) == ["catalog", "payments", "recommendations", "storefront"]
    assert found.services["payments"].is_outside
    assert found.callees("storefront") == ("catalog", "payments", "recommendations")
    assert found.warnings == ()


def test_what_holds_for_all_has_defaults() -> None:
    """A mesh needs no more than its name."""
    found = mesh("=== mesh.yaml\nmesh: shop\n")
    assert (found.name, found.access, found.unmatched) == ("shop", "open", "passthrough")
    rollout = found.rollout
    assert rollout.waves == ["one", 10.0, 50.0, 100.0]
    assert (rollout.hold, rollout.accept_timeout, rollout.halt.refused) == (30.0, 30.0, 1)
    assert (rollout.halt.error_rate.worse_by, rollout.thin.after, rollout.thin.then) == (2.0, 300.0, "go")


def test_a_rollout_is_read_in_seconds_and_percent() -> None:
    """As the control plane uses it."""
    text = "rollout: {waves: [5%, 100%], hold: 1s, halt: {refused: 3, error_rate: {worse_by: 10%}}, thin: {after: 1m, then: hold}}"
    rollout = mesh(f"=== mesh.yaml\nmesh: shop\n{text}\n").rollout
    assert (rollout.waves, rollout.hold, rollout.halt.refused) == ([5.0, 100.0], 1.0, 3)
    assert (rollout.halt.error_rate.worse_by, rollout.thin.after, rollout.thin.then) == (10.0, 60.0, "hold")


def test_one_file_has_all_services() -> None:
    """For a small mesh."""
    found = read_mesh(files("=== x.yaml\nmesh: shop\nservices: {a: {app: h:1}, b: {dns: i:2}}\n"))
    assert list(found.services) == ["a", "b"]
    assert found.placed["a"].at == ("services", "a")


def test_no_files_are_no_mesh() -> None:
    """Nothing is not an empty mesh: it would take everything away."""
    with pytest.raises(
        ConfigError, match=r"^mesh\.yaml:1:1: found no file that says `mesh`; such as `mesh: shop` in mesh\.yaml$"
    ):
        read_mesh({})


def test_app_is_short_for_a_port() -> None:
    """Called `http`."""
    services = mesh("=== a.yaml\nservice: a\napp: h:1\n=== b.yaml\nservice: b\nports: {http: h:1}\n").services
    assert services["a"].listens == services["b"].listens


class TestDirectory:
    """The files on disk."""

    def test_yaml_files_are_read_by_their_relative_names(self, tmp_path: pathlib.Path) -> None:
        """At any depth; nothing that is hidden, nothing else."""
        for name in ("mesh.yaml", "services/a.yml", "services/deep/b.yaml", ".git/c.yaml", "README.md", ".d.yaml"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        assert read_directory(str(tmp_path)) == {
            name: name.encode() for name in ("mesh.yaml", "services/a.yml", "services/deep/b.yaml")
        }

    def test_a_mounted_configmap_is_read_once(self, tmp_path: pathlib.Path) -> None:
        """Its files are links into `..data`, which is a link to a hidden directory."""
        (tmp_path / "..2026").mkdir()
        (tmp_path / "..2026" / "mesh.yaml").write_text("mesh: shop")
        (tmp_path / "..data").symlink_to("..2026")
        (tmp_path / "mesh.yaml").symlink_to("..data/mesh.yaml")
        assert read_directory(str(tmp_path)) == {"mesh.yaml": b"mesh: shop"}

    def test_a_file_is_read_by_its_name(self, tmp_path: pathlib.Path) -> None:
        """Whatever its suffix."""
        (tmp_path / "shop").write_text("mesh: shop")
        assert read_directory(str(tmp_path / "shop")) == {"shop": b"mesh: shop"}

    def test_what_cannot_be_read_is_told(self, tmp_path: pathlib.Path) -> None:
        """With the file that it is."""
        with pytest.raises(SourceError, match="no such file"):
            read_directory(str(tmp_path / "none"))
        (tmp_path / "mesh.yaml").symlink_to("gone")
        with pytest.raises(SourceError, match=r"mesh\.yaml: no such file"):
            read_directory(str(tmp_path))

    def test_a_directory_that_is_no_mesh_is_not_read_to_its_end(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody gives `/`."""
        monkeypatch.setattr(source, "MAX_FILES", 3)
        for number in range(5):
            (tmp_path / f"{number}.yaml").write_text("")
        with pytest.raises(SourceError, match="more than 3 files"):
            read_directory(str(tmp_path))


class TestAgain:
    """A mesh that is read again after a change."""

    def test_files_that_are_still_the_same_are_not_parsed_again(self) -> None:
        """Their trees are those of before; what is between the files is judged anew."""
        source = read_directory(str(EXAMPLE))
        before = read_mesh(source)
        changed = {**source, "services/catalog.yaml": b"service: catalog\napp: 127.0.0.1:9999\n"}
        after = read_mesh(changed, before)
        assert after.placed["storefront"].node is before.placed["storefront"].node
        assert after.placed["catalog"].node is not before.placed["catalog"].node
        assert after.hash == read_mesh(changed).hash != before.hash

    def test_a_file_that_goes_is_gone(self) -> None:
        """And who named its service is told."""
        source = read_directory(str(EXAMPLE))
        before = read_mesh(source)
        del source["services/catalog.yaml"]
        with pytest.raises(ConfigError) as caught:
            read_mesh(source, before)
        assert [str(one).partition(" ")[2] for one in caught.value.problems] == [
            "calls.catalog: there is no service `catalog`"
        ]
