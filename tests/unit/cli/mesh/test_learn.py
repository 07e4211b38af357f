"""`sidecar mesh learn`: a difference for `patch`, and for people why."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli.commands import cli
from sidecar.cli.mesh.asking import ControlPlane
from tests.support.meshes import files

MESH = "=== mesh.yaml\nmesh: shop\n=== back.yaml\nservice: back\napp: h:1\n"
FRONT = "=== front.yaml\nservice: front\ncalls: {x: {}}\n"
X = "=== x.yaml\nservice: x\ndns: h:1\n"


def run(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *words: str, **values: Any) -> Result:
    """The command, before a control plane that has seen one call."""
    for name, raw in files(MESH + FRONT + X).items():
        (directory / name).write_bytes(raw)
    edge = {"from": "front", "to": "back", "requests": 2, "route": "back.\x1b[2Jbeta"}
    shown = {"mesh": "shop", "edges": [edge], "missing": [], **values}
    history = {"edges": [{"from": "front", "to": "back", "requests": [1, 2]}]}
    asked: list[str] = []

    def get(_: ControlPlane, path: str) -> Any:
        asked.append(path)
        return history if path.startswith("/v1/history") else shown

    monkeypatch.setattr(ControlPlane, "get", get)
    result = CliRunner().invoke(cli, ["mesh", "learn", str(directory), "--control", "http://h", *words])
    assert asked == ["/v1/mesh", "/v1/history?minutes=60"], result
    return result


def test_the_difference_is_on_standard_output_and_why_beside_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the one can be given to `patch`; names of reports move no terminal."""
    result = run(tmp_path, monkeypatch, missing=[{"replica": "b", "why": "no answer"}])
    assert result.exit_code == 0
    assert result.stdout.startswith("--- a/back.yaml\n+++ b/back.yaml\n@@ ")
    assert "+callers: [front]\n" in result.stdout
    assert "-calls: {x: {}}\n+calls: {x: {}, back: {}}\n" in result.stdout
    assert f"{tmp_path}/back.yaml: back: `callers` would be front, and these alone\n" in result.stderr
    assert "  front called back 3 times by back.\\x1b[2Jbeta\n" in result.stderr
    assert f"{tmp_path}/front.yaml: front: `calls` lacks back\n" in result.stderr
    assert "front: `calls` has x, which was not seen in 60 minutes\n" in result.stderr
    assert "not seen: replica b: no answer\n" in result.stderr


def test_as_json_it_has_the_files_as_they_would_be(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the difference, and the calls that ask for it."""
    said = json.loads(run(tmp_path, monkeypatch, "--json").stdout)
    assert said["texts"]["back.yaml"] == "service: back\napp: h:1\ncallers: [front]\n"
    assert [(one["service"], one["key"], one["names"]) for one in said["proposals"]] == [
        ("back", "callers", ["front"]), ("front", "calls", ["back"]),
    ]  # fmt: skip


def test_another_mesh_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls say nothing about this one."""
    result = run(tmp_path, monkeypatch, mesh="other")
    assert result.exit_code != 0
    assert "the mesh there is other, and this one is shop" in result.stderr
