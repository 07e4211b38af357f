"""
Values as JSON on one line, with the tree that `tree.parse` would make of it: for what never was a text. *Pure.*

Only where somebody looks the tree has branches, for an object may have a hundred thousand values; elsewhere a value of
any kind is one scalar.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceLike

import yaml

from sidecar.inject.edits import Path, Value
from sidecar.inject.text.render import as_json
from sidecar.inject.text.tree import Mapping, Node, Scalar, Sequence


def written_out(value: Value, paths: SequenceLike[Path]) -> tuple[str, Node]:
    """
    The text of a value, and its tree as far as these paths lead, with all that stands beside them.

    Args:
        value: As JSON has it; nested so far that the interpreter's stack takes it.
    """
    writer = _Writer()
    root = writer.node(value, paths)
    return "".join(writer.pieces), root


class _Writer:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._at = 0

    def node(self, value: Value, paths: SequenceLike[Path]) -> Node:
        start = self._mark()
        if isinstance(value, dict) and paths:
            mapping = Mapping(yaml.MappingStartEvent(None, None, True, start, start, flow_style=True))
            for index, (key, one) in enumerate(value.items()):
                self._put(", " if index else "{")
                name = self.node(key, ())
                self._put(": ")
                mapping.entries.append((name, self.node(one, _behind(paths, key))))
            self._put("}" if value else "{}")
            return self._ended(mapping)
        if isinstance(value, list) and paths:
            sequence = Sequence(yaml.SequenceStartEvent(None, None, True, start, start, flow_style=True))
            for index, one in enumerate(value):
                self._put(", " if index else "[")
                sequence.items.append(self.node(one, _behind(paths, index)))
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


def _behind(paths: SequenceLike[Path], step: str | int) -> list[Path]:
    """What is left of the paths that lead by this step."""
    return [path[1:] for path in paths if path and path[0] == step]
