"""
`# sidecar: ignore RULE`: where a file wants a warning not to be told. *Cold, pure.*

The comment stands at the end of the line that the warning names, or alone on the line before it; it names its rules,
so that a new one is told all the same. Several are separated by commas or blanks; text may follow after `--`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from sidecar.config.problems import Problem

_MARK: Final = "sidecar: ignore"
_COMMENT: Final = re.compile(rf"(^|\s)#\s*{_MARK}\s+(?P<rules>[a-z0-9, -]+?)\s*(?:--.*)?$")

Ignored = Mapping[int, frozenset[str]]
"""The rules that are not to be told, by the line of what they are about."""


def ignored_in(text: str) -> Ignored:
    """What the comments of a file say; in a text of several lines what looks like one counts as one."""
    found: dict[int, frozenset[str]] = {}
    if _MARK not in text:
        return found
    waiting: frozenset[str] = frozenset()
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        match = _COMMENT.search(line.rstrip()) if _MARK in line else None
        rules = frozenset(re.split(r"[,\s]+", match["rules"].strip())) if match is not None else frozenset()
        if not bare or bare.startswith("#"):
            waiting |= rules
            continue
        if rules or waiting:
            found[number] = rules | waiting
        waiting = frozenset()
    return found


def not_ignored(warnings: Iterable[Problem], ignored: Mapping[str, Ignored]) -> list[Problem]:
    """Those that are to be told, by what each file says."""
    return [one for one in warnings if one.rule not in ignored.get(one.file, {}).get(one.line, ())]
