"""
Edits written into the author's text. *Cold, pure.*

Something new in a block is whole lines; a key stands before one that is there, above that one's comments, for there a
line ends in every case. Within braces and brackets it is JSON, with the blanks and line ends of what stands beside it.
`restore` finds by the same rules what was put here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Path, Remove, Rename, Replace, Value
from sidecar.inject.text import render
from sidecar.inject.text.places import (
    above_comments,
    behind,
    dash_of,
    ends_without_line,
    gone,
    is_first_on_line,
    line_start,
    refuse_unusual,
    written_end,
)
from sidecar.inject.text.tree import Mapping, Node, Scalar, below, word_of
from sidecar.inject.text.tree import Sequence as SequenceNode


@dataclass(frozen=True, slots=True)
class Splice:
    """
    Text instead of what stands from `start` to `end`.

    Attributes:
        follows: The column of what stands before and to which it belongs, from 1; 0: it belongs to nothing. Of several
            in one place such come first, and of these what belongs to the innermost.
    """

    start: int
    end: int
    text: str
    follows: int = 0


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """
    The text with all of them; those at one place in the order given.

    Raises:
        ValueError: Two of them want the same part of it.
    """
    pieces: list[str] = []
    at = 0
    for splice in sorted(splices, key=lambda one: (one.start, one.end, -one.follows)):
        if splice.start < at:
            raise ValueError("two changes of the same part of a text")
        pieces += (text[at : splice.start], splice.text)
        at = splice.end
    return "".join([*pieces, text[at:]])


def splices_of(text: str, root: Node, edits: Sequence[Edit]) -> list[Splice]:
    """
    What writes edits into a text.

    Args:
        edits: As `settle.settled` leaves them.

    Raises:
        TextError: There is no place for one of them.
    """
    writer = _Writer(text, root)
    return [writer.splice(edit) for edit in edits]


def node_at(root: Node, path: Path) -> Node:
    """The node at a path that crosses neither aliases nor what is merged."""
    node = root
    for step in path:
        if isinstance(node, Mapping):
            found = node.get(str(step))
            assert found is not None
            node = found
        else:
            assert isinstance(node, SequenceNode)
            assert isinstance(step, int)
            node = node.items[step]
    return node


def entry_at(root: Node, path: Path) -> tuple[Node, Node]:
    """The key and the value at a path whose last step is a key."""
    parent = node_at(root, path[:-1])
    assert isinstance(parent, Mapping)
    found = parent.entry(str(path[-1]))
    assert found is not None
    return found


class _Writer:
    def __init__(self, text: str, root: Node) -> None:
        self._text = text
        self._root = root
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._dash = _dash_offset(root)
        self._in_flow = {
            id(inner)
            for node in below(root)
            if isinstance(node, Mapping | SequenceNode) and node.is_flow
            for inner in below(node)
        }
        self._begun: set[int] = set()
        """Mappings without entries that have got one."""

    def splice(self, edit: Edit) -> Splice:
        if isinstance(edit, AddKey):
            node = node_at(self._root, edit.path)
            assert isinstance(node, Mapping)
            return self._flow_key(node, edit) if node.is_flow else self._block_key(node, edit)
        if isinstance(edit, AddItems):
            found = node_at(self._root, edit.path)
            assert isinstance(found, SequenceNode)
            return self._flow_items(found, edit) if found.is_flow else self._block_items(found, edit)
        if isinstance(edit, Replace):
            return self._replaced(node_at(self._root, edit.path), edit.value)
        if isinstance(edit, Remove):
            parent = node_at(self._root, edit.path[:-1])
            assert isinstance(parent, Mapping)
            return Splice(*gone(self._text, parent, str(edit.path[-1])), "")
        key, value = entry_at(self._root, edit.path)
        if isinstance(edit, Rename):
            return Splice(key.start, key.end, self._word(key, edit.key))
        assert isinstance(edit, Exchange)
        new = f"{self._word(key, edit.key)}: {self._on_one_line(key, edit.value)}"
        return Splice(key.start, max(key.end + 1, written_end(self._text, value)), new)

    def _replaced(self, node: Node, value: Value) -> Splice:
        new = self._on_one_line(node, value)
        if isinstance(node, Mapping) and node.is_flow and node.entries:
            _, inside, step = self._style(node, node.entries[0][0])
            if inside is not None:
                new = self._json(value, inside.removesuffix(step), step)
        return Splice(node.start, written_end(self._text, node), new if node.start != node.end else " " + new)

    def _on_one_line(self, beside: Node, value: Value) -> str:
        return render.as_json(value, None, "") if id(beside) in self._in_flow else render.flow(value)

    def _word(self, beside: Node, word: str) -> str:
        is_quoted = isinstance(beside, Scalar) and not beside.is_plain
        return render.as_json(word, None, "") if is_quoted else render.scalar(word)

    # --- in blocks ---------------------------------------------------------------------------------------------

    def _block_key(self, node: Mapping, edit: AddKey) -> Splice:
        text = self._text
        keys = [key for key, _ in node.entries]
        lines = render.block_entry(edit.key, edit.value, keys[0].column - 1, self._dash)
        wanted = next((index for index, key in enumerate(keys) if word_of(key) == edit.before), 0)
        # The first key may share its line with a dash.
        for index in (wanted, 1):
            if index < len(keys) and is_first_on_line(text, keys[index].start):
                floor = node.entries[index - 1][1].end if index else 0
                at = above_comments(text, keys[index].start, floor)
                return Splice(at, at, "".join(line + self._newline for line in lines))
        return self._lines_behind(node.entries[-1][1], lines, keys[0].column)

    def _block_items(self, node: SequenceNode, edit: AddItems) -> Splice:
        text = self._text
        dash = dash_of(text, node, 0)
        if not is_first_on_line(text, dash):
            raise refuse_unusual(node)
        indent = dash - line_start(text, dash)
        lines = [line for value in edit.values for line in render.block_item(value, indent, self._dash)]
        if edit.at_start:
            at = above_comments(text, dash, 0)
            return Splice(at, at, "".join(line + self._newline for line in lines))
        return self._lines_behind(node.items[-1], lines, indent + 1)

    def _lines_behind(self, node: Node, lines: list[str], column: int) -> Splice:
        at = behind(self._text, node)
        if ends_without_line(self._text, node):
            raise refuse_unusual(node)
        if at and self._text[at - 1] != "\n":
            return Splice(at, at, "".join(self._newline + line for line in lines), follows=column)
        return Splice(at, at, "".join(line + self._newline for line in lines), follows=column)

    # --- within braces and brackets ----------------------------------------------------------------------------

    def _flow_key(self, node: Mapping, edit: AddKey) -> Splice:
        first = node.entries[0][0] if node.entries else None
        blank, indent, step = self._style(node, first)
        new = f"{render.as_json(edit.key, None, '')}: {self._json(edit.value, indent, step)}"
        if first is None:
            lead = ", " if id(node) in self._begun else ""
            self._begun.add(id(node))
            return Splice(self._inside(node), self._inside(node), lead + new)
        at = node.entries[-1][1].end
        return Splice(at, at, f",{blank}{new}")

    def _flow_items(self, node: SequenceNode, edit: AddItems) -> Splice:
        first = node.items[0] if node.items else None
        blank, indent, step = self._style(node, first)
        new = [self._json(value, indent, step) for value in edit.values]
        if first is None:
            return Splice(self._inside(node), self._inside(node), f",{blank}".join(new))
        if edit.at_start:
            return Splice(first.start, first.start, "".join(f"{one},{blank}" for one in new))
        at = node.items[-1].end
        return Splice(at, at, "".join(f",{blank}{one}" for one in new))

    def _json(self, value: Value, indent: str | None, step: str) -> str:
        return render.as_json(value, indent, step).replace("\n", self._newline)

    def _style(self, node: Mapping | SequenceNode, first: Node | None) -> tuple[str, str | None, str]:
        """What stands between two entries, before a line of one, and what a level adds; for all on one line None."""
        if first is None:
            return " ", None, ""
        inside = self._inside(node)
        blank = self._text[inside : first.start]
        if "\n" not in blank or blank.strip():
            return " ", None, ""
        indent = blank.rpartition("\n")[2]
        line = self._text[line_start(self._text, node.start) : node.start]
        outer = line[: len(line) - len(line.lstrip(" \t"))]
        return blank[blank.index("\n") - (blank[: blank.index("\n")].endswith("\r")) :], indent, indent[len(outer) :]

    def _inside(self, node: Mapping | SequenceNode) -> int:
        """Right behind the brace or bracket, which an anchor or a tag may precede."""
        return self._text.index("{" if isinstance(node, Mapping) else "[", node.start) + 1


def _dash_offset(root: Node) -> int:
    """How far items stand to the right of their key: 0 or 2 in most files, as the first list of this one has it."""
    for node in below(root):
        if isinstance(node, Mapping) and not node.is_flow:
            for key, value in node.entries:
                if isinstance(value, SequenceNode) and not value.is_flow and value.anchor is None and value.tag is None:
                    return max(value.column - key.column, 0)
    return 0
