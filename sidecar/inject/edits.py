"""
What is to be changed in a workload, as values and paths; of text they know nothing. *Cold, pure.*

The same edits are written into the author's text by `inject.text`, applied to values here, and are what a JSON Patch
(RFC 6902) has as operations: `AddKey` and `AddItems` are its `add`, `Replace` its `replace`, `Exchange` a `remove` and
an `add`, `Rename` its `move`, `Remove` its `remove`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

Value = object
"""A mapping with words as keys, a list, a string, a number, a boolean, None, or what `text.values` makes of tags."""

Step = str | int
Path = tuple[Step, ...]
"""Keys of mappings and positions in lists, from the root of a document, as they are before the first edit."""


@dataclass(frozen=True, slots=True)
class AddKey:
    """
    A key that a mapping does not have yet.

    Attributes:
        path: Of the mapping.
        before: The key before which it looks best; any place will do.
    """

    path: Path
    key: str
    value: Value
    before: str = ""


@dataclass(frozen=True, slots=True)
class AddItems:
    """Items that a list does not have yet, at its start or its end; `path` is the list's."""

    path: Path
    values: tuple[Value, ...]
    at_start: bool = False


@dataclass(frozen=True, slots=True)
class Replace:
    """Another value for a key or an item that is there; `path` is its own."""

    path: Path
    value: Value


@dataclass(frozen=True, slots=True)
class Exchange:
    """Another key with another value instead of a key that is there; `path` is that of the key that goes."""

    path: Path
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name for a key, whose value stays; `path` is that of the key as it is."""

    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A key that goes with its value; `path` is that of the key."""

    path: Path


Edit = AddKey | AddItems | Replace | Exchange | Rename | Remove


def applied(value: Value, edits: Sequence[Edit]) -> Value:
    """
    What a value becomes by edits, whose paths are those of the value as it is given.

    Raises:
        LookupError, TypeError: An edit does not fit the value: the caller's mistake.
    """
    root = [deepcopy(value)]
    for edit in in_order(edits):
        _apply(root, edit)
    return root[0]


def in_order(edits: Sequence[Edit]) -> list[Edit]:
    """Edits in an order in which each finds its path as it was before the first."""
    # Last, for they move what the paths of others count.
    starts = [edit for edit in edits if isinstance(edit, AddItems) and edit.at_start]
    renames = [edit for edit in edits if isinstance(edit, Rename)]
    return [*(edit for edit in edits if edit not in starts and edit not in renames), *renames, *starts]


def _apply(root: list[Value], edit: Edit) -> None:
    if isinstance(edit, AddKey):
        _mapping(_at(root, edit.path))[edit.key] = edit.value
    elif isinstance(edit, AddItems):
        found = _at(root, edit.path)
        assert isinstance(found, list)
        found[:] = [*edit.values, *found] if edit.at_start else [*found, *edit.values]
    elif isinstance(edit, Replace):
        parent: object = _at(root, edit.path[:-1]) if edit.path else root
        parent[edit.path[-1] if edit.path else 0] = edit.value  # type: ignore[index]
    elif isinstance(edit, Remove):
        del _mapping(_at(root, edit.path[:-1]))[str(edit.path[-1])]
    else:
        mapping = _mapping(_at(root, edit.path[:-1]))
        given = mapping.pop(str(edit.path[-1]))
        mapping[edit.key] = edit.value if isinstance(edit, Exchange) else given


def _at(root: list[Value], path: Path) -> object:
    found: object = root[0]
    for step in path:
        found = found[step]  # type: ignore[index]
    return found


def _mapping(value: object) -> dict[str, Value]:
    assert isinstance(value, dict)
    return value


def at(value: Value, path: Path) -> Value:
    """The value at a path, or None if there is none."""
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def items_added(
    root: Value, path: Path, values: Sequence[Value], *, at_start: bool = False, before: str = ""
) -> list[Edit]:
    """
    What adds items to a list that may be absent or null; nothing for no items.

    Args:
        root: A document whose values on the way to the list are mappings and lists.
        path: Of the list, from there.
        before: As `AddKey.before`, of the list's key.
    """
    if not values:
        return []
    if isinstance(at(root, path), list):
        return [AddItems(path, tuple(values), at_start)]
    return [_put(root, path, list(values), before)]


def entries_added(root: Value, path: Path, entries: Mapping[str, Value], before: str = "") -> list[Edit]:
    """What adds keys to a mapping that may be absent or null, as may be the one that has it; as `items_added`."""
    if not entries:
        return []
    if isinstance(at(root, path), Mapping):
        return [AddKey(path, key, value) for key, value in entries.items()]
    return [_put(root, path, dict(entries), before)]


def _put(root: Value, path: Path, value: Value, before: str) -> Edit:
    parent = at(root, path[:-1])
    if isinstance(parent, Mapping):
        return Replace(path, value) if path[-1] in parent else AddKey(path[:-1], str(path[-1]), value, before)
    return _put(root, path[:-1], {str(path[-1]): value}, before)
