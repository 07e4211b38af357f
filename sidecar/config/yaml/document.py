"""
YAML text as a tree in which every key and value knows its line and column. *Cold, pure.*

Built from the events of PyYAML's C parser, whose resolver and constructor (YAML 1.1) are not used. Refused, because
each hides a surprise: duplicate keys, keys that are not scalars, merge keys (`<<`, which YAML 1.2 does not have), tags
other than `!!str`, a second document, aliases that contain themselves or grow beyond a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingLike
from dataclasses import replace
from typing import Final

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.yaml.environment import Environment, NoVariables, SubstitutionError
from sidecar.config.yaml.scalars import Spelled, resolve_plain
from sidecar.config.yaml.secret_files import SecretFiles

MAX_DEPTH: Final = 64
"""Nested mappings and lists; the language itself needs 9."""
MAX_NODES: Final = 1_000_000
"""Keys, values and containers; a file of 10,000 routes has about 200,000."""
MAX_ALIASED_NODES: Final = 100_000
"""What aliases may add to a file, against the thousand million laughs that nine lines can hold."""

# YAML 1.2, production 1, c-printable, without the byte order mark that may only come first.
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Node:
    """
    A value and where it starts.

    Attributes:
        line: From 1; 0 where no file says it.
        column: From 1.
        file: Name of the file, as problems show it.
        size: Nodes below and including this one, aliases expanded.
    """

    __slots__ = ("column", "file", "line", "size")

    def __init__(self, line: int, column: int, file: str = "") -> None:
        self.line = line
        self.column = column
        self.file = file
        self.size = 1


class Scalar(Node):
    """
    A scalar.

    Attributes:
        text: As written, variables replaced.
        value: The same by the core schema.
        written: As written, if it has variables; else None.
    """

    __slots__ = ("text", "value", "written")

    def __init__(self, line: int, column: int, text: str, value: str | Spelled | None, file: str = "") -> None:
        super().__init__(line, column, file)
        self.text = text
        self.value = value
        self.written: str | None = None


class Sequence(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, line: int, column: int, file: str = "") -> None:
        super().__init__(line, column, file)
        self.items: list[Node] = []


class Mapping(Node):
    """A mapping: by the text of its keys, the key and the value."""

    __slots__ = ("entries", "key")

    def __init__(self, line: int, column: int, file: str = "") -> None:
        super().__init__(line, column, file)
        self.entries: dict[str, tuple[Scalar, Node]] = {}
        self.key: Scalar | None = None
        """The key whose value is awaited while the mapping is being built."""


def parse(
    text: str, filename: str, env: MappingLike[str, str], files: SecretFiles | None = None
) -> tuple[Node | None, list[Problem]]:
    """
    Parse one YAML document.

    Args:
        text: Without a byte order mark.
        filename: For the problems.
        env: Variables for `${NAME}`.
        files: Reads and remembers those of `${file:...}`.

    Returns:
        The root (None for a file without content) and the problems that still allow to look at the rest.

    Raises:
        ConfigError: The text is not YAML, or goes beyond a limit; nothing more can be said about it.
    """
    return _parsed(text, filename, Environment(env, files))


def parse_without_variables(text: str, filename: str) -> tuple[Node | None, list[Problem]]:
    """As `parse`, for a file that must mean the same wherever it is read: a variable in it is a problem."""
    return _parsed(text, filename, NoVariables())


def _parsed(text: str, filename: str, environment: Environment | NoVariables) -> tuple[Node | None, list[Problem]]:
    builder = Builder(filename, environment)
    feed(builder, text, filename)
    return builder.root, builder.problems


def feed(builder: Builder, text: str, filename: str) -> None:
    """
    Give a builder what a text says.

    Raises:
        ConfigError: The text is not YAML, or goes beyond a limit; nothing more can be said about it.
    """
    refuse_unprintable(text, filename)
    parser = CParser(text)
    try:
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except yaml.YAMLError as error:
        raise ConfigError([*builder.problems, syntax_problem(error, text, filename)]) from None
    finally:
        parser.dispose()


def refuse_unprintable(text: str, filename: str) -> None:
    """
    Let only characters pass that YAML allows.

    Raises:
        ConfigError: One of them is not, and where.
    """
    found = _UNPRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        what = f"found the character U+{ord(found[0]):04X}, which YAML does not allow"
        raise ConfigError([Problem(filename, line, column, "", what, "write it as an escape in double quotes")])


def plain(node: Node) -> object:
    """The tree as dicts, lists, strings, `Spelled` and None: what the models are validated from."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.value


