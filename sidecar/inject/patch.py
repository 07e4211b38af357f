"""
Edits as a JSON Patch (RFC 6902). *Pure.*

The operations of a patch are applied one after the other, each to what the one before has left, while the paths of
edits are those before the first. So what moves positions in a list, items at its start, comes last, as in
`edits.applied`, and items go in the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Path, Remove, Rename, Replace, Value, in_order

Operation = dict[str, Value]


def patch_of(edits: Sequence[Edit]) -> list[Operation]:
    """The patch that does to JSON what `edits.applied` does to values."""
    return [operation for edit in in_order(edits) for operation in _operations(edit)]


def _operations(edit: Edit) -> Iterator[Operation]:
    here = pointer(edit.path)
    if isinstance(edit, AddKey):
        yield {"op": "add", "path": pointer((*edit.path, edit.key)), "value": edit.value}
    elif isinstance(edit, AddItems):
        # RFC 6902, 4.1: "The '-' character is used to index the end of the array".
        values = reversed(edit.values) if edit.at_start else iter(edit.values)
        where = f"{here}/0" if edit.at_start else f"{here}/-"
        yield from ({"op": "add", "path": where, "value": value} for value in values)
    elif isinstance(edit, Replace):
        yield {"op": "replace", "path": here, "value": edit.value}
    elif isinstance(edit, Exchange):
        yield {"op": "remove", "path": here}
        yield {"op": "add", "path": pointer((*edit.path[:-1], edit.key)), "value": edit.value}
    elif isinstance(edit, Rename):
        yield {"op": "move", "from": here, "path": pointer((*edit.path[:-1], edit.key))}
    else:
        assert isinstance(edit, Remove)
        yield {"op": "remove", "path": here}


def pointer(path: Path) -> str:
    """A path as RFC 6901 writes it."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
