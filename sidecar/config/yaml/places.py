"""Where in the file a value of the models was written. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping as Mapping_
from collections.abc import Sequence as SequenceLike
from dataclasses import dataclass
from typing import Final

from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence, join_path

Location = SequenceLike[int | str]
"""Keys and indices from the root of the models, as pydantic's `loc`; short forms count as the long ones."""

_KEY_MARK: Final = "[key]"  # pydantic puts this after a key whose name, not value, is wrong
_TAG_MARK: Final = "<"  # the branches of our unions are tagged `<word>` and `<mapping>`; neither is in the file
_WRITTEN_AS_MAPPING: Final = "to"  # the one list that may be written as a mapping of its items


@dataclass(frozen=True, slots=True)
class Place:
    """
    What the file has nearest to a location.

    Attributes:
        path: As problems show it; it ends where the file's own structure ends.
        keys: The same as keys and indices of the tree.
        node: The value.
        mark: Where to point: the value itself, or its key where the key is meant.
    """

    path: str
    keys: tuple[int | str, ...]
    node: Node
    mark: Node


def locate(root: Node, location: Location) -> Place:
    """Follow `location` from the root as far as the file goes."""
    node, mark, path = root, root, ""
    keys: list[int | str] = []
    steps = [step for step in location if not (isinstance(step, str) and step.startswith(_TAG_MARK))]
    for index, step in enumerate(steps):
        if step == _KEY_MARK:
            break
        if isinstance(node, Mapping):
            if isinstance(step, int):
                if not (keys and keys[-1] == _WRITTEN_AS_MAPPING):
                    continue  # the only item of a list, written without the list
                step = list(node.entries)[step]
                names_key = steps[index + 1 : index + 2] == ["upstream"]
            else:
                names_key = steps[index + 1 : index + 2] == [_KEY_MARK]
            if step not in node.entries:
                # The models hold header names in lower case.
                step = next((key for key in node.entries if key.lower() == step), step)
                if step not in node.entries:
                    break
            key, node = node.entries[step]
            path = join_path(path, step)
            mark = key if names_key else node
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = mark = node.items[step]
            path = f"{path}[{step}]"
        elif isinstance(step, int):
            continue
        else:
            break
        keys.append(step)
        if isinstance(node, Scalar):
            break
    return Place(path, tuple(keys), node, mark)


def place_of_key(root: Node, location: Location) -> Place:
    """Like `locate`, but points at the key of the last step, if the file has it."""
    place = locate(root, location)
    if place.keys and isinstance(place.keys[-1], str):
        parent = root
        for step in place.keys[:-1]:
            parent = _child(parent, step)
        assert isinstance(parent, Mapping)
        return Place(place.path, place.keys, place.node, parent.entries[place.keys[-1]][0])
    return place


Lines = Mapping_[tuple[int | str, ...], int | str]
"""
Line of a key or an item, by the keys and indices that lead to it; `FILE:LINE` where another file than the root's has
it, and a word where none has.
"""

_LINELESS: Final = frozenset(
    {
        "match",
        "to",
        "request_headers",
        "response_headers",
        "respond",
        "redirect",
        "endpoints",
        "hosts",
        "tests",
    }
)
"""Parts of a file that hold no settings with a default, and most of its keys."""


def lines_of(root: Node) -> Lines:
    """Where each setting of a file is written, so that its value in force can be shown with its origin."""
    found: dict[tuple[int | str, ...], int | str] = {}
    waiting: list[tuple[tuple[int | str, ...], Node]] = [((), root)]
    while waiting:
        at, node = waiting.pop()
        if isinstance(node, Mapping):
            for name, (key, value) in node.entries.items():
                if name not in _LINELESS or key.file != root.file:
                    found[*at, name] = _line_of(key, root)
                if name not in _LINELESS:
                    waiting.append(((*at, name), value))
        elif isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                found[*at, index] = _line_of(item, root)
                waiting.append(((*at, index), item))
    return found


def _line_of(node: Node, root: Node) -> int | str:
    if not node.line:
        return node.file
    return node.line if node.file == root.file else f"{node.file}:{node.line}"


def _child(node: Node, step: int | str) -> Node:
    if isinstance(node, Sequence) and isinstance(step, int):
        return node.items[step]
    assert isinstance(node, Mapping)
    assert isinstance(step, str)
    return node.entries[step][1]
