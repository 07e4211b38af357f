"""
A compiled file as YAML for people: blocks, short values on one line, comments before their subject. *Cold, pure.*

What is written is read again by `config.yaml`, which has the same values (a property test holds the two together).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sidecar.config.yaml.document import join_path
from sidecar.config.yaml.scalars import resolve_plain
from sidecar.mesh.compile.tree import Items, Table, Text, Value, below
from sidecar.mesh.mesh import Mark

WIDTH: Final = 110
"""In characters; longer mappings and lists become blocks."""

_STEP: Final = 2
# Characters that YAML gives no meaning inside of a plain scalar, in a flow or out of one.
_WORD: Final = r"[A-Za-z0-9_./%+@^=~-]+"
_PLAIN: Final = re.compile(rf"[A-Za-z0-9_/](?:{_WORD})?(?: {_WORD})*")
# A colon in it, too: only outside of { } and [ ], where libyaml reads some of them as the end of a key.
_PLAIN_IN_BLOCK: Final = re.compile(rf"[A-Za-z0-9_/](?:{_WORD})?(?:[ :]{_WORD})*")


class Written:
    """
    Where each value of the text comes from.

    Attributes:
        places: By path: line and column of the key and of the value in the text, and where each comes from. The path is
            that of problems.
    """

    def __init__(self) -> None:
        self.places: dict[str, list[tuple[int, int, Mark]]] = {}

    def add(self, path: str, line: int, column: int, mark: Mark) -> None:
        """Note a key, an item or a value."""
        self.places.setdefault(path, []).append((line, column, mark))


def write(root: Table, title: str, written: Written | None = None) -> str:
    """
    The text of a file.

    Args:
        title: Its first comment.
        written: Takes the places, for `translate`; without it none are kept.
    """
    writer = _Writer(written)
    writer.line(0, f"# {title}")
    writer.table(root, 0, "")
    return "\n".join(writer.lines) + "\n"


class _Writer:
    def __init__(self, written: Written | None) -> None:
        self.lines: list[str] = []
        self._written = written

    def line(self, indent: int, text: str) -> None:
        self.lines.append(" " * indent + text)

    def _note(self, path: str, column: int, mark: Mark) -> None:
        """The next line's column `column` (from 0) is this."""
        if self._written is not None:
            self._written.add(path, len(self.lines) + 1, column + 1, mark)

    def table(self, table: Table, indent: int, path: str, lead: str = "") -> None:
        """
        Write a mapping as a block.

        Args:
            lead: What stands before its first key instead of blanks: `- `.
        """
        for key, (key_mark, value) in table.entries.items():
            if value.note:
                self.line(indent, f"# {value.note}")
            prefix, lead = " " * (indent - len(lead)) + lead, ""
            here = join_path(path, key)
            self._note(here, indent, key_mark)
            self._entry(prefix + _scalar(key, in_flow=False) + ":", value, indent, here)

    def _entry(self, start: str, value: Value, indent: int, path: str) -> None:
        """Write what follows a key: on its line if it fits, else below."""
        flow = _flow(value, WIDTH - len(start) - 1)
        if flow is not None:
            self._note_flow(value, len(start) + 1, path)
            self.lines.append(f"{start} {flow}")
            return
        self.lines.append(start)
        self._note(path, indent + _STEP, value.mark)
        if isinstance(value, Table):
            self.table(value, indent + _STEP, path)
        else:
            assert isinstance(value, Items)
            self._items(value, indent + _STEP, path)

    def _items(self, items: Items, indent: int, path: str) -> None:
        for index, item in enumerate(items.items):
            if item.note:
                self.line(indent, f"# {item.note}")
            here = f"{path}[{index}]"
            flow = _flow(item, WIDTH - indent - 2)
            if flow is not None:
                self._note_flow(item, indent + 2, here)
                self.line(indent, f"- {flow}")
            elif isinstance(item, Table):
                self._note(here, indent + 2, item.mark)
                self.table(item, indent + 2, here, "- ")
            else:
                assert isinstance(item, Items)
                self.line(indent, "-")
                self._note(here, indent + _STEP, item.mark)
                self._items(item, indent + _STEP, here)

    def _note_flow(self, value: Value, column: int, path: str) -> None:
        """Note every value of what is written on one line from `column` on (from 0)."""
        if self._written is None:
            return
        self._note(path, column, value.mark)
        if isinstance(value, Table):
            at = column + 1
            for key, (key_mark, inner) in value.entries.items():
                here = join_path(path, key)
                self._note(here, at, key_mark)
                at += len(_scalar(key, in_flow=True)) + 2
                self._note_flow(inner, at, here)
                at += len(_flowed(inner)) + 2
        elif isinstance(value, Items):
            at = column + 1
            for index, item in enumerate(value.items):
                self._note_flow(item, at, f"{path}[{index}]")
                at += len(_flowed(item)) + 2


def _flow(value: Value, width: int) -> str | None:
    """The value on one line, or None if it does not fit or has comments in it; scalars always do."""
    if isinstance(value, Text):
        return _scalar(value.text, in_flow=False, is_spelled=value.is_spelled)
    if any(inner is not value and inner.note for inner in below(value)):
        return None
    flow = _flowed(value)
    is_empty = flow in ("{}", "[]")
    return flow if len(flow) <= width or is_empty else None


def _flowed(value: Value) -> str:
    if isinstance(value, Table):
        parts = (f"{_scalar(key, in_flow=True)}: {_flowed(inner)}" for key, (_, inner) in value.entries.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, Items):
        return "[" + ", ".join(_flowed(item) for item in value.items) + "]"
    assert isinstance(value, Text)
    return _scalar(value.text, in_flow=True, is_spelled=value.is_spelled)


def _scalar(text: str, *, in_flow: bool, is_spelled: bool = False) -> str:
    """A scalar that is read as this text again, and as a word unless `is_spelled`."""
    return text if is_spelled else word(text, in_flow)


@lru_cache(maxsize=4096)
def word(text: str, in_flow: bool) -> str:
    """
    A word as YAML that is read as this word again, in quotes where it must be.

    The same ones come in many files, and several times in each.

    Args:
        in_flow: Whether it stands within `{ }` or `[ ]`.
    """
    is_plain = _PLAIN.fullmatch(text) or (not in_flow and _PLAIN_IN_BLOCK.fullmatch(text))
    if is_plain and type(resolve_plain(text)) is str:
        return text
    return '"' + "".join(map(_escaped, text.replace("${", "$${"))) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