class Builder:
    """Makes the tree from parser events, without recursion, so that depth is a number and not a crash."""

    def __init__(self, filename: str, environment: Environment | NoVariables) -> None:
        self.root: Node | None = None
        self._findings: list[tuple[Problem, Node | None]] = []
        self._filename = filename
        self._environment = environment
        self._open: list[Sequence | Mapping] = []
        self._open_anchors: list[str | None] = []
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0
        self._aliased_nodes = 0
        self._documents = 0

    @property
    def roots(self) -> list[Node]:
        """Of the documents that were read."""
        return [] if self.root is None else [self.root]

    @property
    def problems(self) -> list[Problem]:
        """What was found, each with the path of its key or value where the tree has it."""
        roots = self.roots
        if not self._findings or not roots:
            return [problem for problem, _ in self._findings]
        paths = {id(node): "" for _, node in self._findings if node is not None}
        for root in roots:
            _fill_paths(root, "", paths)
        return [replace(problem, path=paths.get(id(node), "")) for problem, node in self._findings]

    def take(self, event: yaml.Event) -> None:
        """Add what one event says."""
        if isinstance(event, yaml.ScalarEvent):
            self._on_scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._on_start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._on_end()
        elif isinstance(event, yaml.AliasEvent):
            self._on_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents == 2:
                raise self._fatal(event, "found a second document", "keep one document a file: remove this `---`")

    def _on_scalar(self, event: yaml.ScalarEvent) -> None:
        self._count(event)
        line, column = _position(event)
        text = event.value
        is_plain = bool(event.implicit[0])
        node = Scalar(line, column, text, text, self._filename)
        if event.tag is not None:
            self._check_tag(event, event.tag, node)
            is_plain = False
        if self._is_key_next():
            if text == "<<" and is_plain:
                hint = "repeat the keys; YAML 1.2 has no merge keys"
                self._problem(event, "merge keys (`<<`) are not read", hint, node)
            elif "${" in text:
                self._problem(event, "found a variable in a key", "variables are replaced in values only", node)
        else:
            self._evaluate(event, node, is_plain)
        done = self._finished(node)
        self._anchor(event.anchor, done)
        self._add(event, done)

    def _evaluate(self, event: yaml.ScalarEvent, node: Scalar, is_plain: bool) -> None:
        if "${" in node.text:
            if "${" in node.text.replace("$${", ""):
                node.written = node.text
            try:
                node.text = self._environment.substitute(node.text)
            except SubstitutionError as error:
                self._problem(event, error.message, error.hint, node)
                node.value = None  # one problem a value is enough: `${PORT}` is not judged as a number, too
                return
        node.value = resolve_plain(node.text) if is_plain else node.text
        if node.value is None:
            found = f"nothing (`{node.written or node.text}`)" if node.text else "nothing"
            self._problem(event, f"expected a value, found {found}", _NULL_HINT, node)

    def _on_start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._count(event)
        if len(self._open) >= MAX_DEPTH:
            raise self._fatal(event, f"found more than {MAX_DEPTH} nested mappings and lists", "flatten the file")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = (Mapping if is_mapping else Sequence)(*_position(event), self._filename)
        if event.tag is not None:
            self._check_tag(event, event.tag, node)
        if self._is_key_next():
            raise self._fatal(event, f"expected a word as key, found {describe(node)}", "keys are plain words")
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # open: an alias to it would contain itself
        self._open.append(node)
        self._open_anchors.append(event.anchor)

    def _on_end(self) -> None:
        node = self._open.pop()
        if isinstance(node, Mapping):
            node.size += sum(value.size + 1 for _, value in node.entries.values())
        else:
            node.size += sum(item.size for item in node.items)
        anchor = self._open_anchors.pop()
        done = self._finished(node)
        if anchor is not None:
            self._anchors[anchor] = done
        self._add(None, done)

    def _finished(self, node: Node) -> Node:
        """What stands in the tree for a node that is complete."""
        return node

    def _on_alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise self._fatal(event, f"found the alias `*{event.anchor}` of an anchor that does not exist", "")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._fatal(event, f"found the alias `*{event.anchor}` inside of its own anchor", "")
        self._aliased_nodes += node.size
        if self._aliased_nodes > MAX_ALIASED_NODES:
            message = f"found aliases that expand to more than {MAX_ALIASED_NODES:,} values"
            raise self._fatal(event, message, "write the values out, or share less")
        if self._is_key_next() and not isinstance(node, Scalar):
            raise self._fatal(event, f"expected a word as key, found {describe(node)}", "keys are plain words")
        self._add(event, node)

    def _add(self, event: yaml.Event | None, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif parent.key is None:
            assert isinstance(node, Scalar)
            parent.key = node
        else:
            key, parent.key = parent.key, None
            if key.text in parent.entries:
                first = parent.entries[key.text][0]
                message = f"found the key `{key.text}` a second time, first on line {first.line}"
                problem = Problem(self._filename, key.line, key.column, "", message, "remove one of the two")
                self._findings.append((problem, first))
            else:
                parent.entries[key.text] = (key, node)

    def _is_key_next(self) -> bool:
        parent = self._open[-1] if self._open else None
        return isinstance(parent, Mapping) and parent.key is None

    def _anchor(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _check_tag(self, event: yaml.Event, tag: str, node: Node) -> None:
        if not (isinstance(node, Scalar) and tag in ("!", "tag:yaml.org,2002:str")):
            self._problem(event, f"found the tag `{tag}`", "tags are not read: remove it", node)

    def _count(self, event: yaml.Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._fatal(event, f"found more than {MAX_NODES:,} keys and values", "make the file smaller")

    def _problem(self, event: yaml.Event, message: str, hint: str, node: Node | None = None) -> None:
        problem = Problem(self._filename, *_position(event), "", message, hint)
        self._findings.append((problem, node))

    def _fatal(self, event: yaml.Event, message: str, hint: str) -> ConfigError:
        self._problem(event, message, hint)
        return ConfigError(self.problems)


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None  # libyaml gives every event one
    return mark.line + 1, mark.column + 1


def join_path(path: str, key: str) -> str:
    """`outbound` and `routes` make `outbound.routes`; keys that are not plain words are quoted."""
    if _PLAIN_KEY.fullmatch(key) is None:
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


def _fill_paths(node: Node, path: str, paths: dict[int, str]) -> None:
    """Write the path of each node whose id is in `paths`; its first place, if aliases give it several."""
    if id(node) in paths and not paths[id(node)]:
        paths[id(node)] = path
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            _fill_paths(item, f"{path}[{index}]", paths)
    elif isinstance(node, Mapping):
        for key, (key_node, value) in node.entries.items():
            below = join_path(path, key)
            if id(key_node) in paths and not paths[id(key_node)]:
                paths[id(key_node)] = below
            _fill_paths(value, below, paths)


_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NULL_HINT: Final = 'give it a value, or remove it; an empty string is `""`, an empty list `[]`'


def describe(node: Node) -> str:
    """What was found, for a problem: `a mapping`, `a list`, or the scalar quoted and shortened."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    assert isinstance(node, Scalar)
    if node.value is None:
        return "nothing"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "..."
    quoted = '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'
    return text if isinstance(node.value, Spelled) else quoted.replace("\\\\", "\\")


def syntax_problem(error: yaml.YAMLError, text: str, filename: str) -> Problem:
    """What libyaml says, at the place where it says it."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a ReaderError, which the check for unprintable characters should have made impossible
        return Problem(filename, 1, 1, "", f"not YAML: {_one_line(error)}")
    said = getattr(error, "problem", None) or _one_line(error)
    context = getattr(error, "context", None)
    message = f"not YAML: {said}" + (f" ({context})" if context else "")
    lines = text.split("\n", mark.line + 1)
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = ""
    if "\t" in line[: mark.column + 1]:
        hint = "indent with spaces, not with tabs"
    elif "${" in line and ("{" in line.replace("${", "") or "[" in line):
        hint = "inside of { } and [ ] a `${NAME}` needs quotes"
    elif "could not find expected ':'" in said or "mapping values are not allowed" in said:
        hint = "check the indentation and the colons of this line and the one before"
    return Problem(filename, mark.line + 1, mark.column + 1, "", message, hint)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
