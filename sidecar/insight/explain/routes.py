"""Each route of a side, and the first question of each that a request did not meet. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sidecar.admin.recent import text_of
from sidecar.compile.matches import shown
from sidecar.compile.time_slices import Steps
from sidecar.insight.explain.veil import Veil
from sidecar.insight.walk import Walk
from sidecar.message import RequestHead
from sidecar.redact import HIDDEN
from sidecar.routing.actions import Route
from sidecar.routing.cookies import cookie
from sidecar.routing.query import param

TAKEN, MISSED, LATER = "taken", "missed", "matches, comes later"

MANY = 50
"""Above so many routes, those that are missed in a row are told as one."""

FEW = 4
"""Fewer in a row than that are told one by one all the same."""


@dataclass(frozen=True, slots=True)
class Miss:
    """
    The first question of a match that a request did not meet.

    Attributes:
        part: What was asked about, as `Condition.part`.
        expected: What would have met it.
        found: What the request has; None: nothing.
    """

    part: str
    expected: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """
    What became of a route, or of several in a row that were missed and are told as one.

    Attributes:
        index: Of the first, in the order in which they are asked.
        count: How many.
        name: Of the one, or of the first and the last.
        position: `file:line` of the first; empty for a route that stands nowhere.
        result: `TAKEN`, `MISSED` or `LATER`.
        matches: Of a route that was missed, a `Miss` for each of its matches.
        missed_at: Of several, how many were missed first at which question.
    """

    index: int
    count: int
    name: str
    position: str
    result: str
    matches: tuple[Miss, ...] = ()
    missed_at: Mapping[str, int] | None = None


def look_at_routes(walked: Walk, file: str, veil: Veil, *, is_whole: bool) -> Steps[list[Look]]:
    """
    All routes of a request's side in order.

    Args:
        file: In which they stand.
        veil: What is not shown.
        is_whole: Each is told by itself, however many there are.
    """
    found: list[Look] = []
    routes, head = walked.side.table.routes, walked.head
    run = _Run() if not is_whole and len(routes) > MANY else None
    for index, route in enumerate(routes):
        missed = _missed(route, head)
        yield
        if missed and run is not None:
            run.add(index, missed[0])
            continue
        if run is not None:
            found += run.told(routes, file, head, veil)
        found.append(_look(index, route, missed, file, walked))
        if missed:
            found[-1] = _with_misses(found[-1], route, head, veil)
    if run is not None:
        found += run.told(routes, file, head, veil)
    return found


class _Run:
    """Routes in a row that were missed."""

    def __init__(self) -> None:
        self._first = self._last = -1
        self._parts: dict[str, int] = {}

    def add(self, index: int, part: str) -> None:
        """One more."""
        self._first = index if self._first < 0 else self._first
        self._last = index
        self._parts[part] = self._parts.get(part, 0) + 1

    def told(self, routes: Sequence[Route], file: str, head: RequestHead, veil: Veil) -> list[Look]:
        """The run, which begins anew: as it is, where it is short."""
        first, count, parts = self._first, self._last - self._first + 1, self._parts
        self._first, self._last, self._parts = -1, -1, {}
        if first < 0:
            return []
        if count < FEW:
            told = routes[first : first + count]
            looks = [Look(at, 1, one.name, _position(one, file), MISSED) for at, one in enumerate(told, first)]
            return [_with_misses(look, one, head, veil) for look, one in zip(looks, told, strict=True)]
        name = f"{routes[first].name} … {routes[first + count - 1].name}"
        return [Look(first, count, name, _position(routes[first], file), MISSED, (), parts)]


def _look(index: int, route: Route, missed: list[str] | None, file: str, walked: Walk) -> Look:
    result = MISSED if missed else TAKEN if route is walked.found else LATER
    return Look(index, 1, route.name, _position(route, file), result)


def _with_misses(look: Look, route: Route, head: RequestHead, veil: Veil) -> Look:
    misses: list[Miss] = []
    for match in route.matches:
        part = match.missed(head)
        misses += [
            Miss(part, shown(one, veil.secrets), seen(part, head, veil)) for one in match.parts() if one.part == part
        ]
    return replace(look, matches=tuple(misses))


def _missed(route: Route, head: RequestHead) -> list[str] | None:
    """Of each match the part of the first question that is not met; None: one of them matches."""
    found: list[str] = []
    for match in route.matches:
        missed = match.missed(head)
        if missed is None:
            return None
        found.append(missed)
    return found or None


def _position(route: Route, file: str) -> str:
    return f"{file}:{route.line}" if route.line else ""


def seen(part: str, head: RequestHead, veil: Veil) -> str | None:
    """
    What a request has where a question looks, for people; None for nothing.

    Args:
        part: As `Condition.part` says it.
    """
    kind, _, name = part.partition(" ")
    value: bytes | None
    if kind == "host":
        value = head.host if head.port is None else b"%b:%d" % (head.host, head.port)
    elif kind == "path":
        value = head.path
    elif kind == "methods":
        value = head.method
    elif kind == "header":
        value = head.joined(name.encode())
    elif kind == "cookie":
        value = cookie(head, name.encode())
    else:
        value = param(head, name.encode())
    if value is None:
        return None
    return HIDDEN if veil.covers(part) else veil.secrets.hide(text_of(value))
