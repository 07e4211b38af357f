"""What was really called, as a difference to the files that say who may call and who calls."""

# ruff: noqa: E501 - files of one line are easier to read unbroken

from __future__ import annotations

import pathlib
import subprocess

import pytest

from sidecar.mesh.edit import with_names
from sidecar.mesh.learn import Call, Learned, Unseen, calls_of, learn
from sidecar.mesh.read import read_mesh
from tests.support.meshes import files

FRONT = "=== front.yaml\nservice: front\napp: 127.0.0.1:80\n"
BACK = "=== back.yaml\nservice: back\napp: 127.0.0.1:80\n"
OTHER = "=== other.yaml\nservice: other\napp: 127.0.0.1:80\ncalls: {back: {}}\ncallers: []\n"
MESH = "=== mesh.yaml\nmesh: shop\n"
CALL = Call("front", "back", 3, ("back",))


def learned(text: str, *calls: Call) -> Learned:
    """Of a mesh of these files."""
    return learn(read_mesh(files(MESH + text)), calls)


def test_a_window_has_its_routes_from_the_last_minute() -> None:
    """History knows pairs of services, the last minute routes as well; what nobody called is no call."""
    edges = [
        {"from": "a", "to": "b", "requests": 2, "route": "b.x"}, {"from": "a", "to": "b", "requests": 1, "route": "b"},
        {"from": "a", "to": "c", "requests": 5, "route": "c"}, {"from": "b", "to": "c", "requests": 0, "route": "c"},
    ]  # fmt: skip
    history = [{"from": "a", "to": "b", "requests": [4, 0, 6]}, {"from": "d", "to": "b", "requests": [0]}]
    assert calls_of({"edges": edges}, {"edges": history}) == (
        Call("a", "b", 10, ("b", "b.x")), Call("a", "c", 5, ("c",)),
    )  # fmt: skip


def test_connections_that_carry_no_requests_are_calls_without_routes() -> None:
    """Also one that never ends; a control plane that says nothing of them is understood."""
    rows = [({"connections": 4}, 0), ({"connections": 0}, 0), (None, 0), ({"connections": 2}, 3)]
    edges = [
        {"from": "a", "to": f"b{n}", "requests": requests, "route": "", "tcp": tcp}
        for n, (tcp, requests) in enumerate(rows)
    ]
    assert calls_of({"edges": edges}, {"edges": []}) == (Call("a", "b0", 4), Call("a", "b1", 1), Call("a", "b3", 5))


def test_what_rules_refuse_is_no_call_that_is_proposed() -> None:
    """It is told with the rules; what passes in audit is a call, and so is one of which only a little is refused."""

    def row(caller: str, count: int, rule: str = "callers", *, audit: bool = False) -> dict[str, object]:
        return {"from": caller, "to": "back", "identity": "i", "rule": rule, "count": count, "audit": audit}

    edges = [
        {"from": "front", "to": "back", "requests": 5, "route": "r"},
        {"from": "other", "to": "back", "requests": 9, "route": "r"},
    ]
    shown = {
        "edges": edges,
        "refused": [
            row("front", 3),
            row("front", 1, "ops"),
            row("other", 9, audit=True),
            row("", 4),
            row("spiffe://x/y", 2),
        ],
    }
    calls = calls_of(shown, {"edges": []})
    assert calls == (
        Call("front", "back", 5, ("r",), ("callers", "ops")), Call("other", "back", 9, ("r",)),
        Call("spiffe://x/y", "back", 2, (), ("callers",)),
    )  # fmt: skip
    found = learned(f"{FRONT}{BACK}callers: [front]\n{OTHER}", *calls)
    assert [(one.service, one.names) for one in found.proposals if one.key == "callers"] == [("back", ("other",))]
    assert [(one.caller, one.refused_by) for one in found.refused] == [("front", ("callers", "ops"))]
    assert Unseen("back", "callers", "front") not in found.unseen
    shown["refused"] = [row("front", 2)]
    assert calls_of(shown, {"edges": []})[0].refused_by == ()


def test_callers_and_calls_are_proposed_where_no_file_says_them() -> None:
    """Those that were seen, and from then on these alone."""
    found = learned(FRONT + BACK, CALL)
    assert [(one.service, one.key, one.names, one.is_new) for one in found.proposals] == [
        ("back", "callers", ("front",), True), ("front", "calls", ("back",), True),
    ]  # fmt: skip
    assert found.diff == (
        "--- a/back.yaml\n+++ b/back.yaml\n@@ -1,2 +1,3 @@\n service: back\n app: 127.0.0.1:80\n+callers: [front]\n"
        "--- a/front.yaml\n+++ b/front.yaml\n@@ -1,2 +1,3 @@\n service: front\n app: 127.0.0.1:80\n+calls: {back: {}}\n"
    )


def test_what_is_said_already_is_not_proposed() -> None:
    """Nor is anything taken away: what was not seen is told."""
    found = learned(f"{FRONT}calls: {{back: {{}}, other: {{}}}}\n{BACK}callers: [front, other]\n{OTHER}", CALL)
    assert (found.proposals, found.diff) == ((), "")
    assert set(found.unseen) == {
        Unseen("back", "callers", "other"), Unseen("front", "calls", "other"), Unseen("other", "calls", "back"),
    }  # fmt: skip


@pytest.mark.parametrize("word", ["mesh", "anyone"])
def test_who_admits_all_of_the_mesh_needs_no_names(word: str) -> None:
    """A word that a person wrote stays."""
    assert [one.key for one in learned(f"{FRONT}{BACK}callers: {word}\n", CALL).proposals] == ["calls"]


