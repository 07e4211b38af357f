"""
A mesh's file with names added to a list or a mapping in it, all else as its authors wrote it. *Cold, pure.*

Text goes in at PyYAML's marks: comments, order, quotes and every untouched line stay as they are. Whether the result
says what was meant is for the caller to see: he reads it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import yaml

from sidecar.mesh.compile.write import word

_WIDTH: Final = 110
_AFTER: Final = ("service", "hosts", "app", "ports", "callers")
"""Behind the last of these a new key is put: what says who a service is, before what it does."""


def with_names(text: str, at: Sequence[str], key: str, names: Sequence[str], *, is_table: bool) -> str:
    """
    Add names to the list, or to the mapping, that a key of a mapping has; the key, too, if it is not there.

    Args:
        text: YAML, as the file has it.
        at: Keys from the root to the mapping.
        names: At least one; none is there yet.
        is_table: Whether they become keys, of empty mappings, instead of items.

    Raises:
        ValueError: There is no mapping at that place, or what the key has is not of this kind.
    """
    node = _mapping(yaml.compose(text, Loader=yaml.CSafeLoader))
    for step in at:
        node = _mapping(_entries(node).get(step))
    newline = "\r\n" if "\r\n" in text else "\n"
    value = _entries(node).get(key)
    if value is None:
        return _with_key(text, node, key, names, is_table, newline)
    if is_table:
        return _grown(text, _mapping(value), [f"{word(name, in_flow=True)}: {{}}" for name in names], "{}", newline)
    items = [word(name, in_flow=True) for name in names]
    if isinstance(value, yaml.ScalarNode):
        start, end = value.start_mark.index, value.end_mark.index
        return f"{text[:start]}[{', '.join([text[start:end], *items])}]{text[end:]}"
    if not isinstance(value, yaml.SequenceNode):
        raise ValueError(f"{key}: neither a name nor a list")
    return _grown(text, value, items, "[]", newline)


def _mapping(node: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("no mapping")
    return node


def _entries(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value}


def _grown(text: str, node: yaml.CollectionNode, added: list[str], brackets: str, newline: str) -> str:
    """More items, in the style that is there."""
    if not node.value:
        start, end = node.start_mark.index, node.end_mark.index
        return f"{text[:start]}{brackets[0]}{', '.join(added)}{brackets[1]}{text[end:]}"
    if node.flow_style:
        end = _end(node.value[-1])
        return f"{text[:end]}, {', '.join(added)}{text[end:]}"
    lead = " " * node.start_mark.column + ("- " if isinstance(node, yaml.SequenceNode) else "")
    return _with_lines(text, _end(node.value[-1]), [lead + one for one in added], newline)


def _with_key(text: str, node: yaml.MappingNode, key: str, names: Sequence[str], is_table: bool, newline: str) -> str:
    listed = [f"{word(name, in_flow=True)}: {{}}" if is_table else word(name, in_flow=True) for name in names]
    flow = f"{key}: {{{', '.join(listed)}}}" if is_table else f"{key}: [{', '.join(listed)}]"
    if node.flow_style:
        return _grown(text, node, [flow], "{}", newline)
    indent = " " * node.start_mark.column
    lines = [indent + flow]
    if len(lines[0]) > _WIDTH:
        lines = [f"{indent}{key}:", *(f"{indent}  {'' if is_table else '- '}{one}" for one in listed)]
    anchors = [pair for pair in node.value if pair[0].value in _AFTER]
    if anchors:
        return _with_lines(text, _end(anchors[-1]), lines, newline)
    start = node.start_mark.index - node.start_mark.column
    return text[:start] + "".join(line + newline for line in lines) + text[start:]


def _end(node: yaml.Node | tuple[yaml.Node, yaml.Node]) -> int:
    """Where what is written of a node, or of a key and its value, ends: a block ends where its last scalar does."""
    if isinstance(node, tuple):
        return _end(node[1])
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    index: int = node.end_mark.index
    return index


def _with_lines(text: str, end: int, lines: list[str], newline: str) -> str:
    """Lines below the one in which something ends, behind its comment."""
    if end and text[end - 1] == "\n":  # of `|` and `>`, which end with their last line
        return text[:end] + "".join(line + newline for line in lines) + text[end:]
    stop = text.find("\n", end)
    if stop < 0:
        return text + newline + newline.join(lines)
    return text[: stop + 1] + "".join(line + newline for line in lines) + text[stop + 1 :]
