"""
Edits where the author has written less than there is: behind aliases, and in what `<<` merges. *Cold, pure.*

What is shared must not be changed for one who shares it. An alias gets a copy with the edits in its place, a mapping
that is only added to `{<<: *it, more: ...}`; what comes by a merge key is written out as a key of its own, which
overrides what is merged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Path, Remove, Rename, Replace, applied
from sidecar.inject.text.render import Over
from sidecar.inject.text.tree import Alias, Mapping, Node, target_of
from sidecar.inject.text.tree import Sequence as SequenceNode
from sidecar.inject.text.values import merged_into, value_of


class TextError(Exception):
    """
    An edit that cannot be written into this text.

    Attributes:
        node: Where.
        hint: What the author can do.
    """

    def __init__(self, node: Node, message: str, hint: str) -> None:
        super().__init__(message)
        self.node = node
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Behind `path` nothing is the author's own writing for this place alone."""

    path: Path
    alias: Alias | None
    value: object


def settled(edits: Sequence[Edit], root: Node, uncopied: Collection[str]) -> list[Edit]:
    """
    Edits that say the same, each of which touches only what is written for its place alone.

    Args:
        edits: With paths of the values.
        uncopied: Keys whose values are too large to be written out for the sake of an edit.

    Raises:
        TextError: One of them stands behind an alias.
    """
    found: list[Edit] = []
    behind: dict[Path, tuple[_Obstacle, list[Edit]]] = {}
    for edit in edits:
        obstacle = _obstacle(edit, root)
        if obstacle is None:
            found.append(edit)
        else:
            behind.setdefault(obstacle.path, (obstacle, []))[1].append(edit)
    for path, (obstacle, within) in behind.items():
        found.append(_instead(path, obstacle, within, root, uncopied))
    return found


def _obstacle(edit: Edit, root: Node) -> _Obstacle | None:
    node = root
    # What is added to is looked into; what is replaced may be an alias itself.
    is_added_to = isinstance(edit, AddKey | AddItems)
    for depth, step in enumerate(edit.path):
        if isinstance(node, Alias):
            return _Obstacle(edit.path[:depth], node, value_of(node))
        if isinstance(node, Mapping):
            own = node.get(str(step))
            if own is None:
                return _Obstacle(edit.path[: depth + 1], None, merged_into(node)[str(step)])
            node = own
        else:
            assert isinstance(node, SequenceNode)
            assert isinstance(step, int)
            node = node.items[step]
    return _Obstacle(edit.path, node, value_of(node)) if is_added_to and isinstance(node, Alias) else None


def _instead(path: Path, obstacle: _Obstacle, within: list[Edit], root: Node, uncopied: Collection[str]) -> Edit:
    alias = obstacle.alias
    keys = {edit.key: edit.value for edit in within if isinstance(edit, AddKey) and edit.path == path}
    if alias is not None and len(keys) == len(within) and isinstance(target_of(alias), Mapping):
        return Replace(path, Over(alias.name, keys))
    last = path[-1] if path else ""
    if alias is None and any(isinstance(edit, Rename | Exchange | Remove) and edit.path == path for edit in within):
        raise TextError(
            root, f"`{last}` comes by a merge key, which cannot be taken away", "write it out where it is used"
        )
    if last in uncopied:
        what = f"the alias `*{alias.name}`" if alias is not None else "a merge key"
        raise TextError(
            alias or root, f"`{last}` comes by {what}, and is shared with another place", "write it out at one of them"
        )
    value = applied(obstacle.value, [replace(edit, path=edit.path[len(path) :]) for edit in within])
    return Replace(path, value) if alias is not None else AddKey(path[:-1], str(last), value)
