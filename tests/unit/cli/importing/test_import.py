"""`sidecar import`: exit codes, what is written over, and what is said of files that are no good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import sidecar_command
from tests.support.importing import SAMPLES

CRD = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: {}\nmetadata: {{name: {}, namespace: n}}\nspec: {}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


def node(logical: str, properties: str) -> str:
    """A resource of a template; several of them follow each other."""
    head = "" if logical == "W" else "Resources:\n"
    return f"{head}  {logical}: {{Type: 'AWS::AppMesh::VirtualNode', Properties: {{{properties}}}}}\n"


def import_text(tmp_path: Path, raw: bytes | str, *options: str, source: str = "app-mesh") -> tuple[int, str, str]:
    file = tmp_path / "in.yaml"
    file.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    done = sidecar_command("import", source, file, "--output", tmp_path / "out", *options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("source", ["app-mesh", "gateway-api"])
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "1:1: the file is empty"),
        (b"\xff\xfe", "1:1: the file is not UTF-8"),
        (b"a: [", "not YAML"),
        (b"a: 1\na: 2\n", "2:1: a: found the key `a` a second time, first on line 1"),
        (b"[" * 80, "found more than 64 nested mappings and lists"),
        (BOMB, "found aliases that expand to more than 100,000 values"),
        (b"a: !!python/object:x {}", "found the tag"),
        (b"!Ref a: 1", "found the tag `!Ref` at a key"),
        (b"a: *b", "an anchor that does not exist"),
        (b"just words", "expected"),
        (b"- 1\n- {}\n", "expected"),
        (b"{a: 1}", "expected"),
    ],
)
def test_file_that_is_no_good_is_a_problem_at_its_place(
    tmp_path: Path, source: str, raw: bytes | str, said: str
) -> None:
    """Whatever a file holds, its place and what is wrong are told, nothing is written, and the code is 1."""
    code, _, err = import_text(tmp_path, raw, source=source)
    assert (code, (tmp_path / "out").exists()) == (1, False)
    assert said in err
    assert f"{tmp_path}/in.yaml:" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            CRD.format("VirtualNod", "a", "{}"),
            "a VirtualNod of appmesh.k8s.aws/v1beta2 is not known; did you mean `VirtualNode`?",
        ),
        (CRD.format("VirtualNode", "a", "[]"), "spec: not imported: expected a mapping, found a list"),
        (
            CRD.format("VirtualNode", "a", "{listeners: {a: 1}}"),
            "spec.listeners: not imported: expected a list, found a mapping",
        ),
        (
            CRD.format("VirtualNode", "a", "{listeners: [{portMapping: {port: x, protocol: http}}]}"),
            'port: not imported: expected an integer, found "x"',
        ),
        (CRD.format("VirtualNode", "a", "{}") * 2, None),
        (
            CRD.format("VirtualNode", "a", "{}") + "---\n" + CRD.format("VirtualNode", "a", "{}"),
            "in.yaml:1) has the same name",
        ),
        (
            CRD.format("VirtualService", "a", "{provider: {virtualNode: {virtualNodeRef: {name: b}}}}"),
            "there is no virtual node `b` in the namespace `n`, which VirtualService n/a",
        ),
        (
            node("V", "MeshName: !Ref Gone"),
            "there is no parameter and no resource `Gone`",
        ),
        (
            node("V", "VirtualNodeName: !GetAtt W.VirtualNodeName")
            + node("W", "VirtualNodeName: !GetAtt V.VirtualNodeName"),
            "found references that go in a circle",
        ),
        (
            "Parameters: {M: {Type: String}}\n" + node("V", "MeshName: !Ref M"),
            "give it: --parameter 'M=VALUE'",
        ),
        (
            '{"virtualNodes": [{"virtualNodeName": "a"}]}',
            "`list` tells names and no more; give what `aws appmesh describe-virtual-node` prints for each",
        ),
    ],
)
def test_what_cannot_be_imported_is_told_at_its_place(tmp_path: Path, text: str, said: str | None) -> None:
    """Wrong types, unknown kinds, second names, references to nobody and circles are problems, and the code is 1."""
    code, _, err = import_text(tmp_path, text)
    assert code == 1
    assert said is None or said in err
    assert all(line.startswith((f"{tmp_path}/in.yaml:", "found", "what")) for line in err.splitlines())


def test_parameter_fills_what_a_template_does_not_say(tmp_path: Path) -> None:
    """With `--parameter` a template without defaults is imported as one with them, with code 0."""
    text = (SAMPLES / "template.yaml").read_text().replace(", Default: demo.local", "")
    assert import_text(tmp_path, text)[0] == 1
    code, _, err = import_text(tmp_path, text, "--force", "--parameter", "Domain=other.local")
    # The template's own retries have no room in its own timeout.
    assert (code, {line.rpartition(" ")[2] for line in err.splitlines()}) == (0, {"[retries-exceed-timeout]"})
    assert "hosts: [color.other.local]" in (tmp_path / "out/services/color.yaml").read_text()


def test_earlier_import_is_written_over_only_with_force(tmp_path: Path) -> None:
    """A second import needs `--force`; with it, files that it does not write are taken away."""
    text = (SAMPLES / "template.yaml").read_text()
    assert import_text(tmp_path, text)[0] == 0
    code, _, err = import_text(tmp_path, text)
    assert code == 2
    assert "an earlier import is there; --force writes over it" in err
    stale = tmp_path / "out/services/stale.yaml"
    stale.write_text("# Imported by `sidecar import app-mesh`.\nservice: stale\n")
    assert import_text(tmp_path, text, "--force")[0] == 0
    assert not stale.exists()


def test_files_of_others_are_never_written_over(tmp_path: Path) -> None:
    """A directory with anything else in it is refused, `--force` or not, and stays as it is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mesh.yaml").write_text("mesh: mine\n")
    code, _, err = import_text(tmp_path, (SAMPLES / "template.yaml").read_text(), "--force")
    assert code == 2
    assert "mesh.yaml is not an import's" in err
    assert (tmp_path / "out/mesh.yaml").read_text() == "mesh: mine\n"


