"""
What a plain YAML word means: the core schema of YAML 1.2 (section 10.3.2), and no more. *Cold, pure.*

`yes`, `on`, `12:30`, `2024-01-01` and `1_000` are words here, which PyYAML's own YAML 1.1 rules read as a boolean, a
number in base 60, a date and a thousand.
"""

from __future__ import annotations

import re
from typing import Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_MAX_NUMBER_CHARS: Final = 32
"""Longer digits are a word: no setting needs them, and converting them costs the square of their length."""


class Spelled(str):
    """
    A plain scalar that is a boolean or a number, as it was spelled.

    It is its spelling where a string is wanted (`version: 1.10` stays `1.10`) and `value` where one is not.
    """

    __slots__ = ("value",)

    value: bool | int | float

    def __new__(cls, text: str, value: bool | int | float) -> Spelled:
        self = super().__new__(cls, text)
        self.value = value
        return self


def resolve_plain(text: str) -> str | Spelled | None:
    """The value of a plain (unquoted) scalar: None for null, `Spelled` for booleans and numbers, else the text."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return Spelled(text, _BOOLEAN[text])
    if text[0] not in "+-.0123456789" or len(text) > _MAX_NUMBER_CHARS:
        return text
    if _DECIMAL.fullmatch(text):
        return Spelled(text, int(text))
    if _FLOAT.fullmatch(text):
        return Spelled(text, float(text))
    if _OCTAL.fullmatch(text):
        return Spelled(text, int(text[2:], 8))
    if _HEXADECIMAL.fullmatch(text):
        return Spelled(text, int(text[2:], 16))
    if _INFINITE.fullmatch(text):
        return Spelled(text, float(text.lower().replace(".", "")))
    return text
