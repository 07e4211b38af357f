"""Each route of a side, and the first question of each that a request did not meet. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.compile.matches import shown
from sidecar.compile.time_slices import Steps
from sidecar.insight.walk import Walk
from sidecar.message import RequestHead
from sidecar.redact import HIDDEN, Secrets, is_sensitive
from sidecar.routing.actions import Route
from sidecar.routing.cookies import cookie
from sidecar.routing.match import Match
from sidecar.routing.query import param

TAKEN, MISSED, LATER = "taken", "missed", "matches, comes later"

MANY = 50
"""Above so many routes, those in a row that fail the same question are told as one."""


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
    What became of a route, or of several in a row that are told as one.

    Attributes:
        index: Of the first, in the order in which they are asked.
        count: How many.
        name: Of the one, or of the first and the last.
        position: `file:line` of the first; empty for a route that stands nowhere.
        result: `TAKEN`, `MISSED` or `LATER`.
        matches: Of a route that was missed, a `Miss` for each of its matches; of several, of the first.
    """

    index: int
    count: int
    name: str
    position: str
    result: str
    matches: tuple[Miss, ...] = ()


def look_at_routes(walked: Walk, file: str, secrets: Secrets, *, is_whole: bool) -> Steps[list[Look]]:
    """
    All routes of a request's side in order.

    Args:
        file: In which they stand.
        secrets: What is not shown.
        is_whole: Each is told by itself, however many there are.
    """
    found: list[Look] = []
    routes = walked.side.table.routes
    is_folded = not is_whole and len(routes) > MANY
    for index, route in enumerate(routes):
        misses = _misses(route, walked.head, secrets)
        if misses is None:
            result = TAKEN if route is walked.found else LATER
        else:
            result = MISSED
        position = f"{file}:{route.line}" if route.line else ""
        look = Look(index, 1, route.name, position, result, tuple(misses or ()))
        last = found[-1] if found else None
        if is_folded and last is not None and _is_alike(last, look):
            name = f"{last.name.partition(' … ')[0]} … {route.name}"
            found[-1] = Look(last.index, last.count + 1, name, last.position, MISSED, last.matches)
        else:
            found.append(look)
        yield
    return found


def _is_alike(one: Look, other: Look) -> bool:
    """Whether both were missed for the same question, once each."""
    if one.result != MISSED or other.result != MISSED or len(one.matches) != len(other.matches) != 1:
        return False
    return one.matches[0].part == other.matches[0].part


def _misses(route: Route, head: RequestHead, secrets: Secrets) -> list[Miss] | None:
    """Of each match the first question that is not met; None: one of them matches."""
    found: list[Miss] = []
    for match in route.matches:
        miss = _miss(match, head, secrets)
        if miss is None:
            return None
        found.append(miss)
    return found or None


def _miss(match: Match, head: RequestHead, secrets: Secrets) -> Miss | None:
    for condition in match.parts():
        if not condition.test(head):
            return Miss(condition.part, shown(condition, secrets), seen(condition.part, head, secrets))
    return None


def seen(part: str, head: RequestHead, secrets: Secrets) -> str | None:
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
    return HIDDEN if name and is_sensitive(name) else secrets.hide(text_of(value))


def text_of(octets: bytes) -> str:
    """Octets of a request as text."""
    return octets.decode("utf-8", "backslashreplace")
