"""
The matches of all routes, filed so that those are found that could take what another asks for. *Cold, pure.*

As in `routing.table`, a match stands under each of its hosts, and there under its path; besides, of many that share
both and ask for a header's exact value, under that value. So ten thousand routes are compared with a few each. Where
many still stand together, only the first `MOST` are compared: a warning may be missed there, and none is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.insight.warnings.questions import Question, patterns_above, question_of
from sidecar.routing.match import Condition, Match, split_pattern
from sidecar.routing.matchers import PathMatcher

MOST: Final = 64
MOST_MET: Final = 24
"""The same of those that may take a part, of which more is asked."""
_EVERY_HOST: Final = b"*"
_FILED: Final = ("exact", "prefix", "starts_with")
"""Paths that are found by their value."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """
    One match of a route, taken apart.

    Attributes:
        order: Of its route.
        index: Of the match in its route.
        hosts: Patterns; `*` alone for every host.
        path: The question about the path, or None.
        methods: Those that it takes; empty for all.
        patterns: The same, to look one up.
        names: The same without their ports.
        conditions: The questions about headers, cookies and parameters, with what each asks, by part.
        match: As it was compiled.
    """

    order: int
    index: int
    hosts: tuple[bytes, ...]
    patterns: frozenset[bytes]
    names: frozenset[bytes]
    path: PathMatcher | None
    methods: tuple[str, ...]
    conditions: Mapping[str, tuple[Condition, Question]]
    match: Match


def asked_by(order: int, index: int, match: Match) -> Asked:
    """A match, taken apart."""
    methods: tuple[str, ...] = ()
    conditions: dict[str, tuple[Condition, Question]] = {}
    for condition in match.conditions:
        if condition.part == "methods":
            methods = tuple(condition.text.split(" or "))
        else:
            conditions[condition.part] = (condition, question_of(condition))
    hosts = match.hosts or (_EVERY_HOST,)
    names = frozenset(split_pattern(host)[0] for host in hosts)
    return Asked(order, index, hosts, frozenset(hosts), names, match.path, methods, conditions, match)


class _Shelf:
    """Matches of one host and path, in the order of the file."""

    __slots__ = ("all", "by_value", "others")

    def __init__(self) -> None:
        self.all: list[Asked] = []
        self.by_value: dict[tuple[str, str], list[Asked]] = {}
        self.others: list[Asked] = []

    def add(self, asked: Asked) -> None:
        self.all.append(asked)
        # Who asks for an exact value includes nobody who does not ask for the same.
        for part, (_, question) in asked.conditions.items():
            if question.is_one_value:
                self.by_value.setdefault((part, question.text), []).append(asked)
                return
        self.others.append(asked)

    def that_may_include(self, asked: Asked) -> Iterator[Asked]:
        for part, (_, question) in asked.conditions.items():
            yield from self.by_value.get((part, question.text), [])[:MOST]
        yield from self.others[:MOST]


class _Place:
    """The matches of one pattern of hosts."""

    __slots__ = ("all", "by_path", "longest_start", "rest", "without_path")

    def __init__(self) -> None:
        self.all: list[Asked] = []
        self.without_path = _Shelf()
        self.by_path: dict[tuple[str, bytes], _Shelf] = {}
        self.rest = _Shelf()
        self.longest_start = 0

    def add(self, asked: Asked) -> None:
        self.all.append(asked)
        path = asked.path
        if path is None:
            self.without_path.add(asked)
        elif path.is_plain and path.kind in _FILED:
            self.by_path.setdefault((path.kind, path.value), _Shelf()).add(asked)
            if path.kind == "starts_with":
                self.longest_start = max(self.longest_start, len(path.value))
        else:
            self.rest.add(asked)

    def shelves_around(self, path: PathMatcher | None) -> Iterator[_Shelf]:
        """Those whose path may include this one."""
        yield self.without_path
        if path is None:
            return
        yield self.rest
        if not path.is_plain or path.kind not in _FILED:
            return
        value = path.value
        begins = value or b"/"
        keys = [("exact", value)] if path.kind == "exact" else []
        if path.kind != "starts_with":
            keys.append(("prefix", value))
        keys += [("prefix", value[:at]) for at, octet in enumerate(value) if octet == 0x2F]
        keys += [("starts_with", begins[:end]) for end in range(1, min(len(begins), self.longest_start) + 1)]
        for key in dict.fromkeys(keys):
            shelf = self.by_path.get(key)
            if shelf is not None:
                yield shelf


class Filed:
    """What the routes of a direction ask, in the order of the file."""

    __slots__ = ("_everywhere", "_places")

    def __init__(self) -> None:
        self._places: dict[bytes, _Place] = {}
        self._everywhere = _Place()

    def add(self, asked: Asked) -> None:
        """File a match."""
        self._everywhere.add(asked)
        for host in asked.names:
            self._places.setdefault(host, _Place()).add(asked)

    def that_may_include(self, asked: Asked, host: bytes) -> Iterator[Asked]:
        """Matches that may take all that this one asks for of a host; some come several times."""
        for place, _ in self._around(host):
            for shelf in place.shelves_around(asked.path):
                yield from shelf.that_may_include(asked)

    def that_may_meet(self, asked: Asked, host: bytes) -> Iterator[Asked]:
        """Matches that may take a part of it, and ask for some of the same less precisely; some come several times."""
        is_wide = host.startswith(b"*")
        # Whose path may be any: what it asks for more precisely is the host, a value, or how a path ends.
        path = asked.path
        is_any_path = bool(asked.conditions) if path is None else not (path.is_plain and path.kind in _FILED)
        for place, is_wider in self._around(host):
            if is_wider or is_any_path:
                yield from place.all[:MOST_MET]
            for shelf in place.shelves_around(asked.path):
                yield from shelf.all[:MOST_MET]
        if is_wide:
            for shelf in self._everywhere.shelves_around(asked.path):
                yield from shelf.all[:MOST_MET]

    def _around(self, host: bytes) -> Iterator[tuple[_Place, bool]]:
        """Places of a host and of the patterns that it is below, and whether it is below; not of those below it."""
        host = split_pattern(host)[0]
        found = self._places.get(host)
        if found is not None:
            yield found, False
        for pattern in patterns_above(host):
            above = self._places.get(pattern)
            if above is not None:
                yield above, True
        every = self._places.get(_EVERY_HOST)
        if every is not None and host != _EVERY_HOST:
            yield every, False
