"""
The index of a plan's routes: the first match in file order, at a cost that does not grow with their number. *Hot path.*

Every match of every route becomes an entry under its host: an exact name, a wildcard's suffix, or none. Under a host,
an entry is filed by exact path, by prefix of whole segments, by `starts_with` text, by template in a tree of segments,
or with the rest, which is asked in order. A request looks up its host, the suffixes of its host, its path, the prefixes
of its path and the templates that it fits; each of these lists is in file order and is read only up to the best entry
found so far. So what stays linear are entries that share a host and a path and differ by header, cookie, query or
method, and those whose path is a regular expression, inverted, or matched in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from sidecar.message import RequestHead
from sidecar.routing.match import DEFAULT_PORT, Condition, Match, path_condition, split_pattern
from sidecar.routing.matchers import PathMatcher
from sidecar.routing.template import Forks

_EVERYTHING: Final = Match()


class Matching(Protocol):
    """What can be filed: a route, or what else asks of a request what routes ask."""

    @property
    def matches(self) -> tuple[Match, ...]:
        """Any of them is enough; empty matches everything."""


R = TypeVar("R", bound=Matching)


class Table(Generic[R]):
    """
    Routes, indexed; immutable. A plain `Table` knows no ports; `TableBuilder` makes one that does if a host has one.

    Attributes:
        routes: In file order.
    """

    __slots__ = ("_anywhere", "_end", "_hosts", "_max_labels", "_suffixes", "routes")

    def __init__(self, routes: Iterable[R] = ()) -> None:
        self.routes = tuple(routes)
        self._end = len(self.routes)
        self._hosts: dict[bytes, _Bucket[R]] = {}
        self._suffixes: dict[bytes, _Bucket[R]] = {}
        self._anywhere: _Bucket[R] = _Bucket()
        for order, route in enumerate(self.routes):
            for match in route.matches or (_EVERYTHING,):
                self.file(order, route, match, match.hosts)
        self.finish(self.routes)

    def file(self, order: int, route: R, match: Match, hosts: Sequence[bytes]) -> None:
        """Add a match for these hosts, none of which has a port, or for every host; call it in file order."""
        for bucket in self._buckets_of(hosts):
            bucket.file(order, route, match)

    def finish(self, routes: tuple[R, ...]) -> None:
        """All of these are filed."""
        self.routes = routes
        self._end = len(routes)
        self._max_labels = max((suffix.count(b".") + 1 for suffix in self._suffixes), default=0)

    def dismantle(self) -> Iterator[None]:
        """
        Let go of all routes, a few of its objects at each step; for whoever holds a table that nobody asks any more.

        Ten thousand routes are half a million objects, whose end at one go would hold the loop for 30 ms.
        """
        self._end = 0
        for buckets in (self._hosts, self._suffixes):
            while buckets:
                yield from buckets.popitem()[1].dismantle()
        yield from self._anywhere.dismantle()
        routes = list(self.routes)
        self.routes = ()
        while routes:
            routes.pop()
            yield

    def find(self, head: RequestHead, peer_ip: str) -> R | None:
        """
        The first route in file order that matches, or None.

        Args:
            head: Normalised as `message` says; CONNECT has an empty path.
            peer_ip: The client's address, for conditions on the source; none exists so far.
        """
        best: _Entry[R] | None = None
        limit = self._end
        bucket = self._hosts.get(head.host)
        if bucket is not None:
            best = bucket.first(head, limit)
            if best is not None:
                limit = best.order
        if self._max_labels:
            for suffix_bucket in self._below(head.host):
                if suffix_bucket.lowest < limit:
                    found = suffix_bucket.first(head, limit)
                    if found is not None:
                        best, limit = found, found.order
        if self._anywhere.lowest < limit:
            best = self._anywhere.first(head, limit) or best
        return None if best is None else best.route

    def _below(self, host: bytes) -> list[_Bucket[R]]:
        """Buckets of the wildcards that this host is below; walks no more labels than the longest of them has."""
        found = []
        dot = len(host)
        for _ in range(self._max_labels):
            dot = host.rfind(b".", 0, dot)
            if dot <= 0:  # nothing before the dot: `*` stands for at least one character
                break
            bucket = self._suffixes.get(host[dot + 1 :])
            if bucket is not None:
                found.append(bucket)
        return found

    def _buckets_of(self, hosts: Sequence[bytes]) -> list[_Bucket[R]]:
        if not hosts or b"*" in hosts:
            return [self._anywhere]
        return [
            self._suffixes.setdefault(host[2:], _Bucket())
            if host[:1] == b"*"
            else self._hosts.setdefault(host, _Bucket())
            for host in hosts
        ]


class PortTable(Table[R]):
    """
    Routes of which some are for hosts with a port: a table for each port beside the one for every port.

    A request asks two of them. Where no host has a port there is none of this, and no request asks for its port.

    Args:
        everywhere: Those for any port.
        by_port: The others.
        routes: All of them.
    """

    __slots__ = ("_by_port", "_everywhere", "_orders")

    def __init__(self, everywhere: Table[R], by_port: dict[int, Table[R]], routes: tuple[R, ...]) -> None:
        super().__init__()
        self.routes = routes
        self._everywhere = everywhere
        self._by_port = by_port
        self._orders = {route: order for order, route in enumerate(routes)}

    def dismantle(self) -> Iterator[None]:
        """As `Table.dismantle`."""
        self.routes = ()  # `_everywhere` has them, too, and is the last to let go of them
        while self._orders:
            self._orders.popitem()
            yield
        while self._by_port:
            yield from self._by_port.popitem()[1].dismantle()
        yield from self._everywhere.dismantle()

    def find(self, head: RequestHead, peer_ip: str) -> R | None:
        """As `Table.find`."""
        found = self._everywhere.find(head, peer_ip)
        table = self._by_port.get(head.port or DEFAULT_PORT)
        if table is None:
            return found
        other = table.find(head, peer_ip)
        if found is None or other is None:
            return found or other
        return found if self._orders[found] <= self._orders[other] else other


class TableBuilder(Generic[R]):
    """
    Makes a table route by route, for who must not be held for the 3 us a route that a large one takes.

    Call `add` for each route in file order, then `table` once.
    """

    __slots__ = ("_by_port", "_everywhere", "_routes")

    def __init__(self) -> None:
        self._routes: list[R] = []
        self._everywhere: Table[R] = Table()
        self._by_port: dict[int, Table[R]] = {}

    def add(self, route: R) -> None:
        """The next route."""
        order = len(self._routes)
        self._routes.append(route)
        for match in route.matches or (_EVERYTHING,):
            if not match.hosts:
                self._everywhere.file(order, route, match, ())
                continue
            by_port: dict[int | None, list[bytes]] = {}
            for pattern in match.hosts:
                host, port = split_pattern(pattern)
                by_port.setdefault(port, []).append(host)
            for port, hosts in by_port.items():
                table = self._everywhere if port is None else self._by_port.setdefault(port, Table())
                table.file(order, route, match, hosts)

    def table(self) -> Table[R]:
        """The table of all that was added."""
        routes = tuple(self._routes)
        for table in (self._everywhere, *self._by_port.values()):
            table.finish(routes)
        return PortTable(self._everywhere, self._by_port, routes) if self._by_port else self._everywhere


class _Entry(Generic[R]):
    """A match of a route with the questions that its place in the index leaves open."""

    __slots__ = ("checks", "order", "route")

    def __init__(self, order: int, route: R, conditions: tuple[Condition, ...]) -> None:
        self.order = order
        self.route = route
        self.checks: tuple[Callable[[RequestHead], bool], ...] = tuple(condition.test for condition in conditions)


class _Bucket(Generic[R]):
    """The entries of one host. Invariant: every list is in file order, for entries are filed in that order."""

    __slots__ = (
        "_exact", "_forks", "_has_others", "_max_prefix", "_max_segments", "_prefixes", "_rest", "_start_lengths",
        "_starts", "lowest",
    )  # fmt: skip

    def __init__(self) -> None:
        self._exact: dict[bytes, list[_Entry[R]]] = {}
        self._prefixes: dict[bytes, list[_Entry[R]]] = {}
        self._max_segments = 0
        self._max_prefix = 0
        self._starts: dict[bytes, list[_Entry[R]]] = {}
        self._start_lengths: list[int] = []
        self._forks: Forks[_Entry[R]] | None = None
        self._has_others = False
        """Whether there are starts or templates, which are rarer than the rest."""
        self._rest: list[_Entry[R]] = []
        self.lowest: float = float("inf")

    def file(self, order: int, route: R, match: Match) -> None:
        """Add a match; to be called in file order."""
        self.lowest = min(self.lowest, order)
        path = match.path
        for one in (path,) if path is None or not path.alternatives else path.alternatives:
            if one is not None and one.is_plain and one.template is not None:
                if self._forks is None:
                    self._forks = Forks()
                    self._has_others = True
                self._forks.file(one.template, _Entry(order, route, match.conditions))
            elif one is None or not one.is_plain or one.kind not in ("exact", "prefix", "starts_with"):
                open_path = () if one is None else (path_condition(one),)
                self._rest.append(_Entry(order, route, (*open_path, *match.conditions)))
            else:
                self._shelf(one).append(_Entry(order, route, match.conditions))

    def _shelf(self, path: PathMatcher) -> list[_Entry[R]]:
        value = path.value
        if path.kind == "exact":
            return self._exact.setdefault(value, [])
        if path.kind == "prefix":
            self._max_segments = max(self._max_segments, value.count(b"/"))
            self._max_prefix = max(self._max_prefix, len(value))
            return self._prefixes.setdefault(value, [])
        self._start_lengths = sorted({*self._start_lengths, len(value)})
        self._has_others = True
        return self._starts.setdefault(value, [])

    def dismantle(self) -> Iterator[None]:
        """As `Table.dismantle`."""
        self.lowest = float("inf")
        for shelves in (self._exact, self._prefixes, self._starts):
            while shelves:
                yield from _emptied(shelves.popitem()[1])
        if self._forks is not None:
            yield from self._forks.dismantle()
        yield from _emptied(self._rest)

    def first(self, head: RequestHead, limit: int) -> _Entry[R] | None:
        """The matching entry of the lowest order below `limit`, or None."""
        best: _Entry[R] | None = None
        path = head.path
        if self._exact:
            entries = self._exact.get(path)
            if entries is not None:
                best = _scan(entries, head, limit)
                if best is not None:
                    limit = best.order
        if self._prefixes and path[:1] == b"/":
            for entries in self._prefixes_of(path):
                found = _scan(entries, head, limit)
                if found is not None:
                    best, limit = found, found.order
        if self._has_others:
            found = self._first_of_others(head, limit)
            if found is not None:
                best, limit = found, found.order
        if self._rest and self._rest[0].order < limit:
            best = _scan(self._rest, head, limit) or best
        return best

    def _first_of_others(self, head: RequestHead, limit: int) -> _Entry[R] | None:
        """As `first`, of starts and templates."""
        best: _Entry[R] | None = None
        path = head.path
        for length in self._start_lengths:
            entries = self._starts.get(path[:length])
            if entries is not None:
                found = _scan(entries, head, limit)
                if found is not None:
                    best, limit = found, found.order
        if self._forks is not None:
            for entries in self._forks.lists_of(path, limit):
                found = _scan(entries, head, limit)
                if found is not None:
                    best, limit = found, found.order
        return best

    def _prefixes_of(self, path: bytes) -> list[list[_Entry[R]]]:
        """
        Lists of the prefixes that end where a segment of the path ends.

        Looks no deeper than the deepest prefix and no further than the longest, so that a path of thirty thousand
        slashes costs no more than another.
        """
        prefixes = self._prefixes
        found = []
        end, longest = -1, self._max_prefix
        # One `split` costs less than `find` for each slash; what is left of a deeper path is no prefix of anything.
        for segment in path[: longest + 1].split(b"/", self._max_segments + 1):
            end += len(segment) + 1
            if end > longest:
                break
            entries = prefixes.get(path[:end])
            if entries is not None:
                found.append(entries)
        return found


def _scan(entries: list[_Entry[R]], head: RequestHead, limit: int) -> _Entry[R] | None:
    """The first entry below `limit` whose open questions all say yes."""
    for entry in entries:
        if entry.order >= limit:
            return None
        for check in entry.checks:
            if not check(head):
                break
        else:
            return entry
    return None


def _emptied(entries: list[_Entry[R]]) -> Iterator[None]:
    while entries:
        entries.pop()
        yield
