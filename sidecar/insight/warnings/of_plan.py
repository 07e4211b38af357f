"""The warnings of a file that its compiled plan is needed for: `warnings_of`. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingLike
from typing import Final

from sidecar.config.load import Loaded
from sidecar.config.problems import Problem
from sidecar.config.warnings.ignored import not_ignored
from sidecar.config.warnings.upstreams import is_told, named_by_routes
from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence
from sidecar.config.yaml.places import Location, locate
from sidecar.exchange import Direction
from sidecar.insight.warnings.shadows import Shadow, shadows_of
from sidecar.proxy.plan import Plan, Side
from sidecar.routing.actions import Route

_MOST_NAMED: Final = 3
"""Routes that are named in one line."""
_SHORTEST_HIDDEN: Final = 4
"""Of what a variable holds; `1` and `true` are in every example, and say nothing."""


def warnings_of(loaded: Loaded, plan: Plan) -> list[Problem]:
    """
    What is hardly meant, of all that the plan is needed to see: at the places of the file, in its order.

    Args:
        loaded: The file, whose own warnings (`Loaded.warnings`) are not repeated.
        plan: What was compiled of it (`dry_plan`); nothing is said of a local file of a sidecar in a mesh.
    """
    if not loaded.is_whole:
        return []
    found = [one for side in plan.sides for one in _Told(loaded, side).all()]
    return sorted(set(not_ignored(found, loaded.ignored)))


class _Told:
    """The warnings of a side, in words."""

    def __init__(self, loaded: Loaded, side: Side) -> None:
        self._loaded = loaded
        self._side = side
        config = loaded.config
        settings = config.inbound if side.direction is Direction.INBOUND else config.outbound
        self._explicit = len(settings.routes) if settings is not None else 0
        self._variables = _variables(loaded.root) if self._explicit else {}

    def all(self) -> Iterator[Problem]:
        dead: dict[Route, Shadow] = {}
        of_streams = set(self._side.streams.names.routes) if self._side.streams is not None else set()
        routes = self._side.table.routes
        for shadow in shadows_of(self._side.table, self._explicit):
            if shadow.order >= self._explicit:
                dead[routes[shadow.order]] = shadow
            elif routes[shadow.order] not in of_streams:  # they take connections as well, which others do not
                yield self._of_route(shadow)
        yield from self._of_upstreams(dead)

    def _of_route(self, shadow: Shadow) -> Problem:
        at: Location = (self._side.direction.label, "routes", shadow.order)
        what = "this route"
        if shadow.match is not None:
            at, what = (*at, "match", shadow.match), "this match"
        example = f", such as `{self._hidden(shadow.example.text)}`" if shadow.example is not None else ""
        by = self._named(shadow.by)
        first = f"`{self._side.table.routes[shadow.by[0]].name}`"
        if not shadow.is_whole:
            message = f"a part of what {what} asks for goes to {by}{example}"
            hint = f"put it before {first} if it is meant for that, too"
            return self._loaded.warning_at(at, message, hint, rule="route-shadowed")
        verb = "takes" if len(shadow.by) == 1 else "take"
        message = f"no request takes {what}: {by} {verb} all of it before{example}"
        if shadow.match is not None:
            return self._loaded.warning_at(at, message, "remove it, or put its route first", rule="route-shadowed")
        return self._loaded.warning_at(at, message, f"put it before {first}, or remove it", rule="route-never-matches")

    def _named(self, orders: tuple[int, ...]) -> str:
        names = [self._name(order) for order in orders[:_MOST_NAMED]]
        if len(orders) > _MOST_NAMED:
            names.append(f"{len(orders) - _MOST_NAMED} more")
        return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"

    def _name(self, order: int) -> str:
        route: Route = self._side.table.routes[order]
        mark = locate(self._loaded.root, (self._side.direction.label, "routes", order)).mark
        where = f"line {mark.line}" if mark.file == self._loaded.root.file else f"{mark.file}:{mark.line}"
        return f"`{route.name}` ({where})"

    def _of_upstreams(self, dead: MappingLike[Route, Shadow]) -> Iterator[Problem]:
        """Upstreams whose hosts earlier routes take, and that no route names."""
        config = self._loaded.config
        if self._side.streams is not None or config.capture is not None:
            return
        named = {*named_by_routes(config), *(name for name, one in config.upstreams.items() if is_told(one))}
        implicit: dict[str, list[Route]] = {}
        for route in self._side.table.routes[self._explicit :]:
            implicit.setdefault(route.name, []).append(route)
        for name, own in implicit.items():
            if name not in named and all(route in dead for route in own):
                by = tuple(dict.fromkeys(order for route in own for order in dead[route].by))
                verb = "takes" if len(by) == 1 else "take"
                message = f"no request comes here: {self._named(by)} {verb} all for its hosts, and no route names it"
                hint = "name it in a route, or remove it"
                at = ("upstreams", name)
                yield self._loaded.warning_at(at, message, hint, rule="upstream-unused", at_key=True)

    def _hidden(self, text: str) -> str:
        """What variables hold, as it is written."""
        for value, written in self._variables.items():
            text = text.replace(value, written)
        return text


def _variables(root: Node) -> dict[str, str]:
    """What values with variables in them became, the longest first, and as they are written."""
    found: dict[str, str] = {}
    waiting: list[Node] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            waiting += (value for _, value in node.entries.values())
        elif isinstance(node, Sequence):
            waiting += node.items
        elif isinstance(node, Scalar) and node.written is not None and len(node.text) >= _SHORTEST_HIDDEN:
            found[node.text] = node.written
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))
