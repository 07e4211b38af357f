"""
A word that a regular expression matches, for an example: the shortest that is easily found. *Cold, pure.*

Understands what people write in routes: literals, classes, groups, alternatives, repetitions. What comes out is a guess
until it was asked of the expression itself, as everything here is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.routing.matchers import compile_regex

_OF_CLASS: Final[Mapping[str, str]] = {
    "d": "1",
    "w": "a",
    "s": " ",
    "D": "a",
    "W": "-",
    "S": "a",
    "b": "",
    "B": "",
    "A": "",
    "z": "",
}
_PLAIN: Final = {"n": "\n", "t": "\t", "r": "\r"}
_COUNT: Final = re.compile(r"\{(\d{1,4})(?:,\d*)?\}")
_GROUP: Final = re.compile(r"\?(?:P?<\w+>|[a-zA-Z-]*:|[a-zA-Z-]+(?=\)))")
_TRIED: Final = "ax1A-_/.0 "
_DEEPEST: Final = 32
_LONGEST: Final = 1000
"""Characters of a part that is repeated."""


def word_of(pattern: str) -> str | None:
    """A word that the pattern probably matches as a whole; None if it is too much for this."""
    reader = _Reader(pattern)
    try:
        word = reader.alternatives(0)
    except (IndexError, ValueError):
        return None
    return word if reader.at == len(pattern) else None


class _Reader:
    """Reads a pattern from left to right, and takes the first alternative of each."""

    def __init__(self, pattern: str) -> None:
        self.at = 0
        self._pattern = pattern

    def alternatives(self, depth: int) -> str:
        if depth > _DEEPEST:
            raise ValueError
        first = self._sequence(depth)
        while self._peek() == "|":
            self.at += 1
            self._sequence(depth)
        return first

    def _sequence(self, depth: int) -> str:
        words: list[str] = []
        while (octet := self._peek()) not in ("", "|", ")"):
            word = self._atom(octet, depth)
            words.append(word * self._times())
            if len(words[-1]) > _LONGEST:
                raise ValueError
        return "".join(words)

    def _atom(self, octet: str, depth: int) -> str:
        self.at += 1
        if octet == "(":
            found = _GROUP.match(self._pattern, self.at)
            if found is not None:
                self.at = found.end()
            word = self.alternatives(depth + 1)
            if self._peek() != ")":
                raise ValueError
            self.at += 1
            return word
        if octet == "[":
            return self._one_of_class()
        if octet == "\\":
            escaped = self._pattern[self.at]
            self.at += 1
            if escaped in "pPxQ":
                raise ValueError
            return _OF_CLASS.get(escaped, _PLAIN.get(escaped, escaped))
        return {".": "x", "^": "", "$": ""}.get(octet, octet)

    def _one_of_class(self) -> str:
        start = self.at
        end = self.at + (self._pattern[self.at] == "^")
        end += self._pattern[end] == "]"
        while self._pattern[end] != "]":
            end += 2 if self._pattern[end] == "\\" else 1
            if self._pattern[end - 1 : end + 1] == "[:":
                end = self._pattern.index(":]", end) + 2
        self.at = end + 1
        inside = self._pattern[start:end]
        one_of = compile_regex(f"[{inside}]")
        found: str | None = next((one for one in (*_TRIED, *inside) if one_of.fullmatch(one.encode())), None)
        if found is None:
            raise ValueError
        return found

    def _times(self) -> int:
        """How often what came before is repeated, at least."""
        octet = self._peek()
        times = 1
        if octet in ("*", "?", "+"):
            self.at += 1
            times = int(octet == "+")
        elif octet == "{":
            found = _COUNT.match(self._pattern, self.at)
            if found is None:
                raise ValueError
            self.at = found.end()
            times = int(found[1])
        else:
            return 1
        if self._peek() == "?":
            self.at += 1
        return times

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]
