"""What differs between two states of a mesh."""

# ruff: noqa: E501 - rows and files of one line are easier to read unbroken

from __future__ import annotations

import pytest

from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.diff import diff, diff_told
from sidecar.mesh.names import Name, names_of
from sidecar.mesh.told import Told
from tests.support.meshes import mesh

MESH = """
=== front.yaml
service: front
app: h:1
calls: {back: {listen: 127.0.0.1:9}}
=== back.yaml
service: back
hosts: [back, back.shop]
app: h:1
instances: {v: {registered: {}}}
routes:
- {name: a, match: {path: /a}, to: v}
- {name: b, match: {path: /b}, to: v}
tests:
- {name: t, request: {url: 'http://back/a'}, expect: {to: v}}
=== out.yaml
service: out
dns: h:1
"""


def changes(*replacements: tuple[str, str]) -> list[str]:
    """What differs after these replacements, a line each."""
    text = MESH
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return [
        line
        for change in diff(mesh(MESH), mesh(text))
        for line in (
            f"{change.kind} {change.service}",
            *(f"  {part.kind} {part.part} {part.name} {part.origin}".replace("  ", " ") for part in change.parts),
        )
    ]


@pytest.mark.parametrize(
    ("replacements", "expected"),
    [
        ([], []),
        ([("service: back", "# hello\nservice: back")], []),
        ([("path: /a}, to: v", "path: /a}, to: back")], ["changed front", " changed route back.a back.yaml:6"]),
        ([("name: a,", "name: c,")], ["changed front", " added route back.c back.yaml:6", " removed route back.a back.yaml:6"]),
        ([("h:1\ncalls", "h:2\ncalls")], ["changed front", " changed inbound front.yaml:2"]),
        ([("listen: 127.0.0.1:9", "timeout: 1s")], [
            "changed front", " added route back back.yaml:1", " changed route back.a back.yaml:6",
            " changed route back.b back.yaml:7", " removed outbound.listen front.yaml:1"]),
        ([("- {name: t,", "- {name: u,")], ["changed front", " added test back: u back.yaml:9", " removed test back: t back.yaml:9"]),
        ([("{name: a, match: {path: /a}, to: v}", "X"), ("{name: b, match: {path: /b}, to: v}", "{name: a, match: {path: /a}, to: v}"), ("X", "{name: b, match: {path: /b}, to: v}")],
         ["changed front", " changed order of routes front.yaml:1"]),
        ([("=== out.yaml\nservice: out\ndns: h:1", "=== new.yaml\nservice: new\ncalls: {}")], [
            "added new", "changed back", " removed route out out.yaml:1", " removed upstream out out.yaml:1"]),
        ([("{back: {listen: 127.0.0.1:9}}", "{}")], [
            "changed front", " removed outbound.listen front.yaml:1", " removed route back.a back.yaml:6",
            " removed route back.b back.yaml:7", " removed upstream back back.yaml:1", " removed upstream back.v back.yaml:4",
            " removed test back: t back.yaml:9"]),
    ],
)  # fmt: skip
def test_what_differs_is_told_by_service_and_part(replacements: list[tuple[str, str]], expected: list[str]) -> None:
    """With the place of what is new, or of what is gone."""
    assert sorted(changes(*replacements)) == sorted(expected)


def test_a_service_that_goes_is_removed() -> None:
    """And so is what others were told of it."""
    small = mesh(MESH[MESH.index("=== back.yaml") :])
    assert [(change.service, change.kind, change.new_hash != "") for change in diff(mesh(MESH), small)] == [
        ("back", "changed", True),
        ("front", "removed", False),
    ]


def test_names_are_the_hosts_that_each_service_calls() -> None:
    """Each once, without a port; services outside have no apps that would call."""
    assert names_of(mesh(MESH)) == {
        "back": (Name("front", "front", ""), Name("out", "out", "")),
        "front": (Name("back", "back", "127.0.0.1:9"), Name("back.shop", "back", "127.0.0.1:9")),
    }


def test_what_was_told_is_compared_as_the_mesh_is() -> None:
    """The text of a compiled file is as good as the mesh that it came from, but for places of what is no more."""
    old, new = mesh(MESH), mesh(MESH.replace("name: a,", "name: c,").replace("h:1\ncalls", "h:2\ncalls"))
    names = ("front", "back")
    before = {name: compile_service(old, name) for name in names}
    after = {name: compile_service(new, name) for name in names}
    told = {name: Told(one.hash, one.text) for name, one in before.items()}
    assert diff_told(told, before) == []
    found = diff_told(told, after)
    for change, expected in zip(found, diff(old, new), strict=True):
        assert (change.service, change.kind, change.new_hash) == (expected.service, expected.kind, expected.new_hash)
        for part, other in zip(change.parts, expected.parts, strict=True):
            assert (part.part, part.name, part.kind) == (other.part, other.name, other.kind)
            assert part.origin == other.origin if part.kind != "removed" else not part.origin.file
    assert [(one.service, one.kind) for one in diff_told(told, {"back": before["back"]})] == [("front", "removed")]
    assert [(one.service, one.kind) for one in diff_told({}, {"back": before["back"]})] == [("back", "added")]


def test_of_a_file_that_is_not_kept_only_the_change_is_told() -> None:
    """And no part of it."""
    compiled = compile_service(mesh(MESH), "front")
    assert [one.parts for one in diff_told({"front": Told("other", "")}, {"front": compiled})] == [()]
