"""
The index of rules: first who asks, then what for, so that ten thousand rules cost what ten do. *Hot path.*

Rules about the same sources share a table of `routing`, by host and path. Which tables a client's requests are looked
up in depends on nothing but who it is, and is remembered by its identity: usually one or two, that of the rules for
anyone and that of the rules which name it. The lowest rule of what they find is the first in the order of the file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final

from sidecar.message import RequestHead
from sidecar.routing.table import Table, TableBuilder
from sidecar.security.authorization.rules import Candidate, Rule
from sidecar.security.authorization.sources import ANYONE, AUTHENTICATED, Networks, Patterns, Sources

MAX_TABLES: Final = 8
"""Whoever is named by rules of more different `from` than these has one table of them all."""

_MAX_KNOWN: Final = 1024

_Tables = tuple[Table[Candidate], ...]


class RuleIndex:
    """Rules, indexed; immutable once it is built (`build_index`)."""

    __slots__ = ("_all", "_by_client", "_by_identity", "_networks", "_patterns", "_shelves")

    def __init__(
        self, shelves: dict[str, _Tables], everything: list[Table[Candidate]], patterns: Patterns, networks: Networks
    ) -> None:
        self._shelves = shelves
        self._all = everything
        self._patterns = patterns
        self._networks: Networks | None = None if networks.is_empty else networks
        self._by_identity: dict[str, _Tables] = {}
        self._by_client: dict[tuple[str, Sequence[str]], _Tables] = {}

    def first(self, identity: str, ip: str, head: RequestHead, tokens: tuple[str, ...] = ()) -> Rule | None:
        """
        The first rule that matches, or None.

        Args:
            identity: SPIFFE ID of the client, or empty.
            ip: Its address, as `Exchange.peer` has it.
            head: As routes see it.
            tokens: What rules ask of tokens and the request's is, as `peer.Token.words`.
        """
        best: Candidate | None = None
        for table in self._tables_of(identity, ip, tokens):
            found = table.find(head, ip)
            if found is not None and (best is None or found.order < best.order):
                best = found
        return None if best is None else best.rule

    def candidates(self, identity: str, ip: str, tokens: tuple[str, ...] = ()) -> Iterator[Candidate]:
        """All that are about this client, in no order."""
        for table in self._tables_of(identity, ip, tokens):
            yield from table.routes

    def dismantle(self) -> Iterator[None]:
        """As `Table.dismantle`."""
        self._shelves.clear()
        self._by_identity.clear()
        self._by_client.clear()
        while self._all:
            yield from self._all.pop().dismantle()

    def _tables_of(self, identity: str, ip: str, tokens: tuple[str, ...]) -> _Tables:
        if self._networks is None and not tokens:
            tables = self._by_identity.get(identity)
            if tables is None:
                if len(self._by_identity) >= _MAX_KNOWN:
                    self._by_identity.clear()
                tables = self._by_identity[identity] = self._found(identity, ())
            return tables
        around = self._networks.around(ip) if self._networks is not None else tokens
        if tokens and self._networks is not None:
            around = (*around, *tokens)
        tables = self._by_client.get((identity, around))
        if tables is None:
            if len(self._by_client) >= _MAX_KNOWN:
                self._by_client.clear()
            tables = self._by_client[identity, around] = self._found(identity, around)
        return tables

    def _found(self, identity: str, around: Sequence[str]) -> _Tables:
        words = [ANYONE, *around]
        if identity:
            words += [AUTHENTICATED, identity, *self._patterns.matching(identity)]
        return tuple({table: None for word in words for table in self._shelves.get(word, ())})


def build_index(rules: Sequence[Rule]) -> Generator[None, None, RuleIndex]:
    """The index of these rules; work in steps, as `compile.time_slices` does it."""
    groups: dict[Sources, list[Candidate]] = {}
    for rule in rules:
        by_sources: dict[Sources, list[int]] = {}
        for number, clause in enumerate(rule.clauses):
            by_sources.setdefault(clause.sources, []).append(number)
        for sources, numbers in by_sources.items():
            matches = tuple(rule.clauses[number].match for number in numbers)
            groups.setdefault(sources, []).append(Candidate(rule, matches))
        yield
    holders: dict[str, list[Sources]] = {}
    tables: dict[Sources, Table[Candidate]] = {}
    everything: list[Table[Candidate]] = []
    patterns, networks = Patterns(), Networks()
    for sources, candidates in groups.items():
        builder: TableBuilder[Candidate] = TableBuilder()
        for candidate in candidates:
            builder.add(candidate)
            yield
        tables[sources] = table = builder.table()
        everything.append(table)
        for word in sources.parts():
            holders.setdefault(word, []).append(sources)
            yield
        for pattern in sources.patterns:
            patterns.add(pattern)
        for network in sources.networks:
            networks.add(network)
            yield
    shelves: dict[str, _Tables] = {}
    for word, some in holders.items():
        if len(some) <= MAX_TABLES:
            shelves[word] = tuple(tables[sources] for sources in some)
            yield
            continue
        merged: TableBuilder[Candidate] = TableBuilder()
        for candidate in sorted([one for sources in some for one in groups[sources]], key=_order_of):
            merged.add(candidate)
            yield
        table = merged.table()
        everything.append(table)
        shelves[word] = (table,)
    return RuleIndex(shelves, everything, patterns, networks)


def _order_of(candidate: Candidate) -> int:
    return candidate.order
