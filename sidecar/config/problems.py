"""What is wrong with a configuration file, said so that a reader can put it right without a manual. *Cold, pure.*"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sidecar.redact import Secrets

At = tuple[int | str, ...]
"""Where the models have a value: keys and indices from the root."""

_MAX_SHOWN_CHARS: Final = 500
_MAX_COMPARED: Final = 2000
"""Comparing spellings costs 10 us a word, and a hint is not worth more than 20 ms."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One thing that is wrong, or, as a warning, that is hardly what was meant.

    Attributes:
        file: Name of the file as the user gave it.
        line: From 1.
        column: From 1, in characters.
        path: Where in the configuration, such as `outbound.routes[2].match`; empty for the file as a whole.
        message: What was expected and what was found; lower case, no full stop.
        hint: What to do about it; may be empty.
        severity: `error`, for which the file is refused, or `warning`, for which it is not.
        rule: Of a warning, which of the rules of `config.warnings.rules` it is; of most problems empty.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    severity: str = "error"
    rule: str = ""

    def __post_init__(self) -> None:
        # What was found comes from the file: it must break neither a line of the log nor a terminal.
        for name in ("path", "message", "hint"):
            object.__setattr__(self, name, _shown(getattr(self, name)))

    def without(self, secrets: Secrets) -> Problem:
        """The same problem, told without these secrets."""
        return replace(self, message=secrets.hide(self.message), hint=secrets.hide(self.hint))

    def named(self) -> str:
        """As it is told, with the name of its rule, by which it is looked up and ignored."""
        return f"{self} [{self.rule}]" if self.rule else str(self)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " + ("warning: " if self.severity == "warning" else "")
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}{what}; {self.hint}" if self.hint else where + what


class Reporter(Protocol):
    """
    Takes a problem: where, what, and what to do.

    With a `rule`, one of `config.warnings.rules`, it is a warning, for which the file is not refused.
    """

    def __call__(
        self, location: Sequence[int | str], message: str, hint: str = "", *, at_key: bool = False, rule: str = ""
    ) -> None: ...


def _shown(text: str) -> str:
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "..."


class ConfigError(Exception):
    """
    A file that cannot be used; nothing of it takes effect.

    Attributes:
        problems: All of them, in the order of the file; never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: list[Problem] = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or an empty string when none is near."""
    found = nearest(word, known)
    return f"did you mean `{found}`?" if found else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word nearest to `word`, or an empty string when none is near."""
    return _nearest(word[:64], tuple(itertools.islice(known, _MAX_COMPARED)))


@functools.lru_cache(maxsize=256)
def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return near[0] if near else ""
