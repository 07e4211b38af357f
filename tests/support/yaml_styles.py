"""
The same values as YAML in every style that people and programs write: blocks and flows, quotes, comments, indentation,
anchors, line ends. For searches; what is written is read again by PyYAML as the same values.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_PLAIN = re.compile(r"[a-z/][a-z0-9_./-]*")
_NOT_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@dataclass
class Style:
    """One author: choices are his, by his dice."""

    dice: random.Random
    step: int = 2
    dash: int = 0
    has_comments: bool = True
    has_anchors: bool = True
    flow_rate: float = 0.15
    anchors: list[tuple[str, Any]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def scalar(self, value: Any, *, in_flow: bool) -> str:
        """A scalar in one of the ways to write it."""
        if not isinstance(value, str):
            return json.dumps(value)
        ways = [json.dumps(value)]
        if "\n" not in value:
            ways.append("'" + value.replace("'", "''") + "'")
        if _PLAIN.fullmatch(value) and value not in _NOT_WORDS:
            ways += [value, value]
        return self.dice.choice(ways)

    def flow(self, value: Any) -> str:
        """A value within braces or brackets."""
        blank = self.dice.choice(["", " ", "\n" + " " * 30])
        if isinstance(value, dict):
            ends = "," if value and self.dice.random() < 0.1 else ""
            inside = ("," + (blank or " ")).join(
                f"{self.scalar(key, in_flow=True)}: {self.flow(one)}" for key, one in value.items()
            )
            return "{" + blank + inside + ends + blank + "}"
        if isinstance(value, list):
            return "[" + blank + ("," + (blank or " ")).join(self.flow(one) for one in value) + blank + "]"
        return self.scalar(value, in_flow=True)

    def comment(self, indent: int) -> list[str]:
        """No line, or some that say nothing."""
        if not self.has_comments or self.dice.random() > 0.2:
            return []
        line = " " * self.dice.choice([0, indent]) + "# " + self.dice.choice(["say: nothing", "- no", "\tä {{ x }} '"])
        return [line] if self.dice.random() < 0.7 else ["", line]

    def end(self, *, opens: bool = False) -> str:
        """What may follow on a line; no tab before what stands on the lines below."""
        found = self.dice.choice(["", "", "", "", "  # so", " ", "\t# tab"]) if self.has_comments else ""
        return "" if opens and "\t" in found else found

    def entries(self, value: dict[str, Any], indent: int) -> list[str]:
        """A mapping in a block; its first line may be preceded by comments."""
        lines: list[str] = []
        for key, one in value.items():
            lines += self.comment(indent)
            lines += self.after(f"{' ' * indent}{self.scalar(key, in_flow=False)}:", one, indent, is_key=True)
        return lines

    def after(self, start: str, value: Any, indent: int, *, is_key: bool) -> list[str]:
        """What stands behind a key or a dash."""
        shared = next((name for name, one in self.anchors if one == value), None)
        if shared is not None and self.dice.random() < 0.8:
            return [f"{start} *{shared}{self.end()}"]
        if isinstance(value, str) and value.endswith("\n"):
            return [f"{start} |", *(" " * (indent + self.step) + line for line in value[:-1].split("\n"))]
        if value is None and is_key and self.dice.random() < 0.5:
            return [start + self.end(opens=True)]
        is_small = not isinstance(value, dict | list) or not value
        if is_small or self.dice.random() < self.flow_rate:
            return [f"{start} {self.flow(value)}{self.end()}"]
        name = ""
        if self.has_anchors and is_key and self.dice.random() < 0.1:
            name = f" &a{next(self.numbers)}"
        inside = indent + self.step if isinstance(value, dict) or not is_key else indent + self.dash
        lines = [start + name + self.end(opens=True), *self.block(value, inside)]
        if name:
            self.anchors.append((name[2:], value))
        return lines

    def block(self, value: Any, indent: int) -> list[str]:
        """A mapping or a list in a block."""
        if isinstance(value, dict):
            return self.entries(value, indent)
        lines: list[str] = []
        for item in value:
            lines += self.comment(indent)
            lead = " " * indent + "-"
            if isinstance(item, dict) and item and self.dice.random() > self.flow_rate:
                has_comments, self.has_comments = self.has_comments, False
                first, *rest = self.entries(dict(list(item.items())[:1]), indent + 2)
                self.has_comments = has_comments
                lines += [lead + " " + first.lstrip(" "), *rest]
                lines += self.entries(dict(list(item.items())[1:]), indent + 2)
            else:
                lines += self.after(lead, item, indent, is_key=False)
        return lines


def styled(values: list[Any], seed: int) -> str:
    """Documents in the style of one author."""
    dice = random.Random(seed)
    if dice.random() < 0.15:
        indent = dice.choice([None, 1, 2, 4, "\t"])
        text = "\n---\n".join(json.dumps(value, indent=indent, ensure_ascii=False) for value in values)
    else:
        parts = []
        for value in values:
            style = Style(
                dice, dice.choice([1, 2, 2, 2, 3, 4, 8]), dice.choice([0, 0, 2, 4]), dice.random() < 0.8,
                dice.random() < 0.4, dice.choice([0.0, 0.1, 0.4]),
            )  # fmt: skip
            parts.append("\n".join(style.block(value, 0)))
        text = dice.choice(["---\n", "", "# Source: shop/templates/x.yaml\n"]) + "\n--- # next\n".join(parts)
        # A `|` without a line end behind its last line is another value.
        can_stop = "|" not in parts[-1]
        text += dice.choice([*([""] if can_stop else []), "\n", "\n\n", "\n# end", "\n...\n"])
    return text.replace("\n", "\r\n") if dice.random() < 0.15 else text