def test_wrong_command_is_told_with_2(tmp_path: Path) -> None:
    """No file, a file that is not there, and a parameter without a value are the caller's mistakes."""
    assert sidecar_command("import", "app-mesh", "--output", tmp_path / "o").returncode == 2
    done = sidecar_command("import", "app-mesh", tmp_path / "none.yaml", "--output", tmp_path / "o")
    assert (done.returncode, "no such file" in done.stderr) == (2, True)
    file = SAMPLES / "plan.json"
    assert sidecar_command("import", "app-mesh", file, "--output", tmp_path / "o", "--parameter", "x").returncode == 2


def test_json_says_the_same(tmp_path: Path) -> None:
    """With `--json` files, counts, fields and problems are one object."""
    code, out, _ = import_text(tmp_path, (SAMPLES / "described.json").read_text(), "--json")
    page = json.loads(out)
    assert (code, page["ok"], len(page["problems"])) == (1, False, 2)
    assert page["counts"]["lost"] == 2
    assert [Path(one).name for one in page["files"]] == ["mesh.yaml", "api.yaml", "db.yaml", "web.yaml"]


def test_several_files_are_one_mesh(tmp_path: Path) -> None:
    """Resources of one file refer to those of another."""
    documents = (SAMPLES / "controller.yaml").read_text().split("\n---\n")
    for index, document in enumerate(documents):
        (tmp_path / f"{index}.yaml").write_text(document)
    files = sorted(tmp_path.glob("*.yaml"), key=lambda one: one.name)
    assert sidecar_command("import", "app-mesh", *files, "--output", tmp_path / "out").returncode == 0


def test_parameter_without_a_value_is_one_problem_for_each_place(tmp_path: Path) -> None:
    """That a place is held by a parameter's name, and that it is not imported so, is said once."""
    head = "Parameters: {M: {Type: String}}\n"
    code, _, err = import_text(tmp_path, head + node("A", "MeshName: !Ref M, VirtualNodeName: a, Spec: {}"))
    assert code == 1
    assert err.count("`M` is a parameter without a default") == 1


def test_what_a_command_of_aws_is_given_is_read_without_a_mesh_s_name(tmp_path: Path) -> None:
    """`aws appmesh create-virtual-node --cli-input-json` takes the mesh from its options."""
    code, out, _ = import_text(tmp_path, '{"virtualNodeName": "api", "spec": {"backends": []}}', "--mesh", "shop")
    assert (code, "VirtualNode api" in out) == (0, True)
    assert "mesh: shop" in (tmp_path / "out" / "mesh.yaml").read_text()
