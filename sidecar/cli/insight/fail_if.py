"""What makes a preview fail: `--fail-if 'moved > 1%'`. *Cold, pure.*"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

_COUNTS: Final = {
    "moved": "moved", "unknown": "unknown", "refused": "refused", "404": "not_found", "warnings": "warnings",
}  # fmt: skip
_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_WORD: Final = re.compile(r"\s*([A-Za-z0-9_]+)")
_OPERATOR: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)")
_NUMBER: Final = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)(%?)")


@dataclass(frozen=True, slots=True)
class Limit:
    """
    A condition on a report.

    Attributes:
        text: As it was written.
        what: A key of the report.
        holds: Whether it holds for a number.
        is_share: Whether the number is a share of all requests, in percent.
    """

    text: str
    what: str
    holds: Callable[[float], bool]
    is_share: bool

    def is_met(self, report: Mapping[str, Any]) -> bool:
        """Whether the report fails by it."""
        count = report[self.what]
        if self.what == "moved" and self.is_share:
            return self.holds(report["moved_share"] * 100)
        number = float(len(count) if isinstance(count, list) else count)
        if self.is_share:
            number = number * 100 / report["requests"] if report["requests"] else 0.0
        return self.holds(number)


def limits(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[Limit]:
    """What each says; a usage error says where one is none."""
    return [_limit(text) for text in value]


def _limit(text: str) -> Limit:
    word = _WORD.match(text)
    if word is None or word[1] not in _COUNTS:
        raise _wrong(text, word.start(1) if word else 0, f"one of {', '.join(_COUNTS)}")
    sign = _OPERATOR.match(text, word.end())
    if sign is None:
        raise _wrong(text, word.end(), f"one of {' '.join(_OPERATORS)}")
    number = _NUMBER.match(text, sign.end())
    if number is None:
        raise _wrong(text, sign.end(), "a number or a percentage such as `1%`")
    if text[number.end() :].strip():
        raise _wrong(text, number.end(), "the end; give --fail-if again for another condition")
    compare, bound = _OPERATORS[sign[1]], float(number[1])
    return Limit(text.strip(), _COUNTS[word[1]], lambda found: compare(found, bound), bool(number[2]))


def _wrong(text: str, at: int, expected: str) -> click.BadParameter:
    rest = text[at:].split()
    found = f"found `{rest[0]}`" if rest else "found the end"
    column = len(text) - len(text[at:].lstrip()) + 1
    return click.BadParameter(f"`{text}`, column {column}: expected {expected}, {found}")
