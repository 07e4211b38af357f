"""Where in a text lines begin and end, and where something new can stand among them. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.inject.text.settle import TextError
from sidecar.inject.text.tree import Mapping, Node, Scalar, Sequence, word_of

_COMMENT: Final = re.compile(r"[ \t]*#[^\n]*")
_BETWEEN: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PROPERTY: Final = re.compile(r"[&!][^ \t\r\n]*")
_UNUSUAL: Final = "write this part in the usual style: `key: value` below each other, each on a line of its own"


def line_start(text: str, at: int) -> int:
    """Where the line of this offset begins."""
    return text.rfind("\n", 0, at) + 1


def line_end(text: str, at: int) -> int:
    """Where the line after that of this offset begins, or the text ends."""
    found = text.find("\n", at)
    return found + 1 if found >= 0 else len(text)


def written_end(text: str, node: Node) -> int:
    """Where a node ends, without the line ends that belong to the last line of a `|` or `>`."""
    return node.start + len(text[node.start : node.end].rstrip("\r\n"))


def behind(text: str, node: Node) -> int:
    """Where the line after the last one of a block begins."""
    if node.end and text[node.end - 1] == "\n":  # of `|` and `>`, which end with their last line
        return node.end
    return line_end(text, node.end)


def is_first_on_line(text: str, at: int) -> bool:
    """Whether only blanks stand before it."""
    return not text[line_start(text, at) : at].strip(" ")


def above_comments(text: str, at: int, floor: int) -> int:
    """The beginning of the line of `at`, or of the comments that stand right above it, but not above `floor`."""
    found = line_start(text, at)
    while found > floor:
        before = line_start(text, found - 1)
        if before < floor or not _COMMENT.fullmatch(text[before : found - 1]):
            break
        found = before
    return found


def dash_of(text: str, node: Sequence, index: int) -> int:
    """The offset of an item's dash, of a list in a block."""
    if index:
        at = node.items[index - 1].end
    else:
        at = node.start
        while found := _PROPERTY.match(text, at):  # an anchor, a tag
            at = _between(text, found.end())
    at = _between(text, at)
    if not text.startswith("-", at):
        raise TextError(node, "cannot see where an item of this list begins", _UNUSUAL)
    return at


def _between(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    assert found is not None
    return found.end()


def refuse_unusual(node: Node) -> TextError:
    """Nothing new can stand here."""
    return TextError(node, "cannot add anything here without changing what is written", _UNUSUAL)


def ends_without_line(text: str, node: Node) -> bool:
    """Whether it is a `|` or `>` at the very end, whose value another line would change."""
    last = node
    while isinstance(last, Mapping | Sequence) and not last.is_flow:
        last = last.entries[-1][1] if isinstance(last, Mapping) else last.items[-1]
    is_block = isinstance(last, Scalar) and text[last.start : last.start + 1] in ("|", ">") and not last.is_plain
    return is_block and not text[: last.end].endswith("\n")


def gone(text: str, node: Mapping, key: str) -> tuple[int, int]:
    """From where to where a key is written that goes: whole lines, or with the comma beside it."""
    index = next(index for index, (one, _) in enumerate(node.entries) if word_of(one) == key)
    first, value = node.entries[index]
    if not node.is_flow:
        if not is_first_on_line(text, first.start):
            raise refuse_unusual(first)
        return line_start(text, first.start), behind(text, value)
    if index + 1 < len(node.entries):
        return first.start, node.entries[index + 1][0].start
    return node.entries[index - 1][1].end if index else first.start, value.end


def gone_from(text: str, node: Mapping, before: str, after: str, gap: int) -> int | None:
    """
    Where a key was that is gone; None if its neighbours are gone, too.

    Args:
        before, after: The keys between which it was, empty where there was none.
        gap: What stood between it and the one before, or else the one after, in a block.
    """
    earlier, later = node.entry(before), node.entry(after)
    if node.is_flow:
        return later[0].start if later else earlier[1].end if earlier else None
    if earlier:
        return behind(text, earlier[1]) + gap
    return line_start(text, later[0].start) - gap if later else None
