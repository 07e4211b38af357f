"""
What is new as text: YAML in blocks, YAML on one line, JSON. *Cold, pure.*

Words stand without quotes only where every reader takes them for words: `yes`, `0x1f`, `12:30` and `1e3` are something
else to one or another of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from sidecar.inject.edits import Value

WIDTH: Final = 110
"""In characters; longer mappings and lists become blocks."""

_STEP: Final = 2
_WORD: Final = re.compile(r"/?[A-Za-z][A-Za-z0-9_./-]*")
_NO_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_FOLDED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


@dataclass(frozen=True, slots=True)
class Over:
    """A mapping that is merged from the one with this anchor, and more entries: `{<<: *anchor, key: value}`."""

    anchor: str
    entries: dict[str, Value]


def block_entry(key: str, value: Value, indent: int, dash: int) -> list[str]:
    """
    A key and its value as lines without their ends.

    Args:
        indent: Column of the key, from 0.
        dash: How far the items of a list stand to the right of its key.
    """
    start = f"{' ' * indent}{scalar(key)}:"
    line = flow(value)
    if _stands_on_one_line(value, len(start) + 1 + len(line)):
        return [f"{start} {line}"]
    if isinstance(value, list):
        return [start, *(line for item in value for line in block_item(item, indent + dash, dash))]
    assert isinstance(value, dict)
    return [start, *(line for name, one in value.items() for line in block_entry(name, one, indent + _STEP, dash))]


def block_item(value: Value, indent: int, dash: int) -> list[str]:
    """An item of a list as lines without their ends; `indent` is the column of its dash."""
    line = flow(value)
    if _stands_on_one_line(value, indent + 2 + len(line)):
        return [f"{' ' * indent}- {line}"]
    if isinstance(value, list):
        lines = [line for item in value for line in block_item(item, indent + _STEP, dash)]
    else:
        assert isinstance(value, dict)
        lines = [line for name, one in value.items() for line in block_entry(name, one, indent + _STEP, dash)]
    return [f"{' ' * indent}- {lines[0].lstrip(' ')}", *lines[1:]]


def _stands_on_one_line(value: Value, width: int) -> bool:
    return width <= WIDTH or not isinstance(value, dict | list) or not value


def flow(value: Value) -> str:
    """A value as YAML on one line."""
    if isinstance(value, Over):
        more = "".join(f", {scalar(key)}: {flow(one)}" for key, one in value.entries.items())
        return f"{{<<: *{value.anchor}{more}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: Value) -> str:
    """A string, number, boolean or None, within a flow or out of one."""
    if isinstance(value, str) and _WORD.fullmatch(value) and value.lower() not in _NO_WORDS:
        return value
    if isinstance(value, str) and value.count('"') > value.count("'") and value.isprintable() and value.isascii():
        return "'" + value.replace("'", "''") + "'"
    return _json(value)


def as_json(value: Value, indent: str | None, step: str) -> str:
    """
    A value as JSON, which within braces and brackets is YAML, too.

    Args:
        indent: What stands before the line on which it begins; None: on one line.
        step: What each level adds.
    """
    if isinstance(value, Over):
        return flow(value)
    if indent is None:
        return _json(value)
    return _json(value, step or 2).replace("\n", "\n" + indent)


def _json(value: Value, indent: str | int | None = None) -> str:
    """JSON that YAML reads the same: some of its characters are line ends there."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _FOLDED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
