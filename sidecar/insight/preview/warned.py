"""What a check would warn of in another file, and not in the one that is in force. *Cold, pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from sidecar.compile.frames import Header
from sidecar.config.problems import Problem
from sidecar.insight.warnings.shadows import shadows_of
from sidecar.proxy.plan import Plan, Side

_PLACE: Final = re.compile(r"^\S*?:\d+:\d+: ")
_ROUTE: Final = re.compile(r"(inbound|outbound)\.routes\[(\d+)\]")


def new_warnings(was: Header, header: Header, live: Plan, new: Plan, found: Iterable[Problem]) -> list[str]:
    """
    Lines, each with its place in the new file.

    Args:
        was: Of the configuration in force, which knows of what it was warned.
        header: Of the new one.
        live: The plan in force; new: the other.
        found: What the new plan is warned of (`insight.warnings.warnings_of`).
    """
    known = {_PLACE.sub("", warning) for warning in was.warnings}
    told = [warning for warning in header.warnings if _PLACE.sub("", warning) not in known]
    shadowed = set(_shadowed(live))
    return told + [str(one) for one in found if _about(one, new) not in shadowed]


def _shadowed(plan: Plan) -> Iterator[tuple[str, str]]:
    """Direction and name of each route that already gets nothing, or not all; an upstream's own route among them."""
    for side in plan.sides:
        routes = side.table.routes
        for shadow in shadows_of(side.table, _explicit(side)):
            yield side.direction.label, routes[shadow.order].name


def _about(warning: Problem, plan: Plan) -> tuple[str, str]:
    """Of which route a warning is: direction and name."""
    found = _ROUTE.match(warning.path)
    if found is None:
        return "outbound", warning.path.removeprefix("upstreams.")
    side = next(one for one in plan.sides if one.direction.label == found[1])
    return found[1], side.table.routes[int(found[2])].name


def _explicit(side: Side) -> int:
    """How many routes of a side are written in the file; the others come after them."""
    return sum(route.line > 0 for route in side.table.routes)