def test_names_that_the_mesh_does_not_have_are_left_out() -> None:
    """What passed through, a service that is gone, and one that calls itself."""
    calls = Call("front", "passthrough", 9), Call("gone", "back", 9), Call("front", "front", 9)
    assert learned(FRONT + BACK, *calls).proposals == ()


def test_the_result_is_a_mesh_that_says_it_and_patch_takes_the_difference(tmp_path: pathlib.Path) -> None:
    """Of several files, one of them with both, and one without a line end."""
    text = f"{FRONT}# end\n{BACK}callers:\n  - other  # the batch\n{OTHER}"
    source = files(MESH + text)
    source["front.yaml"] = source["front.yaml"].rstrip(b"\n")
    found = learn(read_mesh(source), [CALL, Call("back", "front", 1), Call("front", "other", 2)])
    for name, raw in source.items():
        (tmp_path / name).write_bytes(raw)
    subprocess.run(["patch", "-p1"], cwd=tmp_path, input=found.diff, text=True, check=True, capture_output=True)
    patched = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: raw.decode() for name, raw in patched.items() if name in found.texts} == found.texts
    mesh = read_mesh(patched)
    assert mesh.services["back"].callers == ["other", "front"]
    assert mesh.services["other"].callers == ["front"]
    assert list(mesh.services["front"].calls or {}) == ["back", "other"]
    assert mesh.services["front"].callers == ["back"]


def test_what_only_a_person_can_add_to_is_told_without_a_difference() -> None:
    """A list that two services share by an alias: adding to it would admit to both."""
    text = "=== x.yaml\nmesh: shop\nservices:\n  a: {app: h:1, callers: &all [b]}\n  b: {app: h:1, calls: {a: {}, c: {}}}\n  c: {app: h:1, callers: *all, calls: {a: {}}}\n"
    found = learn(read_mesh(files(text)), [Call("c", "a", 1)])
    assert [(one.service, one.names, one.is_written) for one in found.proposals] == [("a", ("c",), False)]
    assert found.diff == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("callers: [a]  # who\nx: 1\n", "callers: [a, n, \"true\"]  # who\nx: 1\n"),
        ("callers: []\n", "callers: [n, \"true\"]\n"),
        ("callers: a # who\n", "callers: [a, n, \"true\"] # who\n"),
        ("callers:\n- a\n# x\nx: 1\n", "callers:\n- a\n- n\n- \"true\"\n# x\nx: 1\n"),
        ("callers:\n    - a # b\n\nx: 1", "callers:\n    - a # b\n    - n\n    - \"true\"\n\nx: 1"),
        ("callers:\n    - from: b\n      path:\n        prefix: /x # y\nx: 1\n", "callers:\n    - from: b\n      path:\n        prefix: /x # y\n    - n\n    - \"true\"\nx: 1\n"),
        ("service: a # s\nroutes: []\n", "service: a # s\ncallers: [n, \"true\"]\nroutes: []\n"),
        ("service: a", "service: a\ncallers: [n, \"true\"]"),
        ("service: a\r\nx: 1\r\n", "service: a\r\ncallers: [n, \"true\"]\r\nx: 1\r\n"),
        ("service: |\n  a\nx: 1\n", "service: |\n  a\ncallers: [n, \"true\"]\nx: 1\n"),
        ("# top\nx: 1\n", "# top\ncallers: [n, \"true\"]\nx: 1\n"),
        ("{service: a}\n", "{service: a, callers: [n, \"true\"]}\n"),
        ("{}\n", "{callers: [n, \"true\"]}\n"),
        ("hosts:\n  - a\n  - b # c\nroutes:\n", "hosts:\n  - a\n  - b # c\ncallers: [n, \"true\"]\nroutes:\n"),
    ],
)  # fmt: skip
def test_names_go_into_the_style_that_is_there(text: str, expected: str) -> None:
    """Comments and untouched lines stay; a name that YAML takes for something else is quoted."""
    assert with_names(text, (), "callers", ["n", "true"], is_table=False) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n  a:\n    app: x\n  b: {}\n", "services:\n  a:\n    app: x\n    calls: {n: {}}\n  b: {}\n"),
        ("services: {a: {app: x}}\n", "services: {a: {app: x, calls: {n: {}}}}\n"),
        ("services: {a: {calls: {}}}\n", "services: {a: {calls: {n: {}}}}\n"),
        ("services: {a: {calls: {b: {}}}}\n", "services: {a: {calls: {b: {}, n: {}}}}\n"),
        ("services:\n  a:\n    calls:\n      b:\n        timeout: 1s # t\n  c: {}\n", "services:\n  a:\n    calls:\n      b:\n        timeout: 1s # t\n      n: {}\n  c: {}\n"),
    ],
)  # fmt: skip
def test_calls_are_a_mapping_and_services_may_be_in_one_file(text: str, expected: str) -> None:
    """At any depth."""
    assert with_names(text, ("services", "a"), "calls", ["n"], is_table=True) == expected


def test_many_names_become_a_block() -> None:
    """A line that nobody can read is none."""
    names = [f"service-number-{number}" for number in range(8)]
    text = with_names("service: a\n", (), "callers", names, is_table=False)
    assert text == "service: a\ncallers:\n" + "".join(f"  - {name}\n" for name in names)
    text = with_names("service: a\n", (), "calls", names, is_table=True)
    assert text == "service: a\ncalls:\n" + "".join(f"  {name}: {{}}\n" for name in names)


@pytest.mark.parametrize("text", ["- a\n", "x\n", "", "callers: {a: 1}\n"])
def test_what_has_no_such_place_is_refused(text: str) -> None:
    """It is for a person to look at."""
    with pytest.raises(ValueError, match=r"no mapping|neither a name nor a list"):
        with_names(text, (), "callers", ["n"], is_table=False)
