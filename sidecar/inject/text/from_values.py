"""Values as JSON on one line, with the tree that `tree.parse` would make of it: for what never was a text. *Pure.*"""

from __future__ import annotations

import yaml

from sidecar.inject.edits import Value
from sidecar.inject.text.render import as_json
from sidecar.inject.text.tree import Mapping, Node, Scalar, Sequence


def written_out(value: Value) -> tuple[str, Node]:
    """
    The text of a value, and its tree.

    Args:
        value: As JSON has it; nested so far that the interpreter's stack takes it.
    """
    writer = _Writer()
    root = writer.node(value)
    return "".join(writer.pieces), root


class _Writer:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._at = 0

    def node(self, value: Value) -> Node:
        start = self._mark()
        if isinstance(value, dict):
            mapping = Mapping(yaml.MappingStartEvent(None, None, True, start, start, flow_style=True))
            for index, (key, one) in enumerate(value.items()):
                self._put(", " if index else "{")
                name = self.node(key)
                self._put(": ")
                mapping.entries.append((name, self.node(one)))
            self._put("}" if value else "{}")
            return self._ended(mapping)
        if isinstance(value, list):
            sequence = Sequence(yaml.SequenceStartEvent(None, None, True, start, start, flow_style=True))
            for index, one in enumerate(value):
                self._put(", " if index else "[")
                sequence.items.append(self.node(one))
            self._put("]" if value else "[]")
            return self._ended(sequence)
        written = as_json(value, None, "")
        is_word = isinstance(value, str)
        text = value if isinstance(value, str) else written
        scalar = Scalar(yaml.ScalarEvent(None, None, (not is_word, is_word), text, start, start))
        self._put(written)
        return self._ended(scalar)

    def _put(self, piece: str) -> None:
        self.pieces.append(piece)
        self._at += len(piece)

    def _ended(self, node: Node) -> Node:
        node.end = self._at
        return node

    def _mark(self) -> yaml.Mark:
        return yaml.Mark("", self._at, 0, self._at, None, 0)
