"""The values of a compiled file, each with the place in the mesh's files that it comes from. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence
from sidecar.config.yaml.scalars import Spelled
from sidecar.mesh.mesh import Mark


class Value:
    """
    A value of the file.

    Attributes:
        mark: Where it comes from.
        note: What a comment before it says; may be empty.
    """

    __slots__ = ("mark", "note")

    def __init__(self, mark: Mark, note: str = "") -> None:
        self.mark = mark
        self.note = note


class Text(Value):
    """
    A scalar.

    Attributes:
        text: What it says.
        is_spelled: Whether it is a boolean or a number, which is written without quotes.
    """

    __slots__ = ("is_spelled", "text")

    def __init__(self, text: str, mark: Mark, *, is_spelled: bool = False) -> None:
        super().__init__(mark)
        self.text = text
        self.is_spelled = is_spelled


class Items(Value):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, mark: Mark, items: list[Value] | None = None) -> None:
        super().__init__(mark)
        self.items = items if items is not None else []


class Table(Value):
    """A mapping: by key, where the key comes from, and the value."""

    __slots__ = ("entries",)

    def __init__(self, mark: Mark) -> None:
        super().__init__(mark)
        self.entries: dict[str, tuple[Mark, Value]] = {}

    def put(self, key: str, value: Value, mark: Mark | None = None) -> None:
        """Set a key; its own place is the value's where it has none."""
        self.entries[key] = (mark if mark is not None else value.mark, value)

    def say(self, key: str, text: str, mark: Mark) -> None:
        """Set a key to a word that is no boolean and no number by itself."""
        self.put(key, Text(text, mark))


def copied(node: Node, file: str) -> Value:
    """A part of a mesh's file as it is."""
    mark = Mark(file, node.line, node.column)
    if isinstance(node, Mapping):
        table = Table(mark)
        for key, (key_node, value) in node.entries.items():
            table.put(key, copied(value, file), Mark(file, key_node.line, key_node.column))
        return table
    if isinstance(node, Sequence):
        return Items(mark, [copied(item, file) for item in node.items])
    assert isinstance(node, Scalar)
    return Text(node.text, mark, is_spelled=isinstance(node.value, Spelled))


def canonical(value: Value) -> object:
    """The values without places and comments, as `mesh.canonical` has them of the mesh's own files."""
    if isinstance(value, Table):
        return {key: canonical(below) for key, (_, below) in value.entries.items()}
    if isinstance(value, Items):
        return [canonical(item) for item in value.items]
    assert isinstance(value, Text)
    return [None, value.text] if value.is_spelled else value.text


def below(value: Value) -> Iterator[Value]:
    """A value and all values in it."""
    yield value
    if isinstance(value, Table):
        for _, inner in value.entries.values():
            yield from below(inner)
    elif isinstance(value, Items):
        for inner in value.items:
            yield from below(inner)
