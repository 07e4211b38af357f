"""The account of an import, for people and for programs. *Cold, pure.*"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.importing.account import Account, Entry

_MAX_PATH: Final = 60
_MAX_VALUE: Final = 28


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one resource, or of what stands around resources."""

    label: str
    file: str
    line: int
    entries: list[Entry]


def parts_of(accounts: Sequence[Account]) -> list[Part]:
    """The parts, in the order of the accounts; without those that have nothing to tell."""
    parts = []
    for account in accounts:
        entries = account.entries()
        if entries:
            parts.append(Part(account.label, account.root.file, account.root.line, entries))
    return parts


def counts_of(parts: Sequence[Part]) -> dict[str, int]:
    """How many leaves were kept, changed and dropped, how many defaults assumed, and how many entries are lost."""
    found = {"kept": 0, "changed": 0, "dropped": 0, "assumed": 0, "lost": 0}
    for part in parts:
        for entry in part.entries:
            found[entry.outcome] += entry.leaves if entry.outcome != "assumed" else 1
            found["lost"] += entry.is_lost
    return found


def lines_of(parts: Sequence[Part]) -> Iterator[str]:
    """A table for each part: what became of each field, its path within the part, its value, and what it became."""
    for part in parts:
        yield f"{part.label}  ({part.file}:{part.line})"
        rows = [(entry, _short(entry.within, _MAX_PATH), _short(entry.value, _MAX_VALUE)) for entry in part.entries]
        wide = max((len(path) for _, path, _ in rows), default=0)
        high = max((len(value) for _, _, value in rows), default=0)
        for entry, path, value in rows:
            mark = "!" if entry.is_lost else " "
            how = f"{entry.how}; {entry.what_to_do}" if entry.what_to_do else entry.how
            yield f"{mark} {entry.outcome:7}  {path:{wide}}  {value:{high}}  {_printable(how)}".rstrip()
        yield ""


def as_plain(parts: Sequence[Part]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            "resource": part.label,
            "file": part.file,
            "line": part.line,
            "fields": [dataclasses.asdict(entry) for entry in part.entries],
        }
        for part in parts
    ]


def _short(text: str, limit: int) -> str:
    text = _printable(text)
    return text if len(text) <= limit else "..." + text[-(limit - 3) :]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
