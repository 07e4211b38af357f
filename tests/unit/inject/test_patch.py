"""Edits as JSON Patch: RFC 6902, as somebody else's library applies it."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Remove, Rename, Replace, applied
from sidecar.inject.patch import patch_of, pointer

VALUE: dict[str, Any] = {
    "spec": {"list": [{"name": "a"}, {"name": "b", "probe": {"old": 1}}], "none": None},
    "a/b": {"c~d": 1, "e": 2},
}


@pytest.mark.parametrize(
    "edits",
    [
        [AddKey(("spec",), "new/key", [1])],
        [AddKey((), "new", {"x": None})],
        [AddItems(("spec", "list"), ({"name": "c"}, {"name": "d"}))],
        [AddItems(("spec", "list"), ({"name": "c"}, {"name": "d"}), at_start=True)],
        [Replace(("spec", "none"), ["x"]), Replace(("spec", "list", 1, "name"), "z")],
        [Replace((), {"whole": True})],
        [Exchange(("spec", "list", 1, "probe", "old"), "new", {"y": 2})],
        [Rename(("a/b", "c~d"), "f"), Remove(("a/b", "e"))],
    ],
    ids=["key", "root", "end", "start", "replace", "whole", "exchange", "rename"],
)
def test_patch_does_what_the_edits_do(edits: list[Edit]) -> None:
    """Each kind of edit, by its patch, comes to what our own code makes of it."""
    assert jsonpatch.JsonPatch(patch_of(edits)).apply(VALUE) == applied(VALUE, edits)


def test_items_at_the_start_move_no_other_edits_path() -> None:
    """Paths count as before the first edit, whichever comes first: what is added in front is added last."""
    edits: list[Edit] = [
        AddItems(("spec", "list"), ({"name": "first"}, {"name": "second"}), at_start=True),
        Exchange(("spec", "list", 1, "probe", "old"), "new", 2),
        Rename(("spec", "none"), "something"),
    ]
    found = jsonpatch.JsonPatch(patch_of(edits)).apply(VALUE)
    assert [one["name"] for one in found["spec"]["list"]] == ["first", "second", "a", "b"]
    assert found["spec"]["list"][3]["probe"] == {"new": 2}
    assert found == applied(VALUE, edits)


@pytest.mark.parametrize(
    ("path", "written"),
    [((), ""), (("a", 0), "/a/0"), (("a/b", "m~n"), "/a~1b/m~0n"), (("",), "/"), (("~1",), "/~01")],
)
def test_pointer_is_that_of_rfc_6901(path: tuple[str | int, ...], written: str) -> None:
    """RFC 6901, 3 and 5: `~` is written first, so that `~1` is not taken for a slash."""
    assert pointer(path) == written
