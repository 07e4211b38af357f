"""
Reading JSON that somebody else wrote: every value by its type and within a bound, or a refusal with its place. *Pure.*

A field that is not known is not looked at, so that both sides of a stream may be of another release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, TypeVar

MAX_TEXT_CHARS: Final = 1024
"""Of a name, an address or a sentence, unless a reader says otherwise."""

MAX_INTEGER: Final = 1 << 53
"""As far as all JSON readers agree (RFC 8259, 6)."""

_SHOWN_CHARS: Final = 60
_T = TypeVar("_T")


class MessageError(ValueError):
    """A message that cannot be used, and why, with the place in it."""


def decode(raw: bytes) -> Fields:
    """
    A JSON object.

    Raises:
        MessageError: It is none.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise MessageError("expected JSON") from None
    if not isinstance(value, dict):
        raise refusal("", "an object", value)
    return Fields(value)


def encode(value: Mapping[str, object]) -> bytes:
    """An object as one line without its end."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


class Fields:
    """
    The fields of one object.

    Args:
        values: As they came.
        at: Where in the message, for refusals.
        within: Of the objects in a list: in which object, under which name, and the how manyth from 0. Nearly nobody
            asks where a value was, and a report has hundreds.
    """

    __slots__ = ("_at", "_values", "_within")

    def __init__(self, values: Mapping[str, Any], at: str = "", within: tuple[Fields, str, int] | None = None) -> None:
        self._values = values
        self._at = at
        self._within = within

    def all(self) -> Mapping[str, Any]:
        """Every field as it came."""
        return self._values

    def text(self, name: str, default: str | None = None, limit: int = MAX_TEXT_CHARS) -> str:
        """A string of at most `limit` characters; without a default it must be there."""
        value = self._value(name, default)
        if not isinstance(value, str) or len(value) > limit:
            raise refusal(self._path(name), f"a string of at most {limit} characters", value)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer of 0 to 2^53."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
            raise refusal(self._path(name), "an integer from 0 to 2^53", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number that is not negative."""
        value = self._value(name, default)
        try:
            number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
        except OverflowError:
            number = -1.0
        if not isfinite(number) or number < 0:
            raise refusal(self._path(name), "a number that is not negative", value)
        return number

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise refusal(self._path(name), "true or false", value)
        return value

    def part(self, name: str) -> Fields | None:
        """An object; None where it is absent or null."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise refusal(self._path(name), "an object", value)
        return Fields(value, self._path(name))

    def objects(self, name: str, limit: int) -> list[Fields]:
        """A list of at most `limit` objects; empty where it is absent."""
        found: list[Fields] = []
        for index, item in enumerate(self._items(name, limit)):
            if not isinstance(item, dict):
                raise refusal(self._path(name, index), "an object", item)
            found.append(Fields(item, within=(self, name, index)))
        return found

    def texts(self, name: str, limit: int) -> list[str]:
        """A list of at most `limit` strings; empty where it is absent."""
        found: list[str] = []
        for index, item in enumerate(self._items(name, limit)):
            if not isinstance(item, str) or len(item) > MAX_TEXT_CHARS:
                raise refusal(self._path(name, index), f"a string of at most {MAX_TEXT_CHARS} characters", item)
            found.append(item)
        return found

    def integers(self, name: str, limit: int) -> list[int]:
        """A list of at most `limit` integers that are not negative; empty where it is absent."""
        items = self._values.get(name)
        # Nearly every report has hundreds of them, and nearly every one is as it should be.
        if isinstance(items, list) and 0 < len(items) <= limit and set(map(type, items)) == {int}:
            numbers: list[int] = items
            if min(numbers) >= 0 and max(numbers) <= MAX_INTEGER:
                return list(numbers)
        found: list[int] = []
        for index, item in enumerate(self._items(name, limit)):
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= MAX_INTEGER:
                raise refusal(self._path(name, index), "an integer from 0 to 2^53", item)
            found.append(item)
        return found

    def table(self, name: str, limit: int, read: Callable[[Fields, str], _T]) -> dict[str, _T]:
        """An object of at most `limit` entries, each read by `read(fields, its name)`; empty where it is absent."""
        inner = self.part(name)
        if inner is None:
            return {}
        if len(inner._values) > limit:
            raise MessageError(f"{self._path(name)}: expected at most {limit} entries, found {len(inner._values)}")
        for key in inner._values:
            if len(key) > MAX_TEXT_CHARS:
                raise refusal(self._path(name), f"names of at most {MAX_TEXT_CHARS} characters", key)
        return {key: read(inner, key) for key in inner._values}

    def words(self, name: str, limit: int) -> dict[str, str]:
        """An object of at most `limit` strings; empty where it is absent."""
        words = self._values.get(name)
        if isinstance(words, dict) and 0 < len(words) <= limit and set(map(type, words.values())) == {str}:
            longest = max(max(map(len, words)), max(map(len, words.values())))
            if longest <= MAX_TEXT_CHARS:
                return dict(words)
        return self.table(name, limit, Fields.text)

    def counts(self, name: str, limit: int) -> dict[str, int]:
        """An object of at most `limit` integers that are not negative; empty where it is absent."""
        counts = self._values.get(name)
        if counts == {}:
            return {}
        if isinstance(counts, dict) and 0 < len(counts) <= limit and set(map(type, counts.values())) == {int}:
            numbers = counts.values()
            if min(numbers) >= 0 and max(numbers) <= MAX_INTEGER and max(map(len, counts)) <= MAX_TEXT_CHARS:
                return dict(counts)
        return self.table(name, limit, Fields.integer)

    def _items(self, name: str, limit: int) -> list[object]:
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise refusal(self._path(name), "a list", value)
        if len(value) > limit:
            raise MessageError(f"{self._path(name)}: expected at most {limit} items, found {len(value)}")
        return value

    def _value(self, name: str, default: object) -> object:
        value = self._values.get(name, default)
        if value is None:
            value = default
        if value is None:
            raise MessageError(f"{self._path(name)}: the field is missing")
        return value

    def _path(self, name: str, index: int | None = None) -> str:
        at = self._at if self._within is None else self._within[0]._path(*self._within[1:])
        path = f"{at}.{name}" if at else name
        return path if index is None else f"{path}[{index}]"


def refusal(at: str, wanted: str, found: object) -> MessageError:
    """What was expected at a place, and what was found there, shortened."""
    try:
        shown = json.dumps(found)
    except (TypeError, ValueError, RecursionError):
        shown = repr(type(found))
    if len(shown) > _SHOWN_CHARS:
        shown = shown[:_SHOWN_CHARS] + "..."
    return MessageError(f"{at}: expected {wanted}, found {shown}" if at else f"expected {wanted}, found {shown}")
