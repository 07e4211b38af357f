"""
Other people's YAML and JSON as trees that know where each part is written. *Cold, pure.*

`config.yaml` reads our own language and refuses what hides a surprise in it. Here nothing of the author's may be lost:
several documents, merge keys, tags, anchors and aliases are kept as they stand, with the offset of their first
character and the one after their last. Refused are keys that come twice, for readers differ in which one they take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.yaml.document import MAX_ALIASED_NODES, MAX_NODES, refuse_unprintable, syntax_problem

MAX_DEPTH: Final = 200
"""Nested mappings and lists: definitions of resources describe schemas in schemas, some forty deep."""

MERGE: Final = "<<"
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_RENDER: Final = "this is a template: render it first, with `helm template` for example, and give what comes out"


class Node:
    """
    Attributes:
        start: Offset of its first character, that of its anchor or tag if it has one.
        end: Offset behind its last; of a block that of its last part, so neither comments nor blanks behind it.
        tag: As written, or None.
        anchor: Its name, or None.
        size: Nodes below and including this one, aliases expanded.
    """

    __slots__ = ("anchor", "column", "end", "line", "size", "start", "tag")

    def __init__(self, event: yaml.Event) -> None:
        first, last = event.start_mark, event.end_mark
        assert first is not None  # libyaml gives every event both
        assert last is not None
        self.start: int = first.index
        self.end: int = last.index
        self.line: int = first.line + 1
        self.column: int = first.column + 1
        self.tag: str | None = getattr(event, "tag", None)
        self.anchor: str | None = getattr(event, "anchor", None)
        self.size = 1


class Scalar(Node):
    """A scalar: its text, and whether it stands without quotes."""

    __slots__ = ("is_plain", "text")

    def __init__(self, event: yaml.ScalarEvent) -> None:
        super().__init__(event)
        self.text: str = event.value
        self.is_plain = bool(event.implicit[0])


class Sequence(Node):
    """A list, and whether it stands in brackets."""

    __slots__ = ("is_flow", "items")

    def __init__(self, event: yaml.SequenceStartEvent) -> None:
        super().__init__(event)
        self.items: list[Node] = []
        self.is_flow = bool(event.flow_style)


class Mapping(Node):
    """A mapping, and whether it stands in braces."""

    __slots__ = ("awaiting", "entries", "is_flow")

    def __init__(self, event: yaml.MappingStartEvent) -> None:
        super().__init__(event)
        self.entries: list[tuple[Node, Node]] = []
        self.is_flow = bool(event.flow_style)
        self.awaiting: Node | None = None
        """The key whose value is awaited while the mapping is being built."""

    def entry(self, key: str) -> tuple[Node, Node] | None:
        """The key with this text and its value, of its own, not of what is merged into it."""
        return next((entry for entry in self.entries if word_of(entry[0]) == key), None)

    def get(self, key: str) -> Node | None:
        """The value of this key, as `entry`."""
        entry = self.entry(key)
        return entry[1] if entry else None


class Alias(Node):
    """An alias, and what it stands for."""

    __slots__ = ("name", "target")

    def __init__(self, event: yaml.AliasEvent, target: Node) -> None:
        super().__init__(event)
        assert event.anchor is not None
        self.name: str = event.anchor
        self.target = target
        self.anchor = None
        self.size = target.size


class Document:
    """
    One of a file's documents.

    Attributes:
        root: None if there is nothing in it but comments.
        start, end: Offsets between which it stands, `---` and `...` included.
    """

    __slots__ = ("end", "root", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.root: Node | None = None


def parse(text: str, filename: str) -> list[Document]:
    """
    The documents of a file, in order.

    Args:
        text: Without a byte order mark.
        filename: For the problems.

    Raises:
        ConfigError: It is not YAML, a key comes twice, or it goes beyond a limit.
    """
    refuse_unprintable(text, filename)
    builder = _Builder(filename)
    parser = CParser(text)
    try:
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except yaml.YAMLError as error:
        problem = syntax_problem(error, text, filename)
        if _TEMPLATE.search(text):
            problem = Problem(filename, problem.line, problem.column, "", problem.message, _RENDER)
        raise ConfigError([problem]) from None
    finally:
        parser.dispose()
    if builder.problems:
        raise ConfigError(builder.problems)
    return builder.documents


def word_of(node: Node) -> str | None:
    """The text of a scalar, by an alias, too; None of anything else."""
    node = target_of(node)
    return node.text if isinstance(node, Scalar) else None


def target_of(node: Node) -> Node:
    """What an alias stands for; any other node itself."""
    return node.target if isinstance(node, Alias) else node


def below(node: Node) -> Iterator[Node]:
    """Every node that is written below this one and itself; what aliases stand for is left out."""
    to_do = [node]
    while to_do:
        one = to_do.pop()
        yield one
        if isinstance(one, Sequence):
            to_do += reversed(one.items)
        elif isinstance(one, Mapping):
            for key, value in reversed(one.entries):
                to_do += (value, key)


class _Builder:
    """Makes trees from the parser's events, without recursion, so that depth is a number and not a crash."""

    def __init__(self, filename: str) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._filename = filename
        self._open: list[Sequence | Mapping] = []
        self._keys: list[dict[str, Node]] = []
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0
        self._aliased_nodes = 0

    def take(self, event: yaml.Event) -> None:
        """Add what one event says."""
        if isinstance(event, yaml.ScalarEvent):
            self._count(event)
            node = Scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = node
            self._add(node)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._on_start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._on_end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._on_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            assert event.start_mark is not None
            self._anchors = {}
            self.documents.append(Document(event.start_mark.index))
        elif isinstance(event, yaml.DocumentEndEvent):
            assert event.end_mark is not None
            self.documents[-1].end = event.end_mark.index

    def _on_start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._count(event)
        node = Mapping(event) if isinstance(event, yaml.MappingStartEvent) else Sequence(event)
        if len(self._open) >= MAX_DEPTH:
            raise self._fatal(node, f"found more than {MAX_DEPTH} nested mappings and lists", "flatten the file")
        if node.anchor is not None:
            self._anchors[node.anchor] = None  # open: an alias to it would contain itself
        self._open.append(node)
        self._keys.append({})

    def _on_end(self, event: yaml.MappingEndEvent | yaml.SequenceEndEvent) -> None:
        node = self._open.pop()
        self._keys.pop()
        if isinstance(node, Mapping):
            node.size += sum(key.size + value.size for key, value in node.entries)
            last = node.entries[-1][1] if node.entries else None
        else:
            node.size += sum(item.size for item in node.items)
            last = node.items[-1] if node.items else None
        if node.is_flow:
            assert event.end_mark is not None
            node.end = event.end_mark.index
        elif last is not None:
            node.end = last.end
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        self._add(node)

    def _on_alias(self, event: yaml.AliasEvent) -> None:
        self._count(event)
        assert event.anchor is not None
        target = self._anchors.get(event.anchor)
        if target is None:
            where = "inside of its own anchor" if event.anchor in self._anchors else "of an anchor that does not exist"
            raise self._fatal(Node(event), f"found the alias `*{event.anchor}` {where}", "")
        self._aliased_nodes += target.size
        if self._aliased_nodes > MAX_ALIASED_NODES:
            message = f"found aliases that expand to more than {MAX_ALIASED_NODES:,} values"
            raise self._fatal(Node(event), message, "write the values out, or share less")
        self._add(Alias(event, target))

    def _add(self, node: Node) -> None:
        if not self._open:
            # What stands for nothing is where a document is comments alone.
            is_nothing = isinstance(node, Scalar) and node.is_plain and node.start == node.end
            self.documents[-1].root = None if is_nothing else node
            return
        parent = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif parent.awaiting is None:
            self._judge_key(node)
            parent.awaiting = node
        else:
            parent.entries.append((parent.awaiting, node))
            parent.awaiting = None

    def _judge_key(self, node: Node) -> None:
        word = word_of(node)
        if word is None:
            inner = target_of(node)
            if isinstance(inner, Mapping) and inner.is_flow:  # `{{ .Values.name }}` is a mapping as key of a mapping
                self._problem(node, "expected a word as key, found a mapping", _RENDER)
            return
        if word == MERGE:
            return  # several are read one after the other
        first = self._keys[-1].setdefault(word, node)
        if first is not node:
            message = f"found the key `{word}` a second time, first on line {first.line}"
            self._problem(node, message, "remove one of the two: readers differ in which one they take")

    def _count(self, event: yaml.Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._fatal(Node(event), f"found more than {MAX_NODES:,} keys and values", "make the file smaller")

    def _problem(self, node: Node, message: str, hint: str) -> None:
        self.problems.append(Problem(self._filename, node.line, node.column, "", message, hint))

    def _fatal(self, node: Node, message: str, hint: str) -> ConfigError:
        self._problem(node, message, hint)
        return ConfigError(self.problems)
