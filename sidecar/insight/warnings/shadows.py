"""
Routes that never get what they ask for, wholly or in part, because the first that matches wins. *Cold, pure.*

A route is dead if each of its matches, for each of its hosts and methods, asks for no more than one earlier match
does. That is certain: a request that it took would have been taken before.

That an earlier route takes a part of what a later one asks for is how files are written: the special case first, by a
cookie, a method or a longer path, then the rest. So a part is told of only where the later route asks for something
**more precisely** than the earlier one: a longer path, a host below the earlier one's wildcard, a value of which the
earlier one asks less. Elsewhere, in Envoy's virtual hosts, nginx, the Gateway API, the more precise would win. Where
one asks how a path or value begins and the other how it ends, neither is more precise; of each earlier route
that is told once. It is told only with a request that the data path's own code was seen to give to the earlier route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.insight.warnings.example import Example, example_of
from sidecar.insight.warnings.filed import Asked, Filed, asked_by
from sidecar.insight.warnings.questions import (
    Question,
    do_cross,
    path_includes,
    patterns_above,
    question_of,
    question_of_path,
    value_includes,
)
from sidecar.routing.actions import Route
from sidecar.routing.match import Condition, Match, split_pattern
from sidecar.routing.matchers import PathMatcher
from sidecar.routing.table import Table

_EVERYTHING: Final = Match()
_EVERY_HOST: Final = b"*"
_MOST_EXAMPLES: Final = 8
"""Requests that are made up for one match before it is given up."""
_ANY_IP: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Shadow:
    """
    What a route does not get.

    Attributes:
        order: Of the route.
        match: Which of its matches, if it is not the route as a whole.
        is_whole: It gets nothing of this; else a part is missing.
        by: Routes that take it before, by their order.
        example: Such a request, which the first of these takes; a whole one may be without.
    """

    order: int
    match: int | None
    is_whole: bool
    by: tuple[int, ...]
    example: Example | None


def shadows_of(table: Table[Route], explicit: int) -> list[Shadow]:
    """
    What routes of a direction do not get, in the order of the file; at most one for a route or match.

    Args:
        table: What live traffic asks.
        explicit: So many of its routes are written in the file; implicit ones come after them, and are asked, too, for
            whether they are dead.
    """
    return list(_Search(table, explicit).all())


class _Search:
    """Goes through the routes of a table, each compared with those before it."""

    def __init__(self, table: Table[Route], explicit: int) -> None:
        self._table = table
        self._explicit = explicit
        self._order = {route: order for order, route in enumerate(table.routes)}
        self._filed = Filed()
        self._crossing: set[int] = set()

    def all(self) -> Iterator[Shadow]:
        for order, route in enumerate(self._table.routes):
            matches = route.matches or (_EVERYTHING,)
            asking = [asked_by(order, index, match) for index, match in enumerate(matches)]
            takers = [self._takers(asked) for asked in asking]
            if all(takers):
                together = tuple(sorted({one for some in takers for one in some or ()}))
                yield Shadow(order, None, True, *self._told(together, asking[0]))
                continue
            if order >= self._explicit:
                continue
            partly = None
            for asked, some in zip(asking, takers, strict=True):
                if some:
                    yield Shadow(order, asked.index, True, *self._told(some, asked))
                else:
                    partly = partly or self._partly(asked)
                    self._filed.add(asked)
            if partly is not None:
                yield partly

    def _told(self, by: tuple[int, ...], asked: Asked) -> tuple[tuple[int, ...], Example | None]:
        """Who takes it, first the one that takes the example."""
        example = example_of(asked, asked.hosts[0])
        if example is None:
            return by, None
        taker = self._taker(example)
        if taker is None or taker >= asked.order:  # a guess that missed what was meant; `by` is certain without it
            return by, None
        return (taker, *(one for one in by if one != taker)), example

    def _taker(self, example: Example) -> int | None:
        found = self._table.find(example.head, _ANY_IP)
        return None if found is None else self._order[found]

    def _takers(self, asked: Asked) -> tuple[int, ...]:
        """Earlier routes that take all of a match together, or none."""
        found: set[int] = set()
        for host in asked.hosts:
            for method in asked.methods or (None,):
                taking = [
                    one.order
                    for one in self._filed.that_may_include(asked, host)
                    if one.order < asked.order and _includes(one, asked, host, method)
                ]
                if not taking:
                    return ()
                found.add(min(taking))
        return tuple(sorted(found))

    def _partly(self, asked: Asked) -> Shadow | None:
        tried = 0
        for host in asked.hosts:
            for one in _in_order(self._filed.that_may_meet(asked, host)):
                if one.order >= asked.order or not _can_meet(one, asked):
                    continue
                is_less = _asks_less(one, asked, host)
                if not is_less and (one.order in self._crossing or not _asks_across(one, asked)):
                    continue
                example = example_of(asked, host, one)
                if example is not None and self._taker(example) == one.order:
                    if not is_less:
                        self._crossing.add(one.order)
                    index = asked.index if len(self._table.routes[asked.order].matches) > 1 else None
                    return Shadow(asked.order, index, False, (one.order,), example)
                tried += 1
                if tried == _MOST_EXAMPLES:
                    return None
        return None


def _in_order(found: Iterable[Asked]) -> list[Asked]:
    return sorted(dict.fromkeys(found), key=lambda one: (one.order, one.index))


def _includes(wide: Asked, narrow: Asked, host: bytes, method: str | None) -> bool:
    """Whether the one takes all that the other asks for of a host and a method; None is any method."""
    if wide.methods and method not in wide.methods:
        return False
    for part, (condition, _) in wide.conditions.items():
        other = narrow.conditions.get(part)
        if other is None or not value_includes(condition, other[0]):
            return False
    return path_includes(wide.path, narrow.path) and _has_host(wide, host)


def _has_host(asked: Asked, host: bytes) -> bool:
    """Whether one of the patterns has every host of this one: the same, one above it, or all, for its port or any."""
    name, port = split_pattern(host)
    for pattern in (name, *patterns_above(name), _EVERY_HOST):
        if pattern in asked.patterns or (port is not None and b"%b:%d" % (pattern, port) in asked.patterns):
            return True
    return False


def _can_meet(one: Asked, other: Asked) -> bool:
    """Whether nothing that is easily seen keeps all requests from being of both."""
    if one.methods and other.methods and not set(one.methods) & set(other.methods):
        return False
    for part, (condition, question) in one.conditions.items():
        there = other.conditions.get(part)
        if there is None:
            continue
        if question.is_one_value and there[1].is_one_value and question.value != there[1].value:
            return False
        if condition != there[0] and "absent" in (question.kind, there[1].kind):
            return False
    return True


def _asks_less(earlier: Asked, later: Asked, host: bytes) -> bool:
    """Whether the later asks for something more precisely of which the earlier asks, too."""
    if any(pattern in earlier.names for pattern in patterns_above(split_pattern(host)[0])):
        return True
    one, other = earlier.path, later.path
    is_asked = one is not None and other is not None and not _is_any_path(one)
    if is_asked and path_includes(one, other) and not path_includes(other, one):
        return True
    return any(
        value_includes(condition, there[0]) and not value_includes(there[0], condition)
        for condition, there in _both(earlier, later)
    )


def _asks_across(earlier: Asked, later: Asked) -> bool:
    """Whether one asks how a path or value begins, and the other how it ends."""
    one, other = earlier.path, later.path
    if one is not None and other is not None and not _is_any_path(one) and not _is_any_path(other):
        is_across = do_cross(question_of_path(one), question_of_path(other))
    else:
        is_across = False
    return is_across or any(do_cross(question_of(condition), there[1]) for condition, there in _both(earlier, later))


def _both(one: Asked, other: Asked) -> Iterator[tuple[Condition, tuple[Condition, Question]]]:
    """What both ask of the same header, cookie or parameter."""
    for part, (condition, _) in one.conditions.items():
        there = other.conditions.get(part)
        if there is not None:
            yield condition, there


def _is_any_path(path: PathMatcher) -> bool:
    """Whether it asks for nothing, as `prefix: /` does."""
    return not path.is_inverted and (
        (path.kind == "prefix" and not path.value)
        or (path.kind == "starts_with" and path.value == b"/")
        or (path.kind == "regex" and path.value in (b".*", b"/.*", b"^.*$", b"^/.*$"))
    )
