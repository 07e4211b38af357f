"""
What undoes edits: noted when they are written, carried in the manifest itself, found again by names. *Cold, pure.*

A note is `[what, path, argument]`. In a path an item of a list is given by its `name`, where it has one, so that a
manifest which was reordered or edited since can still be undone:

    key     [path of the key]                 the key was not there
    items   [path of the list], [names]       these items were not there
    value   [path], [text, column]            the value was this text; empty: nothing was written
    entry   [path of the key], [text, column] the key and its value were this text
    name    [path of the key], text           the key was this text
    gone    [path of the key], [text, key before, key after, gap]       this was here

A column is counted from 1, and 0 within braces and brackets: another program may have indented the manifest anew, or
made JSON of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingLike
from typing import Final

from sidecar.config.problems import ConfigError
from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Path, Remove, Replace
from sidecar.inject.text.places import behind, dash_of, gone, gone_from, line_start, written_end
from sidecar.inject.text.render import as_json
from sidecar.inject.text.splice import Splice, entry_at, node_at
from sidecar.inject.text.tree import Mapping, Node, parse, target_of, word_of
from sidecar.inject.text.tree import Sequence as SequenceNode
from sidecar.inject.text.values import value_of

Note = tuple[str, tuple[str | int, ...], object]
"""What, path, argument."""

_NAMED_BY: Final = ("name", "containerName", "Name", "ContainerName")
"""Keys by which items are known; the later ones are those of ECS and of CloudFormation."""
_TAKES: Final = {"key": "", "items": [], "value": [], "entry": [], "name": "", "gone": []}


def notes_of(text: str, root: Node, edits: Sequence[Edit], base: Path) -> list[Note]:
    """
    What will undo these edits.

    Args:
        edits: As `settle.settled` leaves them.
        base: What all their paths begin with; the notes' begin behind it.
    """
    return [_note(text, root, edit, len(base)) for edit in edits]


def _note(text: str, root: Node, edit: Edit, skipped: int) -> Note:
    path = _named(root, edit.path)[skipped:]
    if isinstance(edit, AddKey):
        return "key", (*path, edit.key), ""
    if isinstance(edit, AddItems):
        return "items", path, [_name(value) for value in edit.values]
    if isinstance(edit, Replace):
        node = node_at(root, edit.path)
        if isinstance(edit.path[-1], int) and isinstance(edit.value, MappingLike):
            path = (*path[:-1], _name(edit.value))  # by which it will be found
        return "value", path, [text[node.start : written_end(text, node)], _column(root, edit.path, node)]
    if isinstance(edit, Remove):
        return "gone", path, _gone(text, root, edit.path)
    key, value = entry_at(root, edit.path)
    if isinstance(edit, Exchange):
        was = text[key.start : max(key.end + 1, written_end(text, value))]
        return "entry", (*path[:-1], edit.key), [was, _column(root, edit.path, key)]
    return "name", (*path[:-1], edit.key), text[key.start : key.end]


def _column(root: Node, path: Path, node: Node) -> str:
    """Of a node, or a key, that stands at a path: 0 if one of those around it has braces or brackets."""
    around: Node | None = root
    for step in path:
        if isinstance(around, Mapping | SequenceNode) and around.is_flow:
            return "0"
        around = _child(around, step)
    return str(node.column)


def _fitting(root: Node, path: Path, node: Node, argument: object, *, is_entry: bool = False) -> str:
    """What was in the place of a node, in the style that its surroundings have now."""
    assert isinstance(argument, list)
    was, column = map(str, argument)
    before, now = int(column), int(_column(root, path, node))
    if before and not now:
        return _as_flow(was, is_entry=is_entry)
    if before == now or not (before and now):
        return was
    first, *rest = was.split("\n")
    moved = (" " * (now - before) + line if now > before else line[before - now :] for line in rest)
    return "\n".join([first, *(new if line.strip() else line for new, line in zip(moved, rest, strict=True))])


def _as_flow(was: str, *, is_entry: bool) -> str:
    """
    Text of a block as JSON: a value, or a key and its value.

    Raises:
        ValueError: It is no YAML by itself.
    """
    if was.startswith("*"):
        return was
    try:
        written = as_json(value_of(parse(was, "note")[0].root) if was else None, None, "")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return written[1:-1] if is_entry else written


def _gone(text: str, root: Node, path: Path) -> list[str]:
    parent = node_at(root, path[:-1])
    assert isinstance(parent, Mapping)
    start, end = gone(text, parent, str(path[-1]))
    index = next(index for index, (key, _) in enumerate(parent.entries) if word_of(key) == path[-1])
    earlier = parent.entries[index - 1] if index else None
    later = parent.entries[index + 1] if index + 1 < len(parent.entries) else None
    gap = 0
    if not parent.is_flow and earlier is not None:
        gap = start - behind(text, earlier[1])
    elif not parent.is_flow and later is not None:
        gap = line_start(text, later[0].start) - end
    names = (word_of(entry[0]) or "" if entry is not None else "" for entry in (earlier, later))
    return [text[start:end], *names, str(gap)]


def _named(root: Node, path: Path) -> Path:
    """The same path with names for positions, where there are names."""
    found: list[str | int] = []
    node: Node | None = root
    for step in path:
        node = target_of(node) if node is not None else None
        if isinstance(node, SequenceNode) and isinstance(step, int):
            node = node.items[step]
            found.append(_name_of(node) or step)
        else:
            node = node.get(str(step)) if isinstance(node, Mapping) else None
            found.append(step)
    return tuple(found)


def _name(value: object) -> str:
    """By which an item is found again: its name, or all of it if it is a word."""
    found = value
    if isinstance(value, MappingLike):
        found = next(value[key] for key in _NAMED_BY if key in value)
    assert isinstance(found, str)
    return found


def _name_of(node: Node) -> str | None:
    node = target_of(node)
    if isinstance(node, Mapping):
        named = next((value for key in _NAMED_BY if (value := node.get(key)) is not None), None)
        return word_of(named) if named is not None else None
    return word_of(node)


def parse_notes(value: object) -> list[Note]:
    """
    Notes as they were read from JSON.

    Raises:
        ValueError: They are none.
    """
    if not isinstance(value, list):
        raise ValueError("expected a list")
    notes: list[Note] = []
    for note in value:
        if not (isinstance(note, list) and len(note) == 3 and note[0] in _TAKES and isinstance(note[1], list)):
            raise ValueError("expected notes of three parts")
        what, path, argument = note
        if not all(isinstance(step, str | int) for step in path) or not path:
            raise ValueError("expected a path")
        if type(argument) is not type(_TAKES[what]):
            raise ValueError(f"expected another argument of {what!r}")
        notes.append((what, tuple(path), argument))
    return notes


def restoring(text: str, root: Node, base: Path, notes: Sequence[Note]) -> list[Splice]:
    """
    What takes edits out of a text again. What is not there any more was taken out by somebody else.

    Args:
        root: Of the document that has the edits.
        base: As for `notes_of`.
    """
    found: list[Splice] = []
    keys: dict[int, tuple[Mapping, set[str]]] = {}
    for what, path, argument in notes:
        parent = _find(root, (*base, *path[:-1]))
        node = _find(root, (*base, *path))
        if what == "items":
            if isinstance(node, SequenceNode):
                assert isinstance(argument, list)
                found += _without_items(text, node, {str(name) for name in argument})
                if (
                    isinstance(parent, Mapping)
                    and not node.is_flow
                    and all(_name_of(item) in argument for item in node.items)
                ):
                    # It was empty, in brackets that another program has taken away.
                    at = text.index(":", _key_of(parent, node).end) + 1
                    found.append(Splice(at, at, " []"))
            continue
        if what == "gone":
            assert isinstance(argument, list)
            found += _back(text, parent, argument)
            continue
        entry = parent.entry(str(path[-1])) if isinstance(parent, Mapping) else None
        if entry is None and what != "value":
            continue
        if what == "key":
            assert isinstance(parent, Mapping)
            keys.setdefault(id(parent), (parent, set()))[1].add(str(path[-1]))
        elif what == "value" and node is not None:
            was = _fitting(root, (*base, *path), node, argument)
            start = node.start - 1 if not was and text[node.start - 1] == " " else node.start
            found.append(Splice(start, written_end(text, node), was))
        elif entry is not None:
            is_whole = what == "entry"
            end = written_end(text, entry[1]) if is_whole else entry[0].end
            was = _fitting(root, (*base, *path), entry[0], argument, is_entry=True) if is_whole else str(argument)
            found.append(Splice(entry[0].start, end, was))
    for mapping, names in keys.values():
        found += _without_keys(text, mapping, names)
    return _without_last_line_end(text, found)


def _back(text: str, parent: Node | None, argument: list[object]) -> list[Splice]:
    """What was taken away."""
    if not isinstance(parent, Mapping):
        return []
    was, before, after, gap = map(str, argument)
    at = gone_from(text, parent, before, after, int(gap))
    return [] if at is None else [Splice(at, at, was)]


def _key_of(parent: Mapping, value: Node) -> Node:
    return next(key for key, one in parent.entries if one is value)


def _find(root: Node, path: Path) -> Node | None:
    """The node at a path of names, or None."""
    node: Node | None = root
    for step in path:
        node = _child(node, step)
    return node


def _child(node: Node | None, step: str | int) -> Node | None:
    """The value of a key, or the item with this name or position; None if there is none."""
    if isinstance(node, Mapping):
        return node.get(str(step))
    if not isinstance(node, SequenceNode):
        return None
    if isinstance(step, int):
        return node.items[step] if -1 < step < len(node.items) else None
    return next((item for item in node.items if _name_of(item) == step), None)


def _without_items(text: str, node: SequenceNode, names: set[str]) -> list[Splice]:
    gone = [_name_of(item) in names for item in node.items]
    if node.is_flow:
        return _without_parts([(item, item) for item in node.items], gone)
    starts = [line_start(text, dash_of(text, node, index)) for index in range(len(node.items))]
    return _without_lines(text, starts, node.items, gone)


def _without_keys(text: str, node: Mapping, names: set[str]) -> list[Splice]:
    gone = [word_of(key) in names for key, _ in node.entries]
    if node.is_flow:
        return _without_parts(node.entries, gone)
    starts = [line_start(text, key.start) for key, _ in node.entries]
    return _without_lines(text, starts, [value for _, value in node.entries], gone)


def _without_lines(text: str, starts: Sequence[int], lasts: Sequence[Node], gone: Sequence[bool]) -> list[Splice]:
    """Of what stands in a block: whole lines."""
    found: list[Splice] = []
    for first, stop in _runs(gone):
        found.append(Splice(starts[first], behind(text, lasts[stop - 1]), ""))
    return found


def _without_last_line_end(text: str, splices: list[Splice]) -> list[Splice]:
    """Where the last lines of a text go that has no line end behind them, the line end before them goes, too."""
    if text.endswith("\n"):
        return splices
    lines = sorted((one for one in splices if not one.text), key=lambda one: one.end)
    start = end = len(text)
    while lines and lines[-1].end == start:
        start = lines.pop().start
    if start == end or not start or text[start - 1] != "\n":
        return splices
    rest = [one for one in splices if one.start < start]
    return [*rest, Splice(start - (2 if text[:start].endswith("\r\n") else 1), end, "")]


def _without_parts(parts: Sequence[tuple[Node, Node]], gone: Sequence[bool]) -> list[Splice]:
    """Of what stands within braces or brackets: each run with the comma behind it, or, at the end, before it."""
    found: list[Splice] = []
    for first, stop in _runs(gone):
        if stop < len(parts):
            found.append(Splice(parts[first][0].start, parts[stop][0].start, ""))
        else:
            start = parts[first - 1][1].end if first else parts[0][0].start
            found.append(Splice(start, parts[-1][1].end, ""))
    return found


def _runs(gone: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where runs of those that go begin, and where they are over."""
    first = 0
    for is_gone, run in itertools.groupby(gone):
        stop = first + len(list(run))
        if is_gone:
            yield first, stop
        first = stop
